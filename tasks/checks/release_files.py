"""A release directory against its manifest: every file, every hash, every row count, the canary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import InputError
from schemas.ids import file_hash
from schemas.manifest import Manifest
from schemas.question import QUESTIONS
from tasks.checks.columns import ids_where, mask_of
from tasks.checks.findings import Problem, problem
from tasks.checks.manifest_facts import check_harness, check_manifest
from tasks.release.canary import CANARY_COLUMN
from tasks.release.configs import CONFIGS, CONTROLS, HARD_NEGATIVES, QUESTION_CONFIGS, data_file
from tasks.release.reading import MANIFEST, read_manifest

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
