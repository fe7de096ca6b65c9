"""The run directory: finished steps, their tables, and files that are written completely or not at all.

    <run>/<stage>-<key>/            one finished step, written under a temporary name and renamed
        <table>.parquet …           its tables
        step.json                   its key, counts, costs and notes

A step with an existing key is not run again. A directory gets its final name after all its files are on disk,
so that an incomplete step is never found.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from schemas.errors import InputError
from schemas.labels import DROPPED, Dropped, StageCounts, check_reconciled
from schemas.recipe import Recipe
from schemas.release import StageCost
from schemas.tables import CHUNK_ROWS, R, Row, Table, content_hash, file_hash
from tasks.run.memory import release_memory

LOCK_TRIES, LOCK_PAUSE_S = 3, 0.02
ROW_GROUP = 4096
"""Number of rows that a spool holds in memory before it writes them."""


class RowSpool(Collection[R], Generic[R]):
    """Rows of one table, appended in order, that need not fit in memory.

    They are kept in an unnamed temporary file, so that nothing remains if the process dies. Rows cannot be
    appended after they were read or saved.
    """

    def __init__(self, table: Table[R], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._table = table
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._writer = pq.ParquetWriter(self._file, table.arrow_schema, compression="zstd")
        self._data = self._empty = pa.Table.from_batches([], table.arrow_schema)
        """Appended tables that are not written yet. They precede the rows of `_group`."""
        self._group: list[R] = []
        self._rows = 0

    def append(self, row: R) -> None:
        """Add one row at the end."""
        self._check_open()
        self._group.append(row)
        self._rows += 1
        if len(self._data) + len(self._group) == ROW_GROUP:
            self._write_group()

    def append_file(self, path: Path) -> None:
        """Add all rows of a Parquet file of the same table. The bytes are those of `append` for each row."""
        self._check_open()
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROW_GROUP):
                self._collect_group()
                self._data = pa.concat_tables([self._data, pa.Table.from_batches([batch])])
                self._rows += batch.num_rows
                while len(self._data) >= ROW_GROUP:
                    rest = self._data[ROW_GROUP:]
                    self._data = self._data[:ROW_GROUP]
                    self._write_group()
                    self._data = rest

    def _check_open(self) -> None:
        if not self._writer.is_open:
            raise ValueError("rows cannot be appended after they were read or saved")

    def _collect_group(self) -> None:
        if self._group:
            self._data = pa.concat_tables([self._data, self._table.to_arrow(self._group)])
            self._group = []

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
        self._collect_group()
        if len(self._data):
            # The bytes of a file depend on the chunks, so they are those of `Table.to_arrow`.
            self._writer.write_table(pa.concat_tables([self._empty, self._data.combine_chunks()]))
            self._data = self._empty

    def _finish(self) -> None:
        if self._writer.is_open:
            self._write_group()
            self._writer.close()


class ArrowRows(Collection[R], Generic[R]):
    """Rows of one table that stay in Arrow memory, which takes a fraction of the memory of records."""

    def __init__(self, table: Table[R], data: pa.Table) -> None:
        self._table = table
        self.data = data

    def save(self, path: Path) -> None:
        """Write the rows to a Parquet file with the bytes that the same records give."""
        empty = pa.Table.from_batches([], self._table.arrow_schema)
        # The bytes of a file depend on the chunks, so they are those of `Table.to_arrow`.
        chunks = [self.data[i : i + CHUNK_ROWS].combine_chunks() for i in range(0, len(self), CHUNK_ROWS)]
        pq.write_table(pa.concat_tables([empty, *chunks]), path, compression="zstd")

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def __iter__(self) -> Iterator[R]:
        yield from self._table.from_arrow(self.data)

    def __contains__(self, row: object) -> bool:
        return any(row == mine for mine in self)


def read_arrow(ref: TableRef, table: Table[R]) -> pa.Table | None:
    """Return a table in Arrow memory, or `None` if its columns are not those of this version."""
    data = pq.read_table(ref.path)
    return data if data.schema.equals(table.arrow_schema, check_metadata=False) else None


# Steps and stages.


SCANNED = 1024
"""Number of rows that are read at a time."""


N = TypeVar("N", bound=BaseModel)


class TableRef(Row):
    """Reference to a table: path, number of rows and hash. Stages pass references, never rows."""

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
    """Small results that are not tables, as a JSON object. See `schemas.notes`."""

    def table(self, name: str) -> TableRef:
        """Return the table of a name. Raise `KeyError` if the step has none."""
        for ref in self.tables:
            if ref.table == name:
                return ref
        raise KeyError(f"{self.stage} has no table {name!r}")

    def read_notes(self, model: type[N]) -> N:
        """Return the notes as a record."""
        return model.model_validate_json(self.notes)


@dataclass(frozen=True)
class Outcome:
    """Result of a stage. Rows of large tables are a `RowSpool`."""

    tables: Mapping[Table[Any], Collection[Row]]
    counts: tuple[StageCounts, ...]
    costs: tuple[StageCost, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    notes: str = "{}"


class RunContext(Row):
    """The recipe and three paths, for every stage. Picklable, without clients and secrets."""

    recipe: Recipe
    run_dir: str
    data_dir: str
    """Folder of the vocabulary: attributes, templates, prompts and so on."""
    cache_path: str
    budget_usd: float
    spending_dir: str | None = None
    """Folder of the spending record and the open batches. `None`: the run directory."""

    @property
    def spending_path(self) -> Path:
        """Folder of the spending record and the open batches."""
        return Path(self.spending_dir or self.run_dir)

    @property
    def hub_cache(self) -> Path:
        """Folder of downloaded releases."""
        return Path(self.cache_path).parent / "hub"


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline."""

    name: str
    version: int
    """Part of the stage key. Increase it when the same input gives a different result."""
    run: Callable[..., Outcome] = field(repr=False)
    reads: tuple[str, ...] = ()
    """Recipe sections that the result depends on. Changes of other sections do not invalidate it."""
    vocabulary: tuple[str, ...] = ()
    """Files and folders under data/ that the result depends on."""
    installed: Callable[[], str] | None = field(default=None, repr=False)
    """Name of optional software that the result depends on. Part of the stage key."""


def stage_key(stage: Stage, context: RunContext, inputs: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of the stage, its recipe sections, its vocabulary, the seed and its inputs."""
    recipe = context.recipe.model_dump(mode="json", by_alias=False)
    parts = {
        "stage": stage.name,
        "version": stage.version,
        "seed": context.recipe.seed,
        "recipe": {section: recipe[section] for section in stage.reads if section in recipe},
        "vocabulary": vocabulary_hashes(Path(context.data_dir), stage.vocabulary),
        "inputs": {name: _input_fingerprint(value) for name, value in sorted(inputs.items())},
    }
    return content_hash(parts | ({"installed": stage.installed()} if stage.installed else {}))


def _input_fingerprint(value: Any) -> Any:
    """Return the identity of an input. A table is identified by its hash, so that a run can be moved."""
    if isinstance(value, TableRef):
        return value.sha256
    if isinstance(value, (list, tuple)):
        return [_input_fingerprint(v) for v in value]
    if isinstance(value, Row):
        return value.model_dump(mode="json")
    return value


def vocabulary_hashes(data_dir: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the sha256 of every file under the named files and folders of data/, by relative path."""
    hashes = {}
    for name in names:
        place = data_dir / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                hashes[path.relative_to(data_dir).as_posix()] = file_hash(path)
    return hashes


def run_stage(stage: Stage, context: RunContext, **inputs: Any) -> Step:
    """Run a stage, or return its finished step if the key exists.

    Args:
        stage: The stage.
        context: Context of the run.
        **inputs: Table references and JSON values.
    """
    key = stage_key(stage, context, inputs)
    home = Path(context.run_dir) / f"{stage.name}-{key[:16]}"
    found = find_step(home, key)
    if found is not None:
        return found
    with naming(home):
        outcome = stage.run(context, **inputs)
        check_reconciled(outcome.counts)
        step = write_step(home, stage.name, key, outcome)
    del outcome
    release_memory()
    return step


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Add a place to an error of the operating system that names none, such as those that Arrow raises."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(place)
        raise


def find_step(home: Path, key: str | None = None) -> Step | None:
    """Return the finished step of a directory, or None if there is none.

    A directory is deleted, so that the step runs again, if its description is damaged, if it describes
    another step than its name, or if its tables are missing or changed.

    Args:
        home: The directory.
        key: The full key of the step, if it is known. The name of the directory has its beginning.
    """
    marker = home / "step.json"
    if not marker.exists():
        return None
    step = _read_step(home, marker)
    if step is None or (key is not None and step.key != key):
        shutil.rmtree(home)
        return None
    return step


def _read_step(home: Path, marker: Path) -> Step | None:
    try:
        step = Step.model_validate_json(marker.read_bytes())
    except ValidationError:
        return None
    names = [ref.table for ref in step.tables]
    if home.name != f"{step.stage}-{step.key[:16]}" or not all(re.fullmatch(r"[a-z0-9_]+", n) for n in names):
        return None
    tables = tuple(ref.model_copy(update={"path": str(home / f"{ref.table}.parquet")}) for ref in step.tables)
    if any(not Path(ref.path).exists() or file_hash(Path(ref.path)) != ref.sha256 for ref in tables):
        return None
    return step.model_copy(update={"tables": tables})


def write_step(home: Path, stage: str, key: str, outcome: Outcome) -> Step:
    """Write a step under a temporary name, then rename its directory."""
    home.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        refs = []
        for table, rows in {**outcome.tables, DROPPED: outcome.dropped}.items():
            path = temporary / f"{table.name}.parquet"
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
        write_bytes(temporary / "step.json", step.model_dump_json(indent=1).encode())
        if home.exists():
            shutil.rmtree(home)
        rename_directory(temporary, home)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return step


def write_table(path: Path, table: Table[R], rows: Collection[R]) -> None:
    """Write rows to a Parquet file (zstd) and sync it to disk."""
    if isinstance(rows, (RowSpool, ArrowRows)):
        rows.save(path)
    else:
        pq.write_table(table.to_arrow(rows), path, compression="zstd")
    sync_path(path)


def read_table(ref: TableRef, table: Table[R]) -> list[R]:
    """Return all rows of a table."""
    return list(scan_table(ref, table))


def scan_table(
    ref: TableRef,
    table: Table[R],
    start: int = 0,
    stop: int | None = None,
    *,
    without: Collection[str] = (),
) -> Iterator[R]:
    """Yield the rows of a table from `start` to `stop`, with at most `SCANNED` of them in memory.

    Args:
        ref: The table.
        table: Its rows.
        start: Number of the first row.
        stop: Number of the row after the last. Default: all rows.
        without: Columns that are not read. Their fields get their defaults.
    """
    if ref.table != table.name:
        raise ValueError(f"{ref.path} holds {ref.table}, not {table.name}")
    stop = ref.rows if stop is None else stop
    with pq.ParquetFile(ref.path) as file:
        groups, first, at = [], 0, 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if at + rows <= start:
                first = at + rows
            elif at < stop:
                groups.append(group)
            at += rows
        columns = [name for name in file.schema_arrow.names if name not in without]
        for batch in file.iter_batches(batch_size=SCANNED, row_groups=groups, columns=columns):
            before, first = first, first + batch.num_rows
            wanted = batch[max(0, start - before) : max(0, stop - before)]
            if wanted.num_rows:
                yield from table.from_arrow(pa.Table.from_batches([wanted]))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file completely or not at all: temporary name, fsync, rename."""
    write_chunks(path, (content,))


def write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file from chunks, completely or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(chunks)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def rename_directory(temporary: Path, home: Path) -> None:
    """Give a complete, synced directory its final name, durably."""
    os.rename(temporary, home)
    sync_path(home.parent)


def sync_tree(root: Path) -> None:
    """Sync a directory and everything in it to disk."""
    for path in [*sorted(root.rglob("*")), root]:
        sync_path(path)


def sync_path(path: Path) -> None:
    """Sync a file to disk, or the names in a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run directory. It ends with the process.

    Raises:
        InputError: If another process holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("w") as stream:
        try:
            _lock(stream)
        except BlockingIOError:
            raise InputError(
                "another build of this recipe is running",
                place=str(run_dir),
                hint="wait until it ends, or give this recipe another `name`",
            ) from None
        yield


def _lock(stream: IO[str]) -> None:
    """Take an exclusive lock. `is_locked` of another process may hold it for an instant, so try again."""
    for _ in range(LOCK_TRIES - 1):
        with suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(LOCK_PAUSE_S)
    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(run_dir: Path) -> bool:
    """Return whether a process holds the lock of a run directory."""
    try:
        with (run_dir / ".lock").open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def forget_run(run_dir: Path) -> None:
    """Delete everything in a run directory. Raise `InputError` if a build is running in it."""
    with run_lock(run_dir):
        for path in run_dir.iterdir():
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
