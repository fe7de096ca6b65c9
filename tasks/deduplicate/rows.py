"""Rows of any table as units to compare: which column is the text, which ones must agree, what is a group."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.errors import InputError
from schemas.tables import content_id
from tasks.files.tables import TableFile
from tasks.near_duplicates.pairs import Indices, write_texts
from tasks.near_duplicates.units import Unit
from tasks.text.normalize import normalise_for_match


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are for."""

    text: str
    slots: tuple[str, ...] = ()
    """Rows that differ in one of these are never duplicates."""
    group: str | None = None
    """Rows with the same value here are one unit."""
    rank: str | None = None
    """The greatest is the best; rows without a number come last."""


def rows_as_units(
    table: pa.Table, columns: Columns, *, place: Path, source: str | None = None
) -> tuple[list[Unit], list[int]]:
    """A unit for every group (or row), and the rows that have no text, or stand in a group with such a row.

    A unit goes by its group, else by the column `id`, else by its content. Raises `InputError` for a column
    that is not there or not of its kind.
    """
    texts = _texts(table, columns.text, place)
    guards = list(zip(*(_guards(table, name, place) for name in columns.slots), strict=True))
    guards = guards or [()] * table.num_rows
    ranks = _ranks(table, columns.rank, place)
    names = _column(table, columns.group, place).to_pylist() if columns.group else [None] * table.num_rows
    ids = table["id"].to_pylist() if "id" in table.column_names else [None] * table.num_rows

    groups: dict[Any, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(row if name is None else ("group", str(name)), []).append(row)
    units, without_text = [], []
    for rows in groups.values():
        if not all(texts[row] for row in rows):
            without_text += rows
            continue
        if len(rows) > 1:
            rows.sort(key=lambda row: (repr(guards[row]), texts[row]))
        name = ids[rows[0]] if names[rows[0]] is None else names[rows[0]]
        units.append(
            Unit(
                content_id("row", texts[rows[0]], list(guards[rows[0]])) if name is None else str(name),
                "\n".join([texts[row] for row in rows]),
                tuple([guards[row] for row in rows]),
                (-max([ranks[row] for row in rows]),),
                tuple(rows),
                source,
            )
        )
    return units, sorted(without_text)


def _column(table: pa.Table, name: str, place: Path) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise InputError(
            f"{place.name} has no column {name!r}",
            place=str(place),
            hint=f"it has: {', '.join(table.column_names)}",
        )
    return table[name]


def _texts(table: pa.Table, name: str, place: Path) -> list[str]:
    """The texts; an absent or blank one is empty."""
    column = _column(table, name, place)
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise InputError(f"the column {name!r} holds {column.type}, not text", place=str(place))
    return [(text or "").strip() and text for text in column.cast(pa.string()).to_pylist()]


def _guards(table: pa.Table, name: str, place: Path) -> list[str | None]:
    values = _column(table, name, place).to_pylist()
    return [value if value is None or isinstance(value, str) else repr(value) for value in values]


def _ranks(table: pa.Table, name: str | None, place: Path) -> Sequence[float]:
    if name is None:
        return [0.0] * table.num_rows
    column = _column(table, name, place)
    try:
        numbers = column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"the column {name!r} does not hold numbers: {str(error).splitlines()[0]}",
            place=str(place),
            hint="give a numeric column to rank by: the greatest is kept",
        ) from None
    return [x if x is not None and x == x else float("-inf") for x in numbers.to_pylist()]


# The rows of files as units on disk, part by part: what is compared, and what orders them.


ROW = "\0row"
"""Name of the column with a row's number; no table has one of that name."""
PART_BYTES = 128 << 20
UNITS = pa.schema(
    [
        ("source", pa.int32()),
        ("order", pa.float64()),
        ("id", pa.string()),
        ("rows", pa.list_(pa.int64())),
        *((name, pa.uint64()) for name in ("text", "text_too", "guard", "content")),
        *((name, pa.int64()) for name in ("file", "start", "stop")),
    ]
)
"""A unit: which file it is of, by number; smaller is better; its name; its rows; digests of what is compared
(128 bits), of its guard, and of all that its rows hold; where its normalised text stands."""


@dataclass(frozen=True)
class RowPart:
    """Some rows of a file, to be read as units: `rows-<number>.arrow` in the folder."""

    folder: Path
    number: int
    source: int
    columns: Columns
    place: Path
    """The file as a person knows it."""

    @property
    def rows(self) -> Path:
        return self.folder / f"rows-{self.number:05}.arrow"

    @property
    def units(self) -> Path:
        return self.folder / f"units-{self.number:05}.arrow"

    @property
    def without_text(self) -> Path:
        return self.folder / f"without-text-{self.number:05}.npy"


def split_rows(
    file: TableFile,
    columns: Columns,
    *,
    folder: Path,
    place: Path,
    source: int,
    first: int,
    rows_per_part: int,
) -> list[RowPart]:
    """Write the rows of a file into parts, numbered from `first`; rows of one group into the same part."""
    most = min(rows_per_part, file.rows_within(PART_BYTES))
    count = -(-file.rows // most)
    parts = [RowPart(folder, first + i, source, columns, place) for i in range(count)]
    schema = pa.schema([*file.schema, (ROW, pa.int64())])
    with ExitStack() as open_files:
        writers = [open_files.enter_context(pa.ipc.new_file(part.rows, schema)) for part in parts]
        done = 0
        for batch in file.batches():
            numbers = np.arange(done, done + batch.num_rows)
            rows = pa.RecordBatch.from_arrays([*batch.columns, pa.array(numbers)], schema=schema)
            wanted = numbers // most
            if columns.group is not None:
                wanted = _buckets(batch.column(columns.group), count, wanted)
            for i in np.unique(wanted).tolist():
                writers[i].write_batch(rows.filter(pa.array(wanted == i)))
            done += batch.num_rows
    return parts


def _buckets(groups: pa.Array, count: int, otherwise: Indices) -> Indices:
    """The part for each row: the same for all of a group; as told for rows without one."""
    names = groups.to_pylist()
    return np.array(
        [
            bucket if name is None else zlib.crc32(str(name).encode()) % count
            for name, bucket in zip(names, otherwise.tolist(), strict=True)
        ],
        dtype=np.int64,
    )


def read_units(part: RowPart) -> None:
    """The units of a part: their texts, normalised, in one file, and all else in another."""
    with pa.memory_map(str(part.rows)) as stream:
        table = pa.ipc.open_file(stream).read_all()
        numbers = table[ROW].to_numpy()
        table = table.drop_columns([ROW])
        units, without_text = rows_as_units(table, part.columns, place=part.place)
        held = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        texts = [normalise_for_match(unit.text) for unit in units]
        places = write_texts(part.folder, part.number, texts)
        columns = [
            np.full(len(units), part.source, np.int32),
            [unit.order[0] for unit in units],
            [unit.id for unit in units],
            _lists([unit.rows for unit in units], numbers),
            *_digests(units, texts, held),
            *places.T,
        ]
        arrays = [
            c.cast(field.type) if isinstance(c, pa.Array) else pa.array(c, field.type)
            for c, field in zip(columns, UNITS, strict=True)
        ]
    with pa.ipc.new_file(part.units, UNITS) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=UNITS))
    np.save(part.without_text, numbers[without_text])
    part.rows.unlink()


def _lists(rows: Sequence[Sequence[int]], numbers: NDArray[np.int64]) -> pa.ListArray:
    """The numbers of each unit's rows."""
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    flat = np.fromiter(chain.from_iterable(rows), np.int64, int(offsets[-1]))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers[flat]))


def _digests(
    units: Sequence[Unit], texts: Sequence[str], held: Sequence[tuple[object, ...]]
) -> Iterator[NDArray[np.uint64]]:
    known = {guard: _digest(repr(guard).encode(), 8) for guard in {unit.guard for unit in units}}
    guards = [known[unit.guard] for unit in units]
    keys = [_digest(g + _encoded(text), 16) for text, g in zip(texts, guards, strict=True)]
    contents = [_digest(_encoded(repr([held[row] for row in unit.rows])), 8) for unit in units]
    yield from np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 2).T
    yield np.frombuffer(b"".join(guards), np.uint64)
    yield np.frombuffer(b"".join(contents), np.uint64)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(content: bytes, size: int) -> bytes:
    return blake2b(content, digest_size=size).digest()


@dataclass(frozen=True)
class RankedUnits:
    """All units of some files. `order` are their numbers in the table, best first, earlier files before all
    others; `first` and `text_of` are those of their distinct texts (see `settle`)."""

    table: pa.Table
    order: Indices
    first: Indices
    text_of: Indices
    guards: Indices
    places: NDArray[np.int64]


def rank_units(parts: Sequence[RowPart]) -> RankedUnits:
    """The units of all parts, in an order that depends on what they hold. Ties go by the file's own order."""
    table = pa.concat_tables(pa.ipc.open_file(pa.memory_map(str(part.units))).read_all() for part in parts)
    table = table.append_column("row", pc.list_element(table["rows"], 0))
    keys = ("source", "order", "id", "text", "text_too", "content", "row")
    order = pc.sort_indices(table, [(name, "ascending") for name in keys]).to_numpy().astype(np.int64)

    def ranked(name: str) -> NDArray[np.uint64]:
        return np.asarray(table[name].to_numpy()[order])

    first, text_of = _distinct(ranked("text"), ranked("text_too"))
    _, guards = np.unique(ranked("guard")[first], return_inverse=True)
    places = [ranked(name)[first] for name in ("file", "start", "stop")]
    return RankedUnits(table, order, first, text_of, guards, np.stack(places, axis=1))


def _distinct(keys: NDArray[np.uint64], more: NDArray[np.uint64]) -> tuple[Indices, Indices]:
    """Where each distinct pair of keys stands first, in that order, and for every pair its number there."""
    by_key = np.lexsort((more, keys))
    keys, more = keys[by_key], more[by_key]
    new = np.concatenate([[True], (keys[1:] != keys[:-1]) | (more[1:] != more[:-1])])[: len(keys)]
    starts = by_key[new]
    rank = np.empty(len(starts), np.int64)
    rank[np.argsort(starts)] = np.arange(len(starts))
    text_of = np.empty(len(keys), np.int64)
    text_of[by_key] = rank[np.cumsum(new) - 1]
    return np.sort(starts), text_of
