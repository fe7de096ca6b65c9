"""What a manifest tells beside files and rows: judges, passports, what was held back, what was taken out. No
hash covers the manifest itself, so what it tells is held against the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from schemas.answers import JUDGEMENTS
from schemas.errors import InputError
from schemas.labels import DROPPED
from schemas.question import QUESTIONS
from schemas.release import Manifest
from schemas.tables import content_hash, file_hash
from tasks.checks.catalogue import Problem, problem
from tasks.checks.columns import ids_where, mask_of
from tasks.release import (
    CANARY_COLUMN,
    CONFIGS,
    CONTROLS,
    HARD_NEGATIVES,
    MANIFEST,
    QUESTION_CONFIGS,
    canary_of,
    data_file,
    read_manifest,
)

Configs = Mapping[str, pa.Table]
Fault = tuple[str, str]
"""A field of the manifest, and what is wrong with it."""


def check_manifest(manifest: Manifest, configs: Configs) -> list[Problem]:
    """Fields that the tables contradict."""
    faults = [
        *_of_itself(manifest),
        *_of_judges(manifest, configs),
        *_of_dropped(manifest, configs),
        *_of_people(manifest),
    ]
    told = "; ".join(f"{name}: {words}" for name, words in faults)
    return problem("files", "manifest_contradicts_rows", (name for name, _ in faults), detail=told)


def _of_itself(manifest: Manifest) -> Iterator[Fault]:
    if content_hash(manifest.recipe) != manifest.recipe_hash:
        yield "recipe_hash", "it is not that of the recipe"
    if manifest.recipe.get("name") != manifest.name:
        yield "name", "the recipe has another"
    if manifest.canary != canary_of(manifest.name):
        yield "canary", "it is not that of the name"
    if manifest.validation.get("passed") != 1 or manifest.validation.get("errors") != 0:
        yield "validation", "the release did not pass the gate when it was made"
    if any(finding.severity != "warning" for finding in manifest.warnings):
        yield "warnings", "there is an error among them"


def _of_judges(manifest: Manifest, configs: Configs) -> Iterator[Fault]:
    rows = configs.get(JUDGEMENTS.name)
    if rows is None or not {"judge", "rubric", "rubric_hash"} <= set(rows.column_names):
        return
    judges = {str(name) for name in rows["judge"].unique().to_pylist()}
    if judges != set(manifest.judged_by):
        yield "judged_by", f"the verdicts are those of {', '.join(sorted(judges)) or 'nobody'}"
    used = {
        (r["judge"], r["rubric"], r["rubric_hash"]) for r in _distinct(rows, "judge", "rubric", "rubric_hash")
    }
    for passport in manifest.passports:
        if passport.judge in judges and (passport.judge, passport.rubric, passport.rubric_hash) not in used:
            yield "passports", f"{passport.judge} was audited with another rubric than it judged with"
    counted = Counter((p.judge, p.rubric_hash, p.prompt_hash, p.comparison) for p in manifest.passports)
    if any(n > 1 for n in counted.values()):
        yield "passports", "a judge has two for the same rubric and prompt"


def _distinct(rows: pa.Table, *names: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = rows.group_by(list(names)).aggregate([]).to_pylist()
    return found


def _of_dropped(manifest: Manifest, configs: Configs) -> Iterator[Fault]:
    """What was held back, taken out, or found in an earlier release is counted among the dropped."""
    rows = configs.get(DROPPED.name)
    if rows is None or not {"kind", "stage", "reason"} <= set(rows.column_names):
        return
    questions = rows.filter(pc.equal(rows["kind"], "question")).select(["stage", "reason"]).to_pylist()
    stages = Counter(row["stage"] for row in questions)
    held = manifest.hold_back.questions if manifest.hold_back else 0
    if stages["hold_back"] != held:
        yield "hold_back", f"{held} questions are told, {stages['hold_back']} are among the dropped"
    taken = manifest.quarantine.taken if manifest.quarantine else 0
    if stages["validate"] != taken:
        yield "quarantine", f"{taken} questions are told, {stages['validate']} are among the dropped"
    for clear in manifest.clear_of:
        overlaps = f"overlaps:{clear.name}"
        found = sum(
            row["reason"] == overlaps or row["reason"].startswith(f"{overlaps}_") for row in questions
        )
        if found != clear.overlapping:
            yield "clear_of", f"{clear.overlapping} questions of {clear.name} are told, {found} are dropped"


def _of_people(manifest: Manifest) -> Iterator[Fault]:
    if (review := manifest.review) is None:
        return
    decided = review.kept + review.dropped + review.edited + review.contested + review.undecided
    if decided > review.questions or review.shared > review.questions or review.people < 1:
        yield "review", "more is decided than was looked at"
    ends = (review.alpha_low, review.alpha, review.alpha_high)
    if None not in ends and not ends[0] <= ends[1] <= ends[2]:  # type: ignore[operator]
        yield "review", "alpha lies outside its interval"


def check_harness(path: Path, manifest: Manifest) -> list[Problem]:
    """The files in evals/ read the tables of this very version."""
    place = path / "evals" / "eval.yaml"
    if not place.is_file():
        return []
    try:
        told = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        told = None
    wanted = {"name": manifest.name, "version": manifest.version, "tag": f"v{manifest.version}"}
    fits = isinstance(told, dict) and all(told.get(name) == value for name, value in wanted.items())
    files = told.get("files") if isinstance(told, dict) else None
    there = isinstance(files, dict) and all(name in manifest.files for name in files.values())
    wrong = [] if fits and there else ["evals/eval.yaml"]
    return problem("files", "harness_of_another_release", wrong)


# A release directory against its manifest: every file, every hash, every row count, the canary.


LABELS = {
    QUESTIONS.name: ("accepted", "unlabelled"),
    HARD_NEGATIVES.name: ("hard_negative",),
    CONTROLS.name: ("control",),
}
"""A question of a templated family was not selected by a search and needs no label."""


@dataclass(frozen=True)
class ReleaseFiles:
    """What a release directory holds: its manifest and its configs, as far as they can be read."""

    manifest: Manifest | None
    configs: Mapping[str, pa.Table]
    problems: tuple[Problem, ...]


def open_release_files(path: Path) -> ReleaseFiles:
    """Read everything that can be read, and tell the rest as problems; nothing is raised."""
    configs, unreadable = _read_configs(path)
    broken = problem("files", "file_unreadable", unreadable)
    try:
        manifest = read_manifest(path)
    except InputError as error:
        return ReleaseFiles(
            None,
            configs,
            (*broken, *problem("files", "manifest_unreadable", [MANIFEST], detail=error.message)),
        )
    problems = [
        *broken,
        *check_hashes(path, manifest),
        *check_row_counts(manifest, configs),
        *check_canary(path, manifest, configs),
        *check_configs(configs),
        *check_manifest(manifest, configs),
        *check_harness(path, manifest),
    ]
    return ReleaseFiles(manifest, configs, tuple(problems))


def _read_configs(path: Path) -> tuple[dict[str, pa.Table], list[str]]:
    configs, unreadable = {}, []
    for config in CONFIGS:
        file = path / data_file(config)
        if not file.is_file():
            continue
        try:
            configs[config] = pq.read_table(file).replace_schema_metadata(None)
        except (pa.ArrowException, OSError):
            unreadable.append(data_file(config))
    return configs, unreadable


def check_hashes(path: Path, manifest: Manifest) -> list[Problem]:
    """Every file that is listed is there, unchanged, and none besides. Hidden files are not looked at, nor
    the bytecode that Python leaves where the files in evals/ are run."""
    absent, changed = [], []
    for name, sha256 in manifest.files.items():
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or not (path / name).is_file():
            absent.append(name)
        elif file_hash(path / name) != sha256:
            changed.append(name)
    there = {f.relative_to(path) for f in path.rglob("*") if f.is_file()}
    visible = {f.as_posix() for f in there if not any(map(_is_passed_over, f.parts))}
    return [
        *problem("files", "file_absent", absent),
        *problem("files", "file_changed", changed),
        *problem("files", "file_unlisted", visible - {*manifest.files, MANIFEST}),
    ]


def _is_passed_over(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__"


def check_row_counts(manifest: Manifest, configs: Mapping[str, pa.Table]) -> list[Problem]:
    """Rows per config are those of the manifest."""
    counted = {config: rows.num_rows for config, rows in configs.items()}
    differ = [c for c in sorted({*manifest.rows, *counted}) if manifest.rows.get(c, 0) != counted.get(c, 0)]
    told = ", ".join(
        f"{c}: {manifest.rows.get(c, 0)} in the manifest, {counted.get(c, 0)} there" for c in differ
    )
    return problem("files", "row_count_differs", differ, detail=told)


def check_canary(path: Path, manifest: Manifest, configs: Mapping[str, pa.Table]) -> list[Problem]:
    """The manifest's canary stands in CANARY.md and in every question row."""
    page = path / "CANARY.md"
    without = []
    if not page.is_file() or manifest.canary not in page.read_text(encoding="utf-8", errors="replace"):
        without.append(page.name)
    for config in QUESTION_CONFIGS:
        rows = configs.get(config)
        if rows is not None and not _all_carry(rows, manifest.canary):
            without.append(data_file(config))
    return problem("files", "canary_absent", without)


def _all_carry(rows: pa.Table, canary: str) -> bool:
    if CANARY_COLUMN not in rows.column_names:
        return bool(rows.num_rows == 0)
    return bool(mask_of(pc.equal(rows[CANARY_COLUMN], canary)).all())


def check_configs(configs: Mapping[str, pa.Table]) -> list[Problem]:
    """Every question stands in one config, the one that its label belongs in."""
    problems = []
    places: Counter[str] = Counter()
    for config in QUESTION_CONFIGS:
        rows = configs.get(config)
        if rows is None or not {"id", "label"} <= set(rows.column_names):
            continue
        places.update({name for name in rows["id"].to_pylist() if name is not None})
        wrong = ~mask_of(pc.is_in(rows["label"], value_set=pa.array(LABELS[config])))
        problems += problem(config, "label_in_wrong_config", ids_where(rows, wrong))
    problems += problem("questions", "question_in_two_configs", [name for name, n in places.items() if n > 1])
    return problems


def tables_of(configs: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """The configs as the tables that the checks know: all questions in one."""
    questions = [configs[c] for c in QUESTION_CONFIGS if c in configs]
    tables = {name: rows for name, rows in configs.items() if name not in QUESTION_CONFIGS}
    if questions:
        tables = {QUESTIONS.name: pa.concat_tables(questions, promote_options="permissive"), **tables}
    return tables
