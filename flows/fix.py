"""Correct the texts of questions and make one patch release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flows import engine as steps
from flows.evaluate import release_ref
from flows.lazy_flow import lazy_flow
from flows.options import takes
from flows.outputs import check_releases_folder
from flows.workspace import Workspace, open_workspace
from schemas.errors import InputError
from schemas.options import FixOptions
from schemas.question import Erratum
from schemas.recipe import Recipe
from schemas.release import CorrectedTreatment, Manifest, ReleaseComparison
from schemas.tables import content_hash
from tasks.gate import raise_if_failed, read_suite_results, read_validation, write_data_docs
from tasks.mend import Correction, read_corrections, write_errata_of
from tasks.package import Findings, Provenance
from tasks.release import find_last_release, open_release, read_errata
from tasks.release.measuring import recorded_recipe
from tasks.run.ledger import BuildLedger
from tasks.run.paths import inside
from tasks.run.store import RunContext, Step, run_lock


@lazy_flow("fix")
@takes(FixOptions)
def fix(options: FixOptions) -> dict[str, Any]:
    """Replace the texts of questions and release the result as the next patch version.

    Answers to the old texts and verdicts on them are removed. The next build asks the corrected questions.
    """
    workspace = open_workspace().with_attributes(options.release)
    before = open_release(options.release)
    releases = options.out or before.path.resolve().parent.parent
    check_releases_folder(releases)
    errata = write_errata_of(
        before.contents, before.manifest.version, corrections_of(options), workspace.vocabulary
    )
    refuse_overtaken(releases, before.manifest)
    # Only measurements of the release are recorded again. No stage of a fix opens a model or spends anything.
    context = workspace.context(recipe_of(before.manifest), budget_usd=0.0).model_copy(
        update={"run_dir": str(run_place(workspace, before.manifest, errata))}
    )
    treatment = before.manifest.review.treatment if before.manifest.review else ()
    with run_lock(Path(context.run_dir)):
        mended = mend_release(context, before.path, errata, treatment)
        version = mended.comparison.new_version
        if version != errata[0].changed_in:  # more than a text changed
            errata = [erratum.model_copy(update={"changed_in": version}) for erratum in errata]
            mended = mend_release(context, before.path, errata, treatment)
        all_errata = (*read_errata(before.path), *errata)
        provenance = Provenance(
            comparison=mended.comparison,
            previous=release_ref(before.path),
            vocabulary=before.manifest.vocabulary,
            counts=mended.ledger.funnel(),
            passports=before.manifest.passports,
            errata=all_errata,
            parameter_changes=before.manifest.parameter_changes,
        )
        place = steps.package(
            context,
            mended.assembled.tables,
            provenance,
            Findings.again(before.manifest, read_validation(mended.checked)),
            releases=releases,
            write_data_docs=partial(write_data_docs, read_suite_results(mended.checked)),
        )
    return {
        "release": str(place),
        "version": place.name,
        "fixed": len(errata),
        **({"question": errata[0].question_id, "mended": errata[0].mended_id} if len(errata) == 1 else {}),
        "corrections": [{"question": e.question_id, "mended": e.mended_id} for e in errata],
        "errata": len(all_errata),
    }


def corrections_of(options: FixOptions) -> list[Correction]:
    """Return the corrections of the file, or the one on the command line."""
    if options.corrections is not None:
        return read_corrections(options.corrections)
    return [Correction(options.question_id or "", options.text or "", options.reason or "")]


@dataclass(frozen=True)
class MendedRelease:
    """The corrected tables of a release, checked and compared with the release."""

    ledger: BuildLedger
    assembled: Step
    checked: Step
    comparison: ReleaseComparison


def mend_release(
    context: RunContext,
    release: Path,
    errata: Sequence[Erratum],
    treatment: Sequence[CorrectedTreatment] = (),
) -> MendedRelease:
    """Open a release, correct its texts, and measure, assemble, check and compare the result.

    Args:
        context: The run.
        release: The release.
        errata: Corrections of its texts.
        treatment: Its effects of judges that are corrected with people's scores. They are kept.
    """
    ledger = BuildLedger()
    opened = ledger.add(steps.reopen(context, release=release_ref(release), errata=list(errata)))
    mended = ledger.add(steps.mend(context, questions=opened.table("questions"), errata=list(errata)))
    measured = ledger.add(
        steps.measure(
            context,
            questions=mended.table("questions"),
            responses=opened.table("responses"),
            judgements=opened.table("judgements"),
            **({"treatment": list(treatment)} if treatment else {}),
        )
    )
    assembled = ledger.add(
        steps.assemble(
            context,
            generated=[mended.table("questions")],
            questions=measured.table("questions"),
            responses=[opened.table("responses")],
            judgements=[opened.table("judgements")],
            label_history=[opened.table("label_history")],
            dropped=[opened.table("dropped"), mended.table("dropped")],
            effects=measured.table("effects"),
        )
    )
    checked = steps.validate(
        context,
        **{ref.table: ref for ref in assembled.tables},
        generated=[mended.table("questions")],
        counts=ledger.funnel(),
    )
    raise_if_failed(read_validation(checked), checked.table("failing_rows").path)
    compared = steps.compare(context, assembled=assembled.tables, previous=release_ref(release))
    ledger.add(checked)
    return MendedRelease(ledger, assembled, checked, compared.read_notes(ReleaseComparison))


def recipe_of(manifest: Manifest) -> Recipe:
    """Return the recipe of a release without its version, because the changes decide the new one."""
    recipe = recorded_recipe(manifest)
    return recipe.model_copy(update={"release": recipe.release.model_copy(update={"version": None})})


def refuse_overtaken(releases: Path, manifest: Manifest) -> None:
    """Raise `InputError` if a later release exists."""
    newest = find_last_release(releases, manifest.name)
    if newest is not None and Path(newest.path).name != manifest.version:
        raise InputError(
            f"{manifest.name} {manifest.version} is not the last release",
            place=newest.path,
            hint="fix the last release",
        )


def run_place(workspace: Workspace, manifest: Manifest, errata: Sequence[Erratum]) -> Path:
    """Return the run directory of a fix."""
    mended = [erratum.mended_id for erratum in errata]
    key = content_hash([manifest.recipe_hash, manifest.version, *mended])[:12]
    return inside(workspace.runs, f"{manifest.name}-{manifest.version}-fix-{key}")
