"""Reading a release: its manifest and its tables, after every byte was checked against the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from schemas.errors import InputError
from schemas.ids import file_hash
from schemas.manifest import Manifest
from schemas.tables import R, Row, Table
from tasks.release.canary import CANARY_COLUMN
from tasks.release.configs import CONFIGS, data_file
from tasks.release.versions import is_version, parse_version
from tasks.store import TableRef

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
class Release:
    """A release on disk whose files are what its manifest says."""

    path: Path
    manifest: Manifest
    contents: Contents


def contents_of(refs: Iterable[TableRef]) -> Contents:
    """The assembled tables of a run, in the order of the configs."""
    by_name = {ref.table: ref for ref in refs}
    return Contents({name: pq.read_table(by_name[name].path) for name in CONFIGS if name in by_name})


def open_release(path: Path) -> Release:
    """Open a release directory. Raises `InputError` where it is none, or a file is not the one released."""
    manifest = read_manifest(path)
    check_files(path, manifest)
    tables = {config: _read_config(path, config) for config in CONFIGS if config in manifest.rows}
    return Release(path, manifest, Contents(tables))


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
