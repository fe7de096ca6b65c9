"""Convert rows of any table to units, in memory (`rows_to_units`) or part by part on disk."""

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
from tasks.near_duplicates.parts import Indices, write_texts
from tasks.near_duplicates.units import Unit
from tasks.text.normalize import normalise_for_match


@dataclass(frozen=True)
class ColumnRoles:
    """The roles of the columns of a table."""

    text: str
    slots: tuple[str, ...] = ()
    """Rows that differ in one of these columns are never duplicates."""
    group: str | None = None
    """Rows with equal values in this column are one unit."""
    rank: str | None = None
    """The row with the greatest value is the best. Rows without a number are last."""


def rows_to_units(
    table: pa.Table, columns: ColumnRoles, *, place: Path, source: str | None = None
) -> tuple[list[Unit], list[int]]:
    """Convert each group, or each row without a group, to a unit.

    The id of a unit is its group, else its value in the column `id`, else a hash of its content.

    Args:
        table: The rows.
        columns: The roles of the columns.
        place: Path of the table, for errors.
        source: Name of the earlier file that the rows are from.

    Returns:
        The units, and the sorted numbers of the rows without text and of the other rows of their groups.

    Raises:
        InputError: If a column is missing or has the wrong type.
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
            hint=f"its columns are {', '.join(table.column_names)}",
        )
    return table[name]


def _texts(table: pa.Table, name: str, place: Path) -> list[str]:
    """Return the texts. Missing and blank ones are falsy."""
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
            hint="rank by a numeric column. The row with the greatest value is kept",
        ) from None
    return [x if x is not None and x == x else float("-inf") for x in numbers.to_pylist()]


# Units on disk, part by part

ROW_NUMBER = "\0row"
"""Name of the temporary column with the row numbers. No input column has this name."""
PART_BYTES = 128 << 20
MAX_PART_BYTES = 512 << 20
"""Largest part of a table with groups."""
UNIT_SCHEMA = pa.schema(
    [
        ("source", pa.int32()),
        ("order", pa.float64()),
        ("id", pa.string()),
        ("rows", pa.list_(pa.int64())),
        *((name, pa.uint64()) for name in ("text", "text_too", "guard", "content")),
        *((name, pa.int64()) for name in ("file", "start", "stop")),
    ]
)
"""Units on disk.

- source: number of the file
- order: rank, smaller is better
- id, rows: see `Unit`
- text, text_too: digest (128 bits) of the guard and the normalised text
- guard, content: digests of the guard and of all cells of the rows
- file, start, stop: location of the normalised text
"""


@dataclass(frozen=True)
class RowPart:
    """Rows of a file, to be converted to units."""

    folder: Path
    number: int
    source: int
    columns: ColumnRoles
    place: Path
    """Path of the file, for errors."""

    @property
    def rows(self) -> Path:
        """File of the rows. It is deleted by `read_units`."""
        return self.folder / f"rows-{self.number:05}.arrow"

    @property
    def units(self) -> Path:
        """File of the units."""
        return self.folder / f"units-{self.number:05}.arrow"

    @property
    def without_text(self) -> Path:
        """File of the numbers of the rows without text."""
        return self.folder / f"without-text-{self.number:05}.npy"


def split_rows(
    file: TableFile,
    columns: ColumnRoles,
    *,
    folder: Path,
    place: Path,
    source: int,
    first: int,
    rows_per_part: int,
) -> list[RowPart]:
    """Write the rows of a file to parts numbered from `first`. All rows of a group are in one part.

    Raises:
        InputError: If the rows of one part take too much memory, which one large group can cause.
    """
    size = min(rows_per_part, file.rows_within(PART_BYTES))
    count = -(-file.rows // size)
    schema = pa.schema([*file.schema, (ROW_NUMBER, pa.int64())])
    with ExitStack() as open_files:
        parts: list[RowPart] = []
        writers: list[pa.ipc.RecordBatchFileWriter] = []
        bytes_of: list[int] = []

        def open_part() -> None:
            parts.append(RowPart(folder, first + len(parts), source, columns, place))
            writers.append(open_files.enter_context(pa.ipc.new_file(parts[-1].rows, schema)))
            bytes_of.append(0)

        def write(part: int, rows: pa.RecordBatch) -> None:
            writers[part].write_batch(rows)
            bytes_of[part] += rows.nbytes
            if bytes_of[part] > MAX_PART_BYTES:
                raise InputError(
                    f"the rows of one group take more than {MAX_PART_BYTES >> 20} MB",
                    place=str(place),
                    hint="group by a column with more values",
                )

        for _ in range(count if columns.group is not None else 1):
            open_part()
        done = rows_in_part = 0
        for batch in file.batches():
            numbers = np.arange(done, done + batch.num_rows)
            done += batch.num_rows
            rows = pa.RecordBatch.from_arrays([*batch.columns, pa.array(numbers)], schema=schema)
            if columns.group is not None:
                part_of = _assign_parts(batch.column(columns.group), count, numbers // size)
                for i in np.unique(part_of).tolist():
                    write(i, rows.filter(pa.array(part_of == i)))
                continue
            while rows.num_rows:
                if rows_in_part >= size or bytes_of[-1] >= PART_BYTES:
                    writers[-1].close()
                    open_part()
                    rows_in_part = 0
                write(len(parts) - 1, rows.slice(0, size - rows_in_part))
                taken = min(rows.num_rows, size - rows_in_part)
                rows_in_part, rows = rows_in_part + taken, rows.slice(taken)
    return parts


def _assign_parts(groups: pa.Array, count: int, default: Indices) -> Indices:
    """Assign rows to parts by the hash of their group. Rows without a group get the default part."""
    names = groups.to_pylist()
    return np.array(
        [
            part if name is None else zlib.crc32(str(name).encode()) % count
            for name, part in zip(names, default.tolist(), strict=True)
        ],
        dtype=np.int64,
    )


def read_units(part: RowPart) -> None:
    """Convert the rows of a part to units.

    Write the normalised texts, the units, and the rows without text.
    """
    with pa.memory_map(str(part.rows)) as stream:
        table = pa.ipc.open_file(stream).read_all()
        numbers = table[ROW_NUMBER].to_numpy()
        table = table.drop_columns([ROW_NUMBER])
        units, without_text = rows_to_units(table, part.columns, place=part.place)
        cells = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        texts = [normalise_for_match(unit.text) for unit in units]
        locations = write_texts(part.folder, part.number, texts)
        columns = [
            np.full(len(units), part.source, np.int32),
            [unit.order[0] for unit in units],
            [unit.id for unit in units],
            _row_lists([unit.rows for unit in units], numbers),
            *_digests(units, texts, cells),
            *locations.T,
        ]
        arrays = [
            c.cast(field.type) if isinstance(c, pa.Array) else pa.array(c, field.type)
            for c, field in zip(columns, UNIT_SCHEMA, strict=True)
        ]
    with pa.ipc.new_file(part.units, UNIT_SCHEMA) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=UNIT_SCHEMA))
    np.save(part.without_text, numbers[without_text])
    part.rows.unlink()


def _row_lists(rows: Sequence[Sequence[int]], numbers: NDArray[np.int64]) -> pa.ListArray:
    """Map the rows of each unit to their numbers in the file."""
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    flat = np.fromiter(chain.from_iterable(rows), np.int64, int(offsets[-1]))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers[flat]))


def _digests(
    units: Sequence[Unit], texts: Sequence[str], cells: Sequence[tuple[object, ...]]
) -> Iterator[NDArray[np.uint64]]:
    """Yield the digest columns of `UNIT_SCHEMA`."""
    by_guard = {guard: _digest(repr(guard).encode(), 8) for guard in {unit.guard for unit in units}}
    guards = [by_guard[unit.guard] for unit in units]
    keys = [_digest(g + _encode(text), 16) for text, g in zip(texts, guards, strict=True)]
    contents = [_digest(_encode(repr([cells[row] for row in unit.rows])), 8) for unit in units]
    yield from np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 2).T
    yield np.frombuffer(b"".join(guards), np.uint64)
    yield np.frombuffer(b"".join(contents), np.uint64)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(content: bytes, size: int) -> bytes:
    return blake2b(content, digest_size=size).digest()


@dataclass(frozen=True)
class RankedUnits:
    """The units of all files and their distinct texts.

    See `resolve_duplicates` for `guards`, `first` and `text_of`.
    """

    table: pa.Table
    """In any order, with the columns of `UNIT_SCHEMA`."""
    order: Indices
    """Indices into the table, best first, earlier files before all others."""
    first: Indices
    text_of: Indices
    guards: Indices
    locations: NDArray[np.int64]


def rank_units(parts: Sequence[RowPart]) -> RankedUnits:
    """Rank the units of all parts by their content. Ties are broken by the order of the file."""
    table = pa.concat_tables(pa.ipc.open_file(pa.memory_map(str(part.units))).read_all() for part in parts)
    table = table.append_column("row", pc.list_element(table["rows"], 0))
    keys = ("source", "order", "id", "text", "text_too", "content", "row")
    order = pc.sort_indices(table, [(name, "ascending") for name in keys]).to_numpy().astype(np.int64)

    def ranked(name: str) -> NDArray[np.uint64]:
        return np.asarray(table[name].to_numpy()[order])

    first, text_of = _find_first_occurrences(ranked("text"), ranked("text_too"))
    _, guards = np.unique(ranked("guard")[first], return_inverse=True)
    locations = [ranked(name)[first] for name in ("file", "start", "stop")]
    return RankedUnits(table, order, first, text_of, guards, np.stack(locations, axis=1))


def _find_first_occurrences(keys: NDArray[np.uint64], more: NDArray[np.uint64]) -> tuple[Indices, Indices]:
    """Return the sorted first indices of the distinct pairs, and the index of every pair among them."""
    by_key = np.lexsort((more, keys))
    keys, more = keys[by_key], more[by_key]
    new = np.concatenate([[True], (keys[1:] != keys[:-1]) | (more[1:] != more[:-1])])[: len(keys)]
    starts = by_key[new]
    rank = np.empty(len(starts), np.int64)
    rank[np.argsort(starts)] = np.arange(len(starts))
    text_of = np.empty(len(keys), np.int64)
    text_of[by_key] = rank[np.cumsum(new) - 1]
    return np.sort(starts), text_of
