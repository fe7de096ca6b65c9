"""Rows that are too many to hold on their way to a table: written as they come, read back as they stand."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Generic

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import InputError
from schemas.labels import DROPPED, Dropped, StageCounts, check_reconciled
from schemas.recipe import Recipe
from schemas.release import StageCost
from schemas.tables import R, Row, Table, content_hash, file_hash

ROW_GROUP = 4096
"""Rows that are held in memory before they are written."""


class RowSpool(Collection[R], Generic[R]):
    """Rows of one table, appended in order. They lie in a file without a name, so that nothing is left of
    them when the process dies; what is read or saved cannot be appended to any more."""

    def __init__(self, table: Table[R], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._table = table
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._writer = pq.ParquetWriter(self._file, table.arrow_schema, compression="zstd")
        self._group: list[R] = []
        self._rows = 0

    def append(self, row: R) -> None:
        """Add one row at the end."""
        if not self._writer.is_open:
            raise ValueError("these rows were read already: they are complete")
        self._group.append(row)
        self._rows += 1
        if len(self._group) == ROW_GROUP:
            self._write_group()

    def save(self, path: Path) -> None:
        """Write everything to a Parquet file."""
        self._finish()
        self._file.seek(0)
        with path.open("wb") as stream:
            shutil.copyfileobj(self._file, stream, 1 << 20)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[R]:
        self._finish()
        with pq.ParquetFile(self._file) as file:
            for group in range(file.num_row_groups):
                yield from self._table.from_arrow(file.read_row_group(group))

    def __contains__(self, row: object) -> bool:
        return any(row == mine for mine in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowSpool):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip_longest(self, other))

    __hash__ = None  # type: ignore[assignment]

    def _write_group(self) -> None:
        if self._group:
            self._writer.write_table(self._table.to_arrow(self._group))
            self._group = []

    def _finish(self) -> None:
        if self._writer.is_open:
            self._write_group()
            self._writer.close()


# The run directory: stage keys, whole-or-nothing writes, and where every table is.
#
#     <run>/<stage>-<key>/            one finished step; written under a temporary name, then renamed
#         <table>.parquet …           its tables
#         step.json                   what it was made from, its counts and costs
#
# A step whose key is already there is not run again. Nothing half-written is ever found, because a
# directory only gets its name when everything in it is on disk.


SCANNED = 1024
"""Rows that are read together."""


class TableRef(Row):
    """Where a table is and what is in it. This, not the rows, is what steps hand to each other."""

    table: str
    path: str
    rows: int
    sha256: str


class Step(Row):
    """A finished step of a run."""

    stage: str
    key: str
    tables: tuple[TableRef, ...]
    counts: tuple[StageCounts, ...]
    costs: tuple[StageCost, ...]
    notes: str = "{}"
    """JSON object: small results that are not tables."""

    def table(self, name: str) -> TableRef:
        """The table of that name; `KeyError` where the step has none."""
        for ref in self.tables:
            if ref.table == name:
                return ref
        raise KeyError(f"{self.stage} has no table {name!r}")


@dataclass(frozen=True)
class Outcome:
    """What a stage returns: its tables with their rows (a `RowSpool` where they are many), counts, costs."""

    tables: Mapping[Table[Any], Collection[Row]]
    counts: tuple[StageCounts, ...]
    costs: tuple[StageCost, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    notes: str = "{}"


class RunContext(Row):
    """What every stage may know: the recipe and three places. Picklable; no clients, no secrets."""

    recipe: Recipe
    run_dir: str
    data_dir: str
    """The vocabulary: attributes, templates, prompts, …"""
    cache_path: str
    budget_usd: float

    @property
    def hub_cache(self) -> Path:
        """Where published releases are that were fetched."""
        return Path(self.cache_path).parent / "hub"


@dataclass(frozen=True)
class Stage:
    """A verb of the pipeline: its name, its version and the function that does it.

    Raise `version` whenever the same input would give another result: it is part of the stage key.
    `reads` names the recipe sections that the result depends on; others do not invalidate it.
    """

    name: str
    version: int
    run: Callable[..., Outcome] = field(repr=False)
    reads: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    """Files or folders under data/ whose content the result depends on."""


def stage_key(stage: Stage, context: RunContext, inputs: Mapping[str, Any]) -> str:
    """sha256 over the stage, its recipe sections, its vocabulary and its inputs' hashes (hex)."""
    recipe = context.recipe.model_dump(mode="json", by_alias=False)
    return content_hash(
        {
            "stage": stage.name,
            "version": stage.version,
            "seed": context.recipe.seed,
            "recipe": {section: recipe[section] for section in stage.reads},
            "vocabulary": vocabulary_hashes(Path(context.data_dir), stage.vocabulary),
            "inputs": {name: _input_fingerprint(value) for name, value in sorted(inputs.items())},
        }
    )


def _input_fingerprint(value: Any) -> Any:
    """Tables count by content, not by place, so that a run can be moved."""
    if isinstance(value, TableRef):
        return value.sha256
    if isinstance(value, (list, tuple)):
        return [_input_fingerprint(v) for v in value]
    if isinstance(value, Row):
        return value.model_dump(mode="json")
    return value


def vocabulary_hashes(data_dir: Path, names: Sequence[str]) -> dict[str, str]:
    """Relative path to sha256 for every file under the named files and folders of data/."""
    hashes = {}
    for name in names:
        place = data_dir / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                hashes[path.relative_to(data_dir).as_posix()] = file_hash(path)
    return hashes


def run_stage(stage: Stage, context: RunContext, **inputs: Any) -> Step:
    """Do a stage, or find it done. `inputs` are table references and plain JSON-able values."""
    key = stage_key(stage, context, inputs)
    home = Path(context.run_dir) / f"{stage.name}-{key[:16]}"
    found = find_step(home)
    if found is not None:
        return found
    outcome = stage.run(context, **inputs)
    check_reconciled(outcome.counts)
    return write_step(home, stage.name, key, outcome)


def find_step(home: Path) -> Step | None:
    """The finished step in that directory, if there is one and its tables are whole."""
    marker = home / "step.json"
    if not marker.exists():
        return None
    step = Step.model_validate_json(marker.read_bytes())
    tables = tuple(ref.model_copy(update={"path": str(home / f"{ref.table}.parquet")}) for ref in step.tables)
    if any(not Path(ref.path).exists() or file_hash(Path(ref.path)) != ref.sha256 for ref in tables):
        shutil.rmtree(home)
        return None
    return step.model_copy(update={"tables": tables})


def write_step(home: Path, stage: str, key: str, outcome: Outcome) -> Step:
    """Write a step's tables under a temporary name, sync them, give the directory its name."""
    home.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        refs = []
        for table, rows in {**outcome.tables, DROPPED: outcome.dropped}.items():
            path = room / f"{table.name}.parquet"
            write_table(path, table, rows)
            refs.append(
                TableRef(
                    table=table.name,
                    path=str(home / path.name),
                    rows=len(rows),
                    sha256=file_hash(path),
                )
            )
        step = Step(
            stage=stage,
            key=key,
            tables=tuple(refs),
            counts=outcome.counts,
            costs=outcome.costs,
            notes=outcome.notes,
        )
        write_bytes(room / "step.json", step.model_dump_json(indent=1).encode())
        if home.exists():
            shutil.rmtree(home)
        os.rename(room, home)
        sync_directory(home.parent)
    except BaseException:
        shutil.rmtree(room, ignore_errors=True)
        raise
    return step


def write_table(path: Path, table: Table[R], rows: Collection[R]) -> None:
    """Rows to one Parquet file (zstd), on disk when this returns."""
    if isinstance(rows, RowSpool):
        rows.save(path)
    else:
        pq.write_table(table.to_arrow(rows), path, compression="zstd")
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def read_table(ref: TableRef, table: Table[R]) -> list[R]:
    """All rows of a referenced table."""
    return list(scan_table(ref, table))


def scan_table(ref: TableRef, table: Table[R]) -> Iterator[R]:
    """The rows of a referenced table one after the other, a few thousand in memory."""
    if ref.table != table.name:
        raise ValueError(f"{ref.path} holds {ref.table}, not {table.name}")
    with pq.ParquetFile(ref.path) as file:
        for batch in file.iter_batches(batch_size=SCANNED):
            yield from table.from_arrow(pa.Table.from_batches([batch]))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole: temporary name, fsync, rename."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Make a rename in this directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Only one build at a time in one run directory; the lock goes with the process."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "another build of this recipe is running",
                place=str(run_dir),
                hint="wait for it, or give this recipe another `name`",
            ) from None
        yield


def forget_run(run_dir: Path) -> None:
    """Delete everything in a run directory. Raises `InputError` while a build is at work in it."""
    with run_lock(run_dir):
        for path in run_dir.iterdir():
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
