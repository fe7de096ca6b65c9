"""Checks of a release directory against its manifest, and of the manifest against the tables.

No hash covers the manifest itself. So its judges, passports and counts are compared with the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas.answers import JUDGEMENTS
from schemas.errors import InputError
from schemas.labels import DROPPED
from schemas.question import QUESTIONS
from schemas.release import Manifest
from schemas.tables import content_hash
from tasks.checks.catalogue import Problem, report_rows
from tasks.checks.columns import select_ids, to_mask
from tasks.files.bounded import MemoryBudget, read_parquet
from tasks.files.yaml import load_yaml
from tasks.release import (
    CANARY_COLUMN,
    CONFIGS,
    CONTROLS,
    HARD_NEGATIVES,
    MANIFEST,
    QUESTION_CONFIGS,
    compare_files,
    config_file,
    derive_canary,
    is_machine_error,
    list_config_files,
    read_manifest,
)
from tasks.run.paths import is_inside
from tasks.text.printable import printable

Configs = Mapping[str, pa.Table]
Fault = tuple[str, str]
"""A field of the manifest and its fault."""

HARNESS = "evals/eval.yaml"
MAX_PAGE_BYTES = 1 << 20

LABELS = {
    QUESTIONS.name: ("accepted", "confirmed", "candidate", "survey", "unlabelled"),
    HARD_NEGATIVES.name: ("hard_negative",),
    CONTROLS.name: ("control",),
}
"""Allowed labels by config. Questions of templated families are not selected by a search and need no
label."""


@dataclass(frozen=True)
class ReleaseFiles:
    """The readable content of a release directory."""

    manifest: Manifest | None
    configs: Configs
    problems: tuple[Problem, ...]


def open_release_files(path: Path) -> ReleaseFiles:
    """Read and check a release directory. Nothing in it makes this fail: every fault is a problem."""
    configs, unreadable = _read_configs(path)
    try:
        manifest = read_manifest(path)
    except InputError as error:
        detail = printable(error.message, 300)
        unread = report_rows("files", "manifest_unreadable", [MANIFEST], detail=detail)
        return ReleaseFiles(None, configs, (*unreadable, *unread))
    checks: tuple[tuple[str, Callable[[], list[Problem]]], ...] = (
        (MANIFEST, lambda: check_listed_files(path, manifest)),
        (MANIFEST, lambda: check_row_counts(manifest, configs)),
        ("CANARY.md", lambda: check_canary(path, manifest, configs)),
        (config_file(QUESTIONS.name), lambda: check_configs(configs)),
        (MANIFEST, lambda: check_manifest(manifest, configs)),
        (HARNESS, lambda: check_harness(path, manifest)),
    )
    problems = [problem for name, check in checks for problem in _run_check(name, check)]
    return ReleaseFiles(manifest, configs, (*unreadable, *problems))


def _run_check(name: str, check: Callable[[], list[Problem]]) -> list[Problem]:
    """Run a check. Content of an unexpected kind makes it fail, which is a problem of the file."""
    try:
        return check()
    except Exception as error:
        if is_machine_error(error):
            raise
        detail = f"its content cannot be checked: {printable(f'{type(error).__name__}: {error}', 200)}"
        return report_rows("files", "file_unreadable", [name], detail=detail)


def _read_configs(path: Path) -> tuple[dict[str, pa.Table], list[Problem]]:
    configs, problems, budget = {}, [], MemoryBudget()
    for config in CONFIGS:
        shards = []
        for name in list_config_files(path, config):
            file = path / name
            if not file.is_file() or not is_inside(path, file):
                continue
            try:
                shards.append(read_parquet(file, budget=budget))
            except Exception as error:
                if is_machine_error(error):
                    raise
                message = error.message if isinstance(error, InputError) else ""
                problems += report_rows("files", "file_unreadable", [name], detail=message)
        if shards:
            alike = [shard for shard in shards if shard.schema == shards[0].schema]
            configs[config] = pa.concat_tables(alike)
            if len(alike) < len(shards):
                detail = "the shards have different columns"
                problems += report_rows("files", "file_unreadable", [config_file(config)], detail=detail)
    return configs, problems


def check_listed_files(path: Path, manifest: Manifest) -> list[Problem]:
    """Check that the files are exactly those of the manifest, with their hashes."""
    differences = compare_files(path, manifest)
    return [
        *report_rows("files", "file_absent", differences.missing),
        *report_rows("files", "file_changed", differences.changed),
        *report_rows("files", "file_unlisted", differences.unlisted),
        *report_rows("files", "file_linked", differences.linked),
    ]


def check_row_counts(manifest: Manifest, configs: Configs) -> list[Problem]:
    """Check that each config has the number of rows in the manifest."""
    counts = {config: rows.num_rows for config, rows in configs.items()}
    differ = [c for c in sorted({*manifest.rows, *counts}) if manifest.rows.get(c, 0) != counts.get(c, 0)]
    detail = ", ".join(
        f"{c}: {manifest.rows.get(c, 0)} in the manifest, {counts.get(c, 0)} in the file" for c in differ
    )
    return report_rows("files", "row_count_differs", differ, detail=detail)


def check_canary(path: Path, manifest: Manifest, configs: Configs) -> list[Problem]:
    """Check that the canary of the manifest is in CANARY.md and in every question row."""
    page = path / "CANARY.md"
    without = []
    if not _page_has(page, manifest.canary):
        without.append(page.name)
    for config in QUESTION_CONFIGS:
        rows = configs.get(config)
        if rows is not None and not _all_rows_carry(rows, manifest.canary):
            without.append(config_file(config))
    return report_rows("files", "canary_absent", without)


def _page_has(page: Path, canary: str) -> bool:
    if page.is_symlink() or not page.is_file() or page.stat().st_size > MAX_PAGE_BYTES:
        return False
    return canary in page.read_text(encoding="utf-8", errors="replace")


def _all_rows_carry(rows: pa.Table, canary: str) -> bool:
    if CANARY_COLUMN not in rows.column_names:
        return bool(rows.num_rows == 0)
    # Scalars make Arrow import pandas, which takes longer than the whole check.
    return not rows.num_rows or rows[CANARY_COLUMN].unique().to_pylist() == [canary]


def check_configs(configs: Configs) -> list[Problem]:
    """Check that every question is in one config only, and that its label belongs there."""
    problems = []
    occurrences: Counter[str] = Counter()
    for config in QUESTION_CONFIGS:
        rows = configs.get(config)
        if rows is None or not {"id", "label"} <= set(rows.column_names):
            continue
        occurrences.update({name for name in rows["id"].to_pylist() if name is not None})
        wrong = ~to_mask(pc.is_in(rows["label"], value_set=pa.array(LABELS[config])))
        problems += report_rows(config, "label_in_wrong_config", select_ids(rows, wrong))
    repeated = [name for name, n in occurrences.items() if n > 1]
    return problems + report_rows("questions", "question_in_two_configs", repeated)


def check_harness(path: Path, manifest: Manifest) -> list[Problem]:
    """Check that the files in evals/ read the tables of this version."""
    place = path / HARNESS
    if not place.is_file() or not is_inside(path, place):
        return []
    try:
        content = load_yaml(place.read_text(encoding="utf-8"), place=HARNESS)
    except (InputError, UnicodeDecodeError):
        content = None
    pinned = {"name": manifest.name, "version": manifest.version, "tag": f"v{manifest.version}"}
    is_pinned = isinstance(content, dict) and all(
        content.get(name) == value for name, value in pinned.items()
    )
    files = content.get("files") if isinstance(content, dict) else None
    exist = isinstance(files, dict) and all(str(name) in manifest.files for name in files.values())
    wrong = [] if is_pinned and exist else [HARNESS]
    return report_rows("files", "harness_of_another_release", wrong)


def check_manifest(manifest: Manifest, configs: Configs) -> list[Problem]:
    """Check the fields of the manifest against each other and against the tables."""
    faults = [
        *_check_recipe_fields(manifest),
        *_check_judges(manifest, configs),
        *_check_dropped_counts(manifest, configs),
        *_check_review(manifest),
    ]
    detail = "; ".join(f"{name}: {fault}" for name, fault in faults)
    return report_rows("files", "manifest_contradicts_rows", (name for name, _ in faults), detail=detail)


def _check_recipe_fields(manifest: Manifest) -> Iterator[Fault]:
    if content_hash(manifest.recipe) != manifest.recipe_hash:
        yield "recipe_hash", "it is not the hash of the recipe"
    if manifest.recipe.get("name") != manifest.name:
        yield "name", "the recipe has another name"
    if manifest.canary != derive_canary(manifest.name):
        yield "canary", "it is not the canary of the name"
    if manifest.validation.get("passed") != 1 or manifest.validation.get("errors") != 0:
        yield "validation", "the release did not pass the gate"
    if any(finding.severity != "warning" for finding in manifest.warnings):
        yield "warnings", "they contain an error"


def _check_judges(manifest: Manifest, configs: Configs) -> Iterator[Fault]:
    rows = configs.get(JUDGEMENTS.name)
    if rows is None or not {"judge", "rubric", "rubric_hash"} <= set(rows.column_names):
        return
    judges = {str(name) for name in rows["judge"].unique().to_pylist()}
    if judges != set(manifest.judged_by):
        yield "judged_by", f"the judges of the verdicts are: {', '.join(sorted(judges)) or 'none'}"
    used = {
        (r["judge"], r["rubric"], r["rubric_hash"]) for r in _distinct(rows, "judge", "rubric", "rubric_hash")
    }
    for passport in manifest.passports:
        if passport.judge in judges and (passport.judge, passport.rubric, passport.rubric_hash) not in used:
            yield "passports", f"{passport.judge} was audited with another rubric than it judged with"
    counts = Counter((p.judge, p.rubric_hash, p.prompt_hash, p.comparison) for p in manifest.passports)
    if any(n > 1 for n in counts.values()):
        yield "passports", "a judge has two passports for the same rubric and prompt"


def _distinct(rows: pa.Table, *names: str) -> list[dict[str, str]]:
    records: list[dict[str, str]] = rows.group_by(list(names)).aggregate([]).to_pylist()
    return records


def _check_dropped_counts(manifest: Manifest, configs: Configs) -> Iterator[Fault]:
    """Compare the counts of held-back, quarantined and overlapping questions with the dropped rows."""
    rows = configs.get(DROPPED.name)
    if rows is None or not {"kind", "stage", "reason"} <= set(rows.column_names):
        return
    questions = rows.filter(pc.equal(rows["kind"], "question")).select(["stage", "reason"]).to_pylist()
    stages = Counter(row["stage"] for row in questions)
    held = manifest.hold_back.questions if manifest.hold_back else 0
    if stages["hold_back"] != held:
        yield "hold_back", f"{held} questions in the manifest, {stages['hold_back']} among the dropped"
    quarantined = manifest.quarantine.taken if manifest.quarantine else 0
    if stages["validate"] != quarantined:
        yield "quarantine", f"{quarantined} questions in the manifest, {stages['validate']} among the dropped"
    for clear in manifest.clear_of:
        reason = f"overlaps:{clear.name}"
        count = sum(row["reason"] == reason or row["reason"].startswith(f"{reason}_") for row in questions)
        if count != clear.overlapping:
            yield (
                "clear_of",
                f"{clear.overlapping} questions of {clear.name} in the manifest, {count} among the dropped",
            )


def _check_review(manifest: Manifest) -> Iterator[Fault]:
    if (review := manifest.review) is None:
        return
    decided = review.kept + review.dropped + review.edited + review.contested + review.undecided
    if decided > review.questions or review.shared > review.questions or review.people < 1:
        yield "review", "more questions were decided than reviewed"
    ends = (review.alpha_low, review.alpha, review.alpha_high)
    if None not in ends and not ends[0] <= ends[1] <= ends[2]:  # type: ignore[operator]
        yield "review", "alpha is outside its interval"


def merge_question_configs(configs: Configs) -> dict[str, pa.Table]:
    """Return the configs as the tables of the gate, with all questions in one table."""
    questions = [configs[c] for c in QUESTION_CONFIGS if c in configs]
    tables = {name: rows for name, rows in configs.items() if name not in QUESTION_CONFIGS}
    if questions:
        tables = {QUESTIONS.name: pa.concat_tables(questions, promote_options="permissive"), **tables}
    return tables
