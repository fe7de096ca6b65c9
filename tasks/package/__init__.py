"""Package a release: write its directory completely or not at all."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path

from schemas.answers import JUDGEMENTS, RESPONSES
from schemas.errors import GateError
from schemas.gate import Passport, Quarantine, Validation
from schemas.labels import DROPPED, StageCounts, check_reconciled
from schemas.notes import MaterialTopic
from schemas.question import QUESTIONS, Erratum
from schemas.recipe import Recipe
from schemas.release import (
    ClearOf,
    HoldBack,
    Manifest,
    NearMiss,
    ParameterChange,
    PeopleReview,
    RelabelledPassage,
    ReleaseComparison,
    StageCost,
)
from schemas.tables import content_hash, file_hash
from tasks.files.own_vocabulary import FOLDER, own_attribute_files
from tasks.package.card import FIGURE, write_card, write_changelog
from tasks.package.harness import harness_files
from tasks.package.lifecycle import version_history, with_lifecycle
from tasks.release import (
    CONTROLS,
    MANIFEST,
    MANIFEST_HASH,
    QUESTION_CONFIGS,
    Contents,
    ReleaseRef,
    config_file,
    count_shards,
    derive_canary,
    open_release,
    read_contents,
    render_canary_page,
    to_release_table,
    write_errata,
    write_shards,
)
from tasks.release.fitness import FLOOR_CONTROLS, count_drop_reasons, select_fitness_form
from tasks.report import report_data, view_release, write_report
from tasks.report.cells import (
    COMBINATIONS_FILE,
    COVERAGE_FILE,
    release_cells,
    release_combinations,
    write_cells,
    write_combinations,
)
from tasks.report.pictures import contrast_png
from tasks.run.store import RunContext, TableRef, rename_directory, sync_tree
from tasks.stats.fitness import FORMS
from tasks.text.printable import strip_controls

MATERIAL = "material.jsonl"
"""File of a release with the topics that were made of material, their dates and sources."""


@dataclass(frozen=True)
class Provenance:
    """How a release was made."""

    comparison: ReleaseComparison
    """Comparison with the previous release, and the new version."""
    previous: ReleaseRef | None
    vocabulary: Mapping[str, str]
    """sha256 of every file under data/ that was read, by relative path."""
    counts: Sequence[StageCounts]
    costs: Sequence[StageCost] = ()
    planned: Sequence[StageCost] = ()
    """Estimated costs."""
    passports: Sequence[Passport] = ()
    errata: Sequence[Erratum] = ()
    material: Sequence[MaterialTopic] = ()
    """Topics that a model made of the recipe's material."""
    parameter_changes: Sequence[ParameterChange] = ()


@dataclass(frozen=True)
class Findings:
    """Results of checks, comparisons and reviews that a release reports."""

    validation: Validation
    clear_of: Sequence[ClearOf] = ()
    near_misses: Sequence[NearMiss] = ()
    passages: Sequence[RelabelledPassage] = ()
    hold_back: HoldBack | None = None
    quarantine: Quarantine | None = None
    review: PeopleReview | None = None

    @classmethod
    def again(cls, manifest: Manifest, validation: Validation) -> Findings:
        """Return the findings of an earlier release with a new validation."""
        return cls(
            validation=validation,
            clear_of=manifest.clear_of,
            near_misses=manifest.near_misses,
            passages=manifest.passages,
            hold_back=manifest.hold_back,
            quarantine=manifest.quarantine,
            review=manifest.review,
        )


def package(
    context: RunContext,
    assembled: Sequence[TableRef],
    provenance: Provenance,
    findings: Findings,
    *,
    releases: Path,
    write_data_docs: Callable[[Path], object] | None = None,
) -> Path:
    """Write `releases/<name>/<version>/` and return it.

    Args:
        context: Context of the run.
        assembled: Tables of the release.
        provenance: How the release was made.
        findings: Results that it reports.
        releases: Folder of all releases.
        write_data_docs: Writes the directory `validation/` of the release.

    Returns:
        The directory of the release. If nothing changed, it is the previous release.

    Raises:
        GateError: If the release is not valid, or another release has the same version.
    """
    contents = read_contents(assembled)
    refuse_unfit(contents, findings.validation, provenance.counts)
    comparison, previous = provenance.comparison, provenance.previous
    last = open_release(Path(previous.path)) if previous is not None else None
    if last is not None and comparison.new_version == comparison.old_version:
        return last.path
    contents = with_lifecycle(contents, last, comparison.new_version)
    home = releases / context.recipe.name / comparison.new_version
    home.parent.mkdir(parents=True, exist_ok=True)
    temporary = home.parent / f".{home.name}.{secrets.token_hex(4)}"
    try:
        temporary.mkdir()
        manifest = draft_manifest(context.recipe, contents, provenance, findings)
        manifest = manifest.model_copy(update={"history": version_history(last, manifest.version)})
        write_tables(temporary, contents, manifest.canary)
        write_pages(temporary, context, manifest, contents, previous)
        write_errata(temporary, provenance.errata)
        write_material(temporary, provenance.material)
        write_attributes(temporary, Path(context.data_dir), contents)
        if write_data_docs is not None:
            write_data_docs(temporary / "validation")
        write_manifest(temporary, manifest)
        return give_name(temporary, home)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_unfit(contents: Contents, validation: Validation, counts: Iterable[StageCounts]) -> None:
    """Raise `GateError` if counts do not add up, validation failed, or there is no question."""
    check_reconciled(counts)
    if not validation.passed:
        first = next((f for f in validation.findings if f.severity == "error"), None)
        raise GateError(
            f"validation found {validation.errors} error{'s' if validation.errors != 1 else ''}"
            + (f"; the first: {first.message}" if first else ""),
            place=first.table if first else None,
            hint="correct what the findings name and build again; finished steps are kept",
        )
    if not contents.count(QUESTIONS.name):
        reasons = count_drop_reasons(contents.rows(DROPPED))[:3]
        lost = ", ".join(f"{rows:,} × {reason} ({stage})" for stage, reason, rows in reasons)
        raise GateError(
            f"no question is left to release{describe_verdicts(contents, counts)}",
            place=f"dropped: {lost}" if lost else None,
            hint="if the judges found nothing, see their passports (`counterfoil audit-judge`) and what they "
            "found in controls, or lower `evolve.save_threshold`; otherwise draw more questions. "
            "`counterfoil show` lists the dropped questions by stage",
        )


def describe_verdicts(contents: Contents, counts: Iterable[StageCounts]) -> str:
    """Return what the judges did, as the end of a sentence: verdicts, abstentions, and what they found."""
    judged = [c for c in counts if c.stage == "judge"]
    verdicts, abstained = sum(c.kept for c in judged), sum(c.failed for c in judged)
    if not verdicts + abstained:
        return ""
    given = f": judges gave {verdicts:,} verdicts, abstained in {abstained:,}, and accepted no question"
    form = select_fitness_form(contents.verdicts)
    lost = [json.loads(d.record).get("fitness") for d in contents.rows(DROPPED) if d.kind == "question"]
    fitness = [f for f in lost if f is not None]
    if form is None or not fitness:
        return given
    clean = FORMS[form].clean
    none = sum(f <= clean for f in fitness)
    zero = [
        q.fitness for q in contents.rows(CONTROLS) if q.control in FLOOR_CONTROLS and q.fitness is not None
    ]
    found = sum(f > clean for f in zero)
    return (
        f"{given}. They found no difference in {none:,} of {len(fitness):,} groups, and a difference in "
        f"{found:,} of {len(zero):,} controls, which have none"
    )


def draft_manifest(
    recipe: Recipe, contents: Contents, provenance: Provenance, findings: Findings
) -> Manifest:
    """Return the manifest without the hashes of the files."""
    as_json = recipe.model_dump(mode="json", by_alias=True)
    validation = findings.validation
    return Manifest(
        name=recipe.name,
        version=provenance.comparison.new_version,
        counterfoil_version=installed_version("counterfoil"),
        recipe=as_json,
        recipe_hash=content_hash(as_json),
        seed=recipe.seed,
        models=model_revisions(recipe, contents),
        parameter_changes=tuple(provenance.parameter_changes),
        vocabulary=dict(sorted(provenance.vocabulary.items())),
        counts=tuple(provenance.counts),
        rows={config: table.num_rows for config, table in contents.tables.items()},
        cost_estimated=tuple(provenance.planned),
        cost=tuple(provenance.costs),
        judged_by=tuple(sorted(name for (name,) in contents.distinct_rows(JUDGEMENTS.name, "judge"))),
        canary=derive_canary(recipe.name),
        comparison=provenance.comparison,
        validation={"passed": 1, "warnings": validation.warnings, "errors": validation.errors},
        passports=tuple(provenance.passports),
        clear_of=tuple(findings.clear_of),
        hold_back=findings.hold_back,
        warnings=tuple(f for f in validation.findings if f.severity == "warning"),
        quarantine=findings.quarantine,
        review=findings.review,
        near_misses=tuple(released_pairs(findings.near_misses, contents)),
        passages=tuple(findings.passages),
        files={},
    )


def released_pairs(pairs: Iterable[NearMiss], contents: Contents) -> list[NearMiss]:
    """Return the pairs of released questions. Pairs with a held-back question would reveal it."""
    public = {name for config in QUESTION_CONFIGS for (name,) in contents.distinct_rows(config, "id")}
    return [p for p in pairs if {p.question_id, p.other_id} <= public]


def model_revisions(recipe: Recipe, contents: Contents) -> dict[str, str | None]:
    """Return the revision of every model, as reported by its server.

    Several revisions are joined by commas. Names that are not models, such as `recombine`, `divergence` and
    `lexical`, are left out.
    """
    named = recipe.models
    models = {named.generator, *named.targets, *named.holdout_targets, *named.judges, *named.relabel_judges}
    revisions: dict[str, set[str]] = {name: set() for name in models}
    for config, column in ((RESPONSES.name, "model"), (JUDGEMENTS.name, "judge")):
        for name, revision in contents.distinct_rows(config, column, "revision"):
            revisions.setdefault(name, set()).update({revision} - {None})
    return {name: ", ".join(sorted(seen)) or None for name, seen in sorted(revisions.items()) if ":" in name}


def write_attributes(home: Path, data_dir: Path, contents: Contents) -> None:
    """Copy the attribute files that this program does not ship, so that others can ask the questions."""
    for name, path in own_attribute_files(data_dir, contents.rows(QUESTIONS)).items():
        target = home / FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def write_material(root: Path, topics: Sequence[MaterialTopic]) -> None:
    """Write the topics that were made of material, with their dates and sources, if there are any."""
    if topics:
        lines = "".join(f"{topic.model_dump_json()}\n" for topic in topics)
        (root / MATERIAL).write_text(lines, encoding="utf-8", newline="\n")


def write_tables(root: Path, contents: Contents, canary: str) -> None:
    """Write the Parquet files of every config."""
    for config, rows in contents.tables.items():
        write_shards(root, config, to_release_table(config, rows, canary))


def write_pages(
    root: Path, context: RunContext, manifest: Manifest, contents: Contents, previous: ReleaseRef | None
) -> None:
    """Write the card, the changelog, the canary page, the harness files and the report."""
    data_dir = Path(context.data_dir)
    earlier = Path(previous.path) / "CHANGELOG.md" if previous else None
    found = view_release(manifest, contents, data_dir)
    pages = {
        "README.md": write_card(context.recipe, manifest, contents, data_dir, found),
        "CHANGELOG.md": write_changelog(
            manifest.comparison, earlier.read_text(encoding="utf-8") if earlier else None
        ),
        "CANARY.md": render_canary_page(data_dir, manifest.name),
        COVERAGE_FILE: write_cells(release_cells(contents)),
    }
    if combinations := release_combinations(manifest, contents, data_dir):
        pages[COMBINATIONS_FILE] = write_combinations(combinations)
    harness = harness_files(context.recipe, manifest, contents, data_dir)
    pages |= {f"evals/{name}": text for name, text in harness.items()}
    for name, text in pages.items():
        (root / name).parent.mkdir(exist_ok=True)
        # Texts of a recipe may hold any character.
        shown = strip_controls(text) if name.endswith(".md") else text
        (root / name).write_text(shown, encoding="utf-8", newline="\n")
    if found.panels:
        (root / FIGURE).write_bytes(contrast_png(found.panels[0]))
    report = root / "report.html"
    write_report(report, report_data(manifest, contents, data_dir, found), data_dir)
    _name_all_shards(report, contents)


def _name_all_shards(report: Path, contents: Contents) -> None:
    """Let links lead to the folder, and queries read all files, of configs with several shards."""
    sharded = [config for config in contents.tables if count_shards(config, contents) > 1]
    if not sharded:
        return
    text = report.read_text(encoding="utf-8")
    for config in sharded:
        text = text.replace(f'href="{config_file(config)}"', f'href="data/{config}/"')
        text = text.replace(config_file(config), f"data/{config}/test-*.parquet")
    report.write_text(text, encoding="utf-8", newline="\n")


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write the manifest with the hashes of all other files. It is written last."""
    files = {
        path.relative_to(root).as_posix(): file_hash(path)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    complete = manifest.model_copy(update={"files": files})
    (root / MANIFEST).write_bytes(complete.model_dump_json(indent=1).encode() + b"\n")
    (root / MANIFEST_HASH).write_text(f"{file_hash(root / MANIFEST)}  {MANIFEST}\n", encoding="ascii")


def give_name(temporary: Path, home: Path) -> Path:
    """Sync a release and rename it. If an identical release exists, return that one.

    Raises:
        GateError: If a different release has this version.
    """
    if home.exists():
        manifest = home / MANIFEST
        if manifest.is_file() and manifest.read_bytes() == (temporary / MANIFEST).read_bytes():
            return open_release(home).path
        raise GateError(
            f"release {home.name} exists and is different",
            place=str(home),
            hint="a release is never changed: set a higher `release.version`, or leave it out",
        )
    sync_tree(temporary)
    rename_directory(temporary, home)
    return home
