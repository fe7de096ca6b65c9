"""Package: the tables become a release directory, whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

from schemas.answers import JUDGEMENTS, RESPONSES
from schemas.errors import GateError
from schemas.gate import Passport, Quarantine, Validation
from schemas.labels import StageCounts, check_reconciled
from schemas.question import QUESTIONS, Erratum
from schemas.recipe import Recipe
from schemas.release import (
    ClearOf,
    HoldBack,
    Manifest,
    NearMiss,
    PeopleReview,
    RelabelledPassage,
    ReleaseComparison,
    StageCost,
)
from schemas.tables import content_hash, file_hash
from tasks.package.card import write_card, write_changelog
from tasks.package.harness import harness_files
from tasks.release import (
    MANIFEST,
    QUESTION_CONFIGS,
    Contents,
    ReleaseRef,
    config_file,
    derive_canary,
    open_release,
    read_contents,
    render_canary_page,
    to_release_table,
    write_errata,
    write_parquet,
)
from tasks.report import report_data, write_report
from tasks.run.store import RunContext, TableRef, sync_directory


def package(
    context: RunContext,
    *,
    assembled: Sequence[TableRef],
    comparison: ReleaseComparison,
    validation: Validation,
    counts: Sequence[StageCounts],
    costs: Sequence[StageCost],
    planned: Sequence[StageCost],
    vocabulary: Mapping[str, str],
    previous: ReleaseRef | None,
    releases: Path,
    errata: Sequence[Erratum] = (),
    passports: Sequence[Passport] = (),
    clear_of: Sequence[ClearOf] = (),
    hold_back: HoldBack | None = None,
    quarantine: Quarantine | None = None,
    review: PeopleReview | None = None,
    near_misses: Sequence[NearMiss] = (),
    passages: Sequence[RelabelledPassage] = (),
    write_data_docs: Callable[[Path], object] | None = None,
) -> Path:
    """Write `releases/<name>/<version>/` and return it.

    `vocabulary`: files under data/ that were read, by sha256; `write_data_docs` fills the directory
    `validation/`. Where nothing changed since the last release, that one is returned. Raises `GateError`
    where the release may not be made, or where another one of that version is there already.
    """
    contents = read_contents(assembled)
    refuse_unfit(contents, validation, counts)
    if previous is not None and comparison.new_version == comparison.old_version:
        return open_release(Path(previous.path)).path
    home = releases / context.recipe.name / comparison.new_version
    home.parent.mkdir(parents=True, exist_ok=True)
    room = home.parent / f".{home.name}.{secrets.token_hex(4)}"
    try:
        room.mkdir()
        manifest = draft_manifest(
            context.recipe,
            contents,
            comparison,
            validation,
            counts=counts,
            costs=costs,
            planned=planned,
            vocabulary=vocabulary,
            passports=passports,
            clear_of=clear_of,
            hold_back=hold_back,
            quarantine=quarantine,
            review=review,
            near_misses=released_pairs(near_misses, contents),
            passages=passages,
        )
        write_tables(room, contents, manifest.canary)
        write_pages(room, context, manifest, contents, previous)
        write_errata(room, errata)
        if write_data_docs is not None:
            write_data_docs(room / "validation")
        write_manifest(room, manifest)
        return give_name(room, home)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def refuse_unfit(contents: Contents, validation: Validation, counts: Iterable[StageCounts]) -> None:
    """Raise `GateError` for rows that do not add up, failed validation, or nothing to release."""
    check_reconciled(counts)
    if not validation.passed:
        first = next((f for f in validation.findings if f.severity == "error"), None)
        raise GateError(
            f"validation found {validation.errors} error{'s' if validation.errors != 1 else ''}"
            + (f"; the first: {first.message}" if first else ""),
            place=first.table if first else None,
            hint="mend what the findings name and build again: finished steps are kept",
        )
    if not contents.count(QUESTIONS.name):
        raise GateError(
            "no question is left to release",
            hint="`counterfoil show` tells where they were dropped; ask more questions or evolve longer",
        )


def draft_manifest(
    recipe: Recipe,
    contents: Contents,
    comparison: ReleaseComparison,
    validation: Validation,
    *,
    counts: Sequence[StageCounts],
    costs: Sequence[StageCost],
    planned: Sequence[StageCost],
    vocabulary: Mapping[str, str],
    passports: Sequence[Passport],
    clear_of: Sequence[ClearOf],
    hold_back: HoldBack | None,
    quarantine: Quarantine | None,
    review: PeopleReview | None,
    near_misses: Sequence[NearMiss],
    passages: Sequence[RelabelledPassage],
) -> Manifest:
    """Everything but the files."""
    as_json = recipe.model_dump(mode="json", by_alias=True)
    return Manifest(
        name=recipe.name,
        version=comparison.new_version,
        counterfoil_version=installed_version("counterfoil"),
        recipe=as_json,
        recipe_hash=content_hash(as_json),
        seed=recipe.seed,
        models=model_revisions(recipe, contents),
        vocabulary=dict(sorted(vocabulary.items())),
        counts=tuple(counts),
        rows={config: table.num_rows for config, table in contents.tables.items()},
        cost_estimated=tuple(planned),
        cost=tuple(costs),
        judged_by=tuple(sorted({j["judge"] for j in contents.records(JUDGEMENTS.name)})),
        canary=derive_canary(recipe.name),
        comparison=comparison,
        validation={"passed": 1, "warnings": validation.warnings, "errors": validation.errors},
        passports=tuple(passports),
        clear_of=tuple(clear_of),
        hold_back=hold_back,
        warnings=tuple(f for f in validation.findings if f.severity == "warning"),
        quarantine=quarantine,
        review=review,
        near_misses=tuple(near_misses),
        passages=tuple(passages),
        files={},
    )


def released_pairs(pairs: Iterable[NearMiss], contents: Contents) -> list[NearMiss]:
    """Those of which both questions are released: of a question that is held back nothing is told."""
    public = {row["id"] for config in QUESTION_CONFIGS for row in contents.records(config)}
    return [p for p in pairs if {p.question_id, p.other_id} <= public]


def model_revisions(recipe: Recipe, contents: Contents) -> dict[str, str | None]:
    """Every model that took part, with what its server said it ran (several: all of them). Generators and
    judges that are no models (`recombine`, `divergence`, `lexical`) are left out."""
    named = recipe.models
    models = {named.generator, *named.targets, *named.holdout_targets, *named.judges, *named.relabel_judges}
    seen: dict[str, set[str]] = {name: set() for name in models}
    for config, column in ((RESPONSES.name, "model"), (JUDGEMENTS.name, "judge")):
        for row in contents.records(config):
            seen.setdefault(row[column], set()).update({row["revision"]} - {None})
    return {name: ", ".join(sorted(found)) or None for name, found in sorted(seen.items()) if ":" in name}


def write_tables(room: Path, contents: Contents, canary: str) -> None:
    """One Parquet file a config."""
    for config, rows in contents.tables.items():
        write_parquet(room / config_file(config), to_release_table(config, rows, canary))


def write_pages(
    room: Path, context: RunContext, manifest: Manifest, contents: Contents, previous: ReleaseRef | None
) -> None:
    """Card, changelog, canary, harness files and report."""
    data_dir = Path(context.data_dir)
    earlier = Path(previous.path) / "CHANGELOG.md" if previous else None
    pages = {
        "README.md": write_card(context.recipe, manifest, contents, data_dir),
        "CHANGELOG.md": write_changelog(
            manifest.comparison, earlier.read_text(encoding="utf-8") if earlier else None
        ),
        "CANARY.md": render_canary_page(data_dir, manifest.name),
    }
    harness = harness_files(context.recipe, manifest, contents, data_dir)
    pages |= {f"evals/{name}": text for name, text in harness.items()}
    for name, text in pages.items():
        (room / name).parent.mkdir(exist_ok=True)
        (room / name).write_text(text, encoding="utf-8", newline="\n")
    write_report(room / "report.html", report_data(manifest, contents), data_dir)


def write_manifest(room: Path, manifest: Manifest) -> None:
    """The manifest with the hashes of all files that are there, written last."""
    files = {
        path.relative_to(room).as_posix(): file_hash(path)
        for path in sorted(room.rglob("*"))
        if path.is_file()
    }
    whole = manifest.model_copy(update={"files": files})
    (room / MANIFEST).write_bytes(whole.model_dump_json(indent=1).encode() + b"\n")


def give_name(room: Path, home: Path) -> Path:
    """Sync everything, then rename. A release of that name that is the same to the byte is left as it is."""
    if home.exists():
        if (home / MANIFEST).is_file() and (home / MANIFEST).read_bytes() == (room / MANIFEST).read_bytes():
            return open_release(home).path
        raise GateError(
            f"release {home.name} is there already and is not the same",
            place=str(home),
            hint="a release never changes: set a higher `release.version`, or leave it out",
        )
    for path in [*sorted(room.rglob("*")), room]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    os.rename(room, home)
    sync_directory(home.parent)
    return home
