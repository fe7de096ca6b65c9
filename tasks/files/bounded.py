"""Read Parquet files of unknown origin with bounded memory.

A file of a few megabytes may expand to gigabytes, because equal values are stored once. So the number of rows
and cells is checked in the metadata first, and the sizes of pages in their headers. The rows of nested
columns are counted from their levels, because a single row may have any number of values. Text is read as
dictionaries, and its full size is computed before it is expanded.

`read_parquet` and `scan_parquet` limit the whole table. `stream_parquet` reads tables of any size, and limits
each batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import InputError
from tasks.files.footer import ColumnChunk, RowGroup, read_row_groups
from tasks.files.limits import (
    MAX_BYTES_VARIABLE,
    MAX_ROWS_VARIABLE,
    Expansion,
    RowLimit,
    free_rows,
    max_bytes,
)
from tasks.files.pages import Page, RowLengths, damaged_page, read_pages

MAX_ROWS = 20_000_000
MAX_CELLS = 500_000_000
"""Values in all columns together. Values inside lists count."""
MAX_COLUMNS = 2_000
BATCH_ROWS = 8192
STREAMED_ROWS = 65_536
MAX_BATCH_BYTES = 64 << 20
"""Largest batch of a streamed table, expanded. A row is never larger."""
MAX_PAGE_BYTES = 256 << 20
"""Largest page after decompression. Writers make pages of about 1 MB."""
MAX_PAGES_BYTES = 384 << 20
"""Largest size of one page of every column together. They are in memory at the same time."""
MAX_UNCHECKED_BYTES = 128 << 20
"""Largest size of the nested columns of a row group whose rows are not counted: one row may have all."""
READ_BYTES = 1 << 20
"""Bytes of a column chunk that are read at once."""
LEVEL_BYTES = 4
"""Memory for the levels of a value."""
OFFSET_BYTES = 8
"""Memory for the offsets of a list or a text."""
_ROW_HINT = "the file is damaged or was not made for people. Do not use it"
_PAGE_HINT = "if you trust the file, write it again with pages of 1 MB, the default of most programs"
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
"""Bytes of a value in memory by its type in the file."""


class TooLargeError(InputError):
    """A table is larger than it may be."""


class MemoryBudget:
    """The memory and the rows that several tables together may take."""

    def __init__(self, size: int | None = None) -> None:
        """Start with a size in bytes. The default is that of one table."""
        self.size = max_bytes() if size is None else size
        self.used = 0
        self.rows = RowLimit()

    def check(self, path: Path, size: int) -> None:
        """Raise `TooLargeError` if the memory does not suffice for a table of this size."""
        if self.used + size > self.size:
            more = " together with the tables before it" if self.used else ""
            raise too_large(path, f"{size >> 20:,} MB of data{more}", f"{self.size >> 20:,} MB")

    def take(self, path: Path, size: int) -> None:
        """Take memory for a part of a table. Raise `TooLargeError` if it does not suffice."""
        if self.used + size > self.size:
            limit = f"{self.size >> 20:,} MB"
            raise too_large(path, f"more than {limit} of data", limit)
        self.used += size


def read_parquet(
    path: Path, columns: list[str] | None = None, budget: MemoryBudget | None = None
) -> pa.Table:
    """Read a Parquet file, with the schema metadata removed.

    Args:
        path: The file.
        columns: The columns to read. The default is all.
        budget: Memory that is shared with other tables. By default, this table has its own.

    Raises:
        TooLargeError: If the table is larger than the limits.
        pa.ArrowException: If the file is damaged.
        OSError: If it is damaged or cannot be read.
    """
    schema = read_schema(path)
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    try:
        return pa.Table.from_batches(list(scan_parquet(path, columns, budget)), schema)
    except pa.ArrowMemoryError:  # damaged lengths ask for any amount of memory
        raise too_large(path, "data for more memory than is free", f"{max_bytes() >> 20:,} MB") from None


def read_schema(path: Path) -> pa.Schema:
    """Return the schema of a file whose metadata is within the limits, without its metadata."""
    try:
        with pq.ParquetFile(path) as file:
            check_metadata(path, file.metadata)
            return file.schema_arrow.remove_metadata()
    except UnicodeDecodeError as error:  # from the names of columns
        raise InputError(f"{path.name} is damaged: a name is not UTF-8 ({error})", place=str(path)) from None
    except pa.ArrowNotImplementedError as error:  # an impossible type, such as an integer of 96 bits
        raise InputError(
            f"{path.name} is damaged, or has a type that is not known ({error})", place=str(path)
        ) from None


def scan_parquet(
    path: Path, columns: list[str] | None = None, budget: MemoryBudget | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file in batches, and stop when their size passes the limit.

    Raises:
        TooLargeError: If the rows together are larger than the limit.
    """
    schema, budget = read_schema(path), budget or MemoryBudget()
    check_rows(path, budget.rows)
    groups = _plan(path, schema, rows=BATCH_ROWS, max_rows_bytes=budget.size, are_rows_counted=False)
    budget.check(path, sum(group.size for group in groups))
    for batch in _scan(path, schema, columns, groups):
        budget.take(path, sum(expanded_size(column) for column in batch.columns))
        yield _expand_batch(batch, schema)


def stream_parquet(
    path: Path, rows: int = STREAMED_ROWS, limit: RowLimit | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file of any size in batches of at most `MAX_BATCH_BYTES`.

    Args:
        path: The file.
        rows: Maximum number of rows per batch.
        limit: Rows that are shared with other files. By default, this file has its own.

    Raises:
        TooLargeError: If one page or one row is larger than a batch may be.
        InputError: If a page cannot be read.
        pa.ArrowException: If the file is damaged.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        if file.metadata.num_columns > MAX_COLUMNS:
            raise too_large(path, f"{file.metadata.num_columns:,} columns", f"{MAX_COLUMNS:,}")
    check_rows(path, limit or RowLimit())
    groups = _plan(path, schema, rows=rows, max_rows_bytes=MAX_BATCH_BYTES, are_rows_counted=True)
    expansion = Expansion(path)
    try:
        for batch in _scan(path, schema, None, groups):
            expansion.add(sum(expanded_size(column) for column in batch.columns))
            for part in split_batch(path, batch):
                yield _expand_batch(part, schema)
    except pa.ArrowMemoryError:  # damaged lengths ask for any amount of memory
        raise too_large(path, "data for more memory than is free", f"{MAX_BATCH_BYTES >> 20:,} MB") from None


def measure_parquet(path: Path, limit: RowLimit | None = None) -> int:
    """Return the size in bytes of all rows of a file after expansion.

    Args:
        path: The file.
        limit: Rows that are shared with other files. By default, this file has its own.

    Raises:
        TooLargeError: As `stream_parquet`.
        InputError: If a page cannot be read.
        pa.ArrowException: If the file is damaged.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    check_rows(path, limit or RowLimit())
    groups = _plan(path, schema, rows=STREAMED_ROWS, max_rows_bytes=MAX_BATCH_BYTES, are_rows_counted=True)
    expansion = Expansion(path)
    for batch in _scan(path, schema, None, groups):
        expansion.add(sum(expanded_size(column) for column in batch.columns))
    return expansion.size


@dataclass(frozen=True)
class _Group:
    """How a row group is read."""

    rows: int
    """Rows per batch."""
    size: int
    """Upper bound of its memory before texts are expanded."""


def _scan(
    path: Path, schema: pa.Schema, columns: list[str] | None, groups: Sequence[_Group]
) -> Iterator[pa.RecordBatch]:
    """Yield batches whose texts are dictionaries, so that equal texts take memory once."""
    leaves = pq.read_metadata(path).schema
    texts = [
        column.path for column in map(leaves.column, range(len(leaves))) if _is_dictionary(column, schema)
    ]
    with pq.ParquetFile(path, read_dictionary=texts, buffer_size=READ_BYTES) as file:
        # Arrow cannot read nested dictionaries across row groups.
        for number, group in enumerate(groups):
            yield from file.iter_batches(batch_size=group.rows, row_groups=[number], columns=columns)


def _is_dictionary(column: Any, schema: pa.Schema) -> bool:
    """Return whether the values of a column of the file are read as dictionaries."""
    index = schema.get_field_index(column.path.split(".")[0])
    return column.physical_type == "BYTE_ARRAY" and index >= 0 and _is_expandable(schema.field(index).type)


def split_batch(path: Path, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a batch in parts that are small after expansion.

    Raises:
        TooLargeError: If a row is larger than a batch may be.
    """
    size = sum(expanded_size(column) for column in batch.columns)
    if size <= MAX_BATCH_BYTES:
        yield batch
    elif batch.num_rows == 1:
        raise too_large(path, f"a row of {size >> 20:,} MB", f"{MAX_BATCH_BYTES >> 20:,} MB", _ROW_HINT)
    else:
        half = batch.num_rows // 2
        yield from split_batch(path, batch.slice(0, half))
        yield from split_batch(path, batch.slice(half))


def _expand_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    fields = [schema.field(name) for name in batch.schema.names]
    arrays = [_expand(column, f.type) for column, f in zip(batch.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, metadata=schema.metadata))


class _ColumnPages:
    """The sizes of the pages of one column in a row group."""

    def __init__(self, column: Any, chunk: ColumnChunk, *, is_dictionary: bool) -> None:
        self.is_nested = column.max_repetition_level > 0
        self._is_text = column.physical_type == "BYTE_ARRAY" and not is_dictionary
        self._width = OFFSET_BYTES
        if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
            self._width = max(column.length, 1)
        elif column.physical_type != "BYTE_ARRAY":
            self._width = _WIDTHS.get(column.physical_type, OFFSET_BYTES)
        if column.max_definition_level or self.is_nested:
            self._width += LEVEL_BYTES + OFFSET_BYTES * self.is_nested
        self.lengths = RowLengths(column.max_repetition_level, chunk.compression) if self.is_nested else None
        self.pages: list[Page] = []
        self._rows = [0]

    def add(self, page: Page) -> None:
        self.pages.append(page)
        if self._is_text and page.is_dictionary:  # each value may be the whole dictionary
            self._width += page.size

    def count_rows(self, file: IO[bytes]) -> None:
        """Read the repetition levels. Raise `ValueError` if they cannot be read."""
        for page in self.pages:
            if self.lengths is not None:
                self.lengths.add(file, page)
                self._rows.append(self.lengths.rows)

    @property
    def largest_page(self) -> int:
        """Bytes of the largest page and of the dictionary."""
        data = max((page.size for page in self.pages if not page.is_dictionary), default=0)
        return data + max((page.size for page in self.pages if page.is_dictionary), default=0)

    @property
    def total(self) -> int:
        """Bytes of all pages and values."""
        return sum(page.size + page.values * self._width for page in self.pages)

    @property
    def longest_row(self) -> int:
        """Bytes of the values of the longest row, without the bytes of the pages."""
        if not self.is_nested:
            return self._width
        longest = self.lengths.longest if self.lengths is not None and len(self._rows) > 1 else None
        return (sum(page.values for page in self.pages) if longest is None else longest) * self._width

    def largest(self, rows: int) -> int:
        """Return an upper bound of the bytes of consecutive rows, in the pages and in memory."""
        if not self.pages:
            return 0
        if not self.is_nested:
            ends = np.cumsum([0, *(page.values for page in self.pages)])
        elif len(self._rows) > 1:
            ends = np.array(self._rows)
        else:
            return self.total
        sizes = np.cumsum([0, *(page.size for page in self.pages)])
        next_row = np.minimum(ends[1:] - 1 + rows, ends[-1] - 1)
        last = np.minimum(np.searchsorted(ends[1:], next_row, side="right"), len(self.pages) - 1)
        last = np.maximum(last, np.arange(len(self.pages)))
        return int(np.max(sizes[last + 1] - sizes[:-1])) + min(rows * self.longest_row, self.total)


def _plan(
    path: Path, schema: pa.Schema, *, rows: int, max_rows_bytes: int, are_rows_counted: bool
) -> list[_Group]:
    """Decide how many rows of each row group are read at once.

    Args:
        path: The file.
        schema: Its schema.
        rows: Maximum number of rows per batch.
        max_rows_bytes: Largest row.
        are_rows_counted: Whether large nested columns are read once to find their longest row.

    Raises:
        TooLargeError: If a page or a row is too large.
        InputError: If a page cannot be read.
    """
    leaves = pq.read_metadata(path).schema
    groups = []
    with path.open("rb") as file:
        for row_group in read_row_groups(path, len(leaves)):
            columns = [
                _ColumnPages(leaves.column(i), chunk, is_dictionary=_is_dictionary(leaves.column(i), schema))
                for i, chunk in enumerate(row_group.columns)
            ]
            for i, page in read_pages(path, row_group.columns):
                if page.size > MAX_PAGE_BYTES:
                    raise too_large(path, f"a page of {page.size >> 20:,} MB", f"{MAX_PAGE_BYTES >> 20:,} MB")
                columns[i].add(page)
            if (size := sum(column.largest_page for column in columns)) > MAX_PAGES_BYTES:
                raise too_large(
                    path, f"pages of {size >> 20:,} MB", f"{MAX_PAGES_BYTES >> 20:,} MB", _PAGE_HINT
                )
            nested = sum(column.total for column in columns if column.is_nested)
            for i, column in enumerate(columns):
                if are_rows_counted and nested > MAX_UNCHECKED_BYTES:
                    try:
                        column.count_rows(file)
                    except ValueError as error:
                        raise damaged_page(path, i, error) from None
            row = sum(column.longest_row for column in columns)
            if are_rows_counted and row > max(max_rows_bytes, MAX_UNCHECKED_BYTES):
                raise too_large(path, f"a row of {row >> 20:,} MB", f"{max_rows_bytes >> 20:,} MB", _ROW_HINT)
            groups.append(_Group(_fitting_rows(columns, rows), sum(column.total for column in columns)))
    return groups


def _fitting_rows(columns: Sequence[_ColumnPages], rows: int) -> int:
    """Return the largest number of rows that fit into a batch."""
    if 2 * sum(column.total for column in columns) <= MAX_BATCH_BYTES:
        return rows  # all pages and all values fit
    # Pages are decompressed whole, so a batch takes at least the two pages that a row may touch.
    bound = max(MAX_BATCH_BYTES, sum(column.largest(1) for column in columns))
    while rows > 1 and sum(column.largest(rows) for column in columns) > bound:
        rows //= 2
    return rows


def check_metadata(path: Path, metadata: pq.FileMetaData) -> None:
    """Raise `TooLargeError` if the metadata of a file names more than the limits."""
    if metadata.num_columns > MAX_COLUMNS:
        raise too_large(path, f"{metadata.num_columns:,} columns", f"{MAX_COLUMNS:,}")
    rows, values, groups = _count_rows(path, metadata)
    for count, limit, unit in (
        (rows, max(MAX_ROWS, free_rows(0)), "rows"),
        (values, max(MAX_CELLS, free_rows(0)), "values"),
    ):
        if count > limit:
            hint = f"if you trust the file, set {MAX_ROWS_VARIABLE} to {count}"
            raise too_large(path, f"{count:,} {unit}", f"{limit:,}", hint)
    size = sum(max(column.size, 0) for group in groups for column in group.columns)
    if size > max_bytes():
        raise too_large(path, f"{size >> 20:,} MB of data", f"{max_bytes() >> 20:,} MB")


def check_rows(path: Path, limit: RowLimit) -> None:
    """Raise `InputError` if the metadata of a file name too many rows or values for its size on disk."""
    rows, values, _ = _count_rows(path, pq.read_metadata(path))
    limit.open(path).add(path, rows, values)


def _count_rows(path: Path, metadata: pq.FileMetaData) -> tuple[int, int, tuple[RowGroup, ...]]:
    """Return the rows and values of a file, and its row groups. Raise `InputError` if they contradict."""
    groups = read_row_groups(path, metadata.num_columns)
    rows = sum(group.rows for group in groups)
    if rows != metadata.num_rows or any(group.rows < 0 for group in groups):
        raise InputError(
            f"{path.name} is damaged: it has {metadata.num_rows:,} rows, and its row groups have {rows:,}",
            place=str(path),
        )
    values = sum(max(column.values, group.rows) for group in groups for column in group.columns)
    return rows, values, groups


def expanded_size(array: pa.Array) -> int:
    """Return the size of an array in bytes after its dictionaries are expanded."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return len(array) * max(1, int(array.dictionary.nbytes) // max(1, len(array.dictionary)))
        lengths = pc.binary_length(array.dictionary)
        used = pc.sum(pc.take(lengths, array.indices)).as_py() or 0
        return int(used) + 4 * len(array)
    if pa.types.is_struct(kind):
        return sum(expanded_size(part) for part in array.flatten()) + len(array)
    if pa.types.is_map(kind):
        first, last = (
            array.offsets[i].as_py() for i in (0, -1)
        )  # keys and items are those of the whole array
        parts = (part.slice(first, last - first) for part in (array.keys, array.items))
        return sum(map(expanded_size, parts)) + 4 * len(array)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return expanded_size(array.flatten()) + 4 * len(array)
    return int(array.nbytes)


def _is_text(kind: Any) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_expandable(kind: Any) -> bool:
    """Return whether Arrow can read the texts of a column as dictionaries and expand them again."""
    if pa.types.is_nested(kind):
        return all(_is_expandable(kind.field(i).type) for i in range(kind.num_fields))
    return not (pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _expand(array: pa.Array, kind: Any) -> pa.Array:
    return array if array.type == kind else array.cast(kind)


def too_large(path: Path, size: str, limit: str, hint: str = "") -> TooLargeError:
    """Return the error for a table that has more than a limit."""
    return TooLargeError(
        f"{path.name} has {size}. The limit is {limit}",
        place=str(path),
        hint=hint or f"if you trust the file, set {MAX_BYTES_VARIABLE} to a larger number of megabytes",
    )
