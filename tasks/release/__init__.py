"""The canary: a GUID in every question row and in CANARY.md, by which training data can be searched."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES
from schemas.errors import InputError
from schemas.labels import DROPPED, LABEL_HISTORY
from schemas.question import QUESTIONS, Erratum, Question
from schemas.release import Bump, Manifest
from schemas.tables import R, Row, Table, file_hash
from tasks.run.store import TableRef

if TYPE_CHECKING:
    from datasets import Features


CANARY_COLUMN = "canary"

_RELEASE_LINES = uuid.UUID("5b0c54bb-8f43-5f2c-9a40-4a2c56d7c0f1")


def canary_of(name: str) -> str:
    """The GUID of a release line: the same in all of its versions, on every machine."""
    return str(uuid.uuid5(_RELEASE_LINES, name))


def canary_page(data_dir: Path, name: str) -> str:
    """CANARY.md, from data/canary.md."""
    template = (data_dir / "canary.md").read_text(encoding="utf-8")
    return Template(template).substitute(name=name, canary=canary_of(name))


# The configs of a release: one table each, one file each, always in this order.


HARD_NEGATIVES: Table[Question] = Table("hard_negatives", Question, "id", QUESTIONS.references)
CONTROLS: Table[Question] = Table("controls", Question, "id", QUESTIONS.references)

CONFIGS: Mapping[str, Table[Any]] = MappingProxyType(
    {
        table.name: table
        for table in (
            QUESTIONS,
            HARD_NEGATIVES,
            CONTROLS,
            RESPONSES,
            JUDGEMENTS,
            EFFECTS,
            LABEL_HISTORY,
            DROPPED,
        )
    }
)
QUESTION_CONFIGS = (QUESTIONS.name, HARD_NEGATIVES.name, CONTROLS.name)
"""Configs whose rows are questions. They carry the canary."""


def data_file(config: str) -> str:
    """Where a config's rows are, inside a release."""
    return f"data/{config}/test-00000-of-00001.parquet"


def config_of(question: Question, answered: Collection[str]) -> str | None:
    """Where a question is released. A question of a templated family needs no label, only answers: nothing
    was searched for, so nothing is selected."""
    if question.control != "none":
        return CONTROLS.name
    if question.label == "hard_negative":
        return HARD_NEGATIVES.name
    if question.label == "accepted" or (question.family != "open" and question.id in answered):
        return QUESTIONS.name
    return None


# errata.jsonl of a release: every text that was mended since the first version, oldest first.


ERRATA = "errata.jsonl"

ERRATUM = "erratum"
"""Operator of a question whose text was corrected after a release."""


def read_errata(release: Path | None) -> tuple[Erratum, ...]:
    """A release's errata; none where there is no release, or nothing was mended."""
    place = release / ERRATA if release else None
    if place is None or not place.is_file():
        return ()
    return tuple(Erratum.model_validate_json(line) for line in place.read_bytes().splitlines() if line)


def write_errata(release: Path, errata: Iterable[Erratum]) -> None:
    """The file, where there is anything to write."""
    lines = [erratum.model_dump_json() + "\n" for erratum in errata]
    if lines:
        (release / ERRATA).write_text("".join(lines), encoding="utf-8", newline="\n")


# Version numbers: `major.minor.patch`, and which one follows from what changed.


FIRST = "0.1.0"


def parse_version(text: str) -> tuple[int, int, int]:
    """(major, minor, patch). Raises `InputError` where the text is no such version."""
    numbers = text.split(".")
    if len(numbers) != 3 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise InputError(f"{text!r} is not a version", hint="write it as `major.minor.patch`, e.g. 1.2.0")
    major, minor, patch = (int(n) for n in numbers)
    return major, minor, patch


def is_version(text: str) -> bool:
    try:
        parse_version(text)
    except InputError:
        return False
    return True


def next_version(old: str, bump: Bump) -> str:
    """The version after `old`; the same one where nothing changed."""
    major, minor, patch = parse_version(old)
    match bump:
        case "major":
            return f"{major + 1}.0.0"
        case "minor":
            return f"{major}.{minor + 1}.0"
        case "patch":
            return f"{major}.{minor}.{patch + 1}"
        case "none":
            return old
        case "first":
            return FIRST


# A config's Parquet file: the same bytes for the same rows, and features that `datasets` understands.


def features_of(config: str) -> Features:
    """What `datasets` calls the columns of a config, the canary included."""
    from datasets import Features

    schema = CONFIGS[config].arrow_schema
    if config in QUESTION_CONFIGS:
        schema = schema.append(pa.field(CANARY_COLUMN, pa.string()))
    return Features.from_arrow_schema(schema)


def release_table(config: str, rows: pa.Table, canary: str) -> pa.Table:
    """A config's rows as they are released: with the canary and the `huggingface` schema metadata."""
    if config in QUESTION_CONFIGS:
        rows = rows.append_column(CANARY_COLUMN, pa.array([canary] * rows.num_rows, pa.string()))
    return rows.cast(features_of(config).arrow_schema)


def write_parquet(path: Path, table: pa.Table) -> None:
    """zstd, page index, content-defined chunks; on disk when this returns.

    An empty table gets no row group at all: `datasets` refuses a row group of no rows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(
        path, table.schema, compression="zstd", write_page_index=True, use_content_defined_chunking=True
    ) as writer:
        if table.num_rows:
            writer.write_table(table)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


# Reading a release: its manifest and its tables, after every byte was checked against the manifest.


MANIFEST = "manifest.json"


class ReleaseRef(Row):
    """Where a release is, and the sha256 of its manifest, which holds those of all its files."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Contents:
    """The tables of a release by config, without the canary column."""

    tables: Mapping[str, pa.Table]

    def rows(self, table: Table[R]) -> list[R]:
        """The rows of one config; none where this release has no such config."""
        found = self.tables.get(table.name)
        return list(table.from_arrow(found)) if found is not None else []

    def records(self, config: str) -> list[dict[str, Any]]:
        """The rows of one config as they are, whichever program version wrote them."""
        found = self.tables.get(config)
        records: list[dict[str, Any]] = found.to_pylist() if found is not None else []
        return records

    def count(self, config: str) -> int:
        found = self.tables.get(config)
        return found.num_rows if found is not None else 0


@dataclass(frozen=True)
class ReleaseDirectory:
    """A release on disk whose files are what its manifest says."""

    path: Path
    manifest: Manifest
    contents: Contents


def contents_of(refs: Iterable[TableRef]) -> Contents:
    """The assembled tables of a run, in the order of the configs."""
    by_name = {ref.table: ref for ref in refs}
    return Contents({name: pq.read_table(by_name[name].path) for name in CONFIGS if name in by_name})


def open_release(path: Path) -> ReleaseDirectory:
    """Open a release directory. Raises `InputError` where it is none, or a file is not the one released."""
    manifest = read_manifest(path)
    check_files(path, manifest)
    tables = {config: _read_config(path, config) for config in CONFIGS if config in manifest.rows}
    return ReleaseDirectory(path, manifest, Contents(tables))


def read_manifest(path: Path) -> Manifest:
    """A release's manifest, unchecked. Raises `InputError` where there is none that can be read."""
    place = path / MANIFEST
    try:
        return Manifest.model_validate_json(place.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path} is not a release: it has no {MANIFEST}",
            hint="give the directory of one version, such as releases/<name>/1.0.0",
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"the manifest cannot be read: {where}: {first['msg']}",
            place=str(place),
            hint="it was changed by hand, or written by a newer version of counterfoil",
        ) from None


def check_files(path: Path, manifest: Manifest) -> None:
    """Raise `InputError` naming the first file that is missing, changed, or not in the manifest.

    Hidden files are not looked at: version control and the Hub's client keep theirs beside a download; nor is
    the bytecode that Python leaves where the files in evals/ are run.
    """
    hint = "restore the release from where it was published, or build it again"
    for name, sha256 in sorted(manifest.files.items()):
        file = path / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not file.is_file():
            raise InputError(f"the release lacks {name}", place=str(path), hint=hint)
        if file_hash(file) != sha256:
            raise InputError(f"{name} is not the file that was released", place=str(file), hint=hint)
    known = {*manifest.files, MANIFEST}
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if file.is_file() and not hidden and inside.as_posix() not in known:
            raise InputError(f"{file.name} does not belong to the release", place=str(file), hint=hint)


def _read_config(path: Path, config: str) -> pa.Table:
    table = pq.read_table(path / data_file(config))
    if CANARY_COLUMN in table.column_names:
        table = table.drop_columns([CANARY_COLUMN])
    return table.replace_schema_metadata(None)


def last_release(releases: Path, name: str) -> ReleaseRef | None:
    """The highest version of that name that has a manifest, if there is any."""
    found = [p for p in (releases / name).glob(f"*/{MANIFEST}") if is_version(p.parent.name)]
    if not found:
        return None
    newest = max(found, key=lambda p: parse_version(p.parent.name))
    return ReleaseRef(path=str(newest.parent), sha256=file_hash(newest))
