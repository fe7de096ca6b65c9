"""Read Parquet files of unknown origin with bounded memory.

A file of a few megabytes may expand to gigabytes, because equal values are stored once. So the number of rows
and cells is checked in the metadata first, the sizes of pages in their headers, text is read as dictionaries,
and its full size is computed before it is expanded.

`read_parquet` and `scan_parquet` limit the whole table. `stream_parquet` reads tables of any size, and limits
each batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import InputError
from tasks.files.pages import Page, read_pages

MAX_ROWS = 20_000_000
MAX_CELLS = 500_000_000
"""Values in all columns together. Values inside lists count."""
MAX_COLUMNS = 2_000
MAX_BYTES = 2 << 30
"""Largest size of a table in memory. `COUNTERFOIL_MAX_TABLE_MB` names another one."""
MAX_BYTES_VARIABLE = "COUNTERFOIL_MAX_TABLE_MB"
BATCH_ROWS = 8192
STREAMED_ROWS = 65_536
MAX_BATCH_BYTES = 256 << 20
"""Largest batch of a streamed table, expanded. A row is never larger."""
MAX_PAGE_BYTES = 256 << 20
"""Largest page after decompression. Writers make pages of about 1 MB."""
READ_BYTES = 1 << 20
"""Bytes of a column chunk that are read at once."""
SMALL_BATCH_ROWS = 64
"""Rows per batch of a file with columns that cannot be read as dictionaries."""


class TooLargeError(InputError):
    """A table is larger than it may be."""


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file, with the schema metadata removed.

    Args:
        path: The file.
        columns: The columns to read. The default is all.

    Raises:
        TooLargeError: If the table is larger than the limits.
        pa.ArrowException: If the file is damaged.
        OSError: If it is damaged or cannot be read.
    """
    schema = read_schema(path)
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    try:
        return pa.Table.from_batches(list(scan_parquet(path, columns)), schema)
    except pa.ArrowMemoryError:  # damaged lengths ask for any amount of memory
        raise _too_large(path, "data for more memory than is free", f"{max_bytes() >> 20:,} MB") from None


def read_schema(path: Path) -> pa.Schema:
    """Return the schema of a file whose metadata is within the limits, without its metadata."""
    with pq.ParquetFile(path) as file:
        check_metadata(path, file.metadata)
        return file.schema_arrow.remove_metadata()


def scan_parquet(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file in batches, and stop when their size passes the limit.

    Raises:
        TooLargeError: If the rows together are larger than the limit.
    """
    schema, total, limit = read_schema(path), 0, max_bytes()
    sizes = _check_pages(path)
    if (size := sum(chunk.total for chunk in sizes.values())) > limit:
        raise _too_large(path, f"{size >> 20:,} MB of data", f"{limit >> 20:,} MB")
    for batch in _scan(path, schema, columns, rows=BATCH_ROWS):
        total += sum(expanded_size(column) for column in batch.columns)
        if total > limit:
            raise _too_large(path, f"more than {limit >> 20:,} MB of data", f"{limit >> 20:,} MB")
        yield _expand_batch(batch, schema)


def stream_parquet(path: Path, rows: int = STREAMED_ROWS) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file of any size in batches of at most `MAX_BATCH_BYTES`.

    Args:
        path: The file.
        rows: Maximum number of rows per batch.

    Raises:
        TooLargeError: If one page or one row is larger than a batch may be.
        InputError: If a page cannot be read.
        pa.ArrowException: If the file is damaged.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        if file.metadata.num_columns > MAX_COLUMNS:
            raise _too_large(path, f"{file.metadata.num_columns:,} columns", f"{MAX_COLUMNS:,}")
    sizes = _check_pages(path)
    # Pages are decompressed whole, so a batch takes at least the two pages that a row may touch.
    bound = max(MAX_BATCH_BYTES, 2 * sum(chunk.largest(1) for chunk in sizes.values()))
    while rows > 1 and sum(chunk.largest(rows) for chunk in sizes.values()) > bound:
        rows //= 2
    try:
        for batch in _scan(path, schema, None, rows=rows):
            for part in _split(path, batch):
                yield _expand_batch(part, schema)
    except pa.ArrowMemoryError:  # damaged lengths ask for any amount of memory
        raise _too_large(path, "data for more memory than is free", f"{MAX_BATCH_BYTES >> 20:,} MB") from None


def _scan(path: Path, schema: pa.Schema, columns: list[str] | None, *, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches whose texts are dictionaries, so that equal texts take memory once."""
    expandable = {field.name for field in schema if _is_expandable(field.type)}
    leaves = pq.read_metadata(path).schema
    texts = [
        column.path
        for column in map(leaves.column, range(len(leaves)))
        if column.physical_type == "BYTE_ARRAY" and column.path.split(".")[0] in expandable
    ]
    if len(expandable) < len(schema):
        rows = min(rows, SMALL_BATCH_ROWS)
    with pq.ParquetFile(path, read_dictionary=texts, buffer_size=READ_BYTES) as file:
        # Arrow cannot read nested dictionaries across row groups.
        for group in range(file.num_row_groups):
            yield from file.iter_batches(batch_size=rows, row_groups=[group], columns=columns)


def _split(path: Path, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a batch in parts that are small after expansion."""
    size = sum(expanded_size(column) for column in batch.columns)
    if size <= MAX_BATCH_BYTES:
        yield batch
    elif batch.num_rows == 1:
        raise _too_large(path, f"a row of {size >> 20:,} MB", f"{MAX_BATCH_BYTES >> 20:,} MB")
    else:
        half = batch.num_rows // 2
        yield from _split(path, batch.slice(0, half))
        yield from _split(path, batch.slice(half))


def _expand_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    fields = [schema.field(name) for name in batch.schema.names]
    arrays = [_expand(column, f.type) for column, f in zip(batch.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, metadata=schema.metadata))


class _ColumnPages:
    """The sizes of the pages of one column."""

    def __init__(self, *, is_nested: bool) -> None:
        self._is_nested = is_nested
        self._values = [0]
        self._sizes = [0]

    def add(self, page: Page) -> None:
        self._values.append(self._values[-1] + page.values)
        self._sizes.append(self._sizes[-1] + page.size)

    @property
    def total(self) -> int:
        """Bytes of all pages."""
        return self._sizes[-1]

    def largest(self, rows: int) -> int:
        """Return an upper bound of the bytes that consecutive rows take in the pages.

        A row of a nested column has any number of values, so these columns are bounded by `_split`.
        """
        if self._is_nested or len(self._values) == 1:
            return 0
        values, sizes = np.array(self._values), np.array(self._sizes)
        last = np.searchsorted(values[1:], np.minimum(values[1:] - 1 + rows, values[-1]) - 1, side="right")
        last = np.minimum(last, len(values) - 2)
        return int(np.max(sizes[last + 1] - sizes[:-1]))


def _check_pages(path: Path) -> dict[int, _ColumnPages]:
    """Return the sizes of all pages by column. Raise `TooLargeError` if a page is too large."""
    metadata = pq.read_metadata(path)
    schema = metadata.schema
    pages = {
        number: _ColumnPages(is_nested=schema.column(number).max_repetition_level > 0)
        for number in range(metadata.num_columns)
    }
    for number, page in read_pages(path, metadata):
        if page.size > MAX_PAGE_BYTES:
            raise _too_large(path, f"a page of {page.size >> 20:,} MB", f"{MAX_PAGE_BYTES >> 20:,} MB")
        pages[number].add(page)
    return pages


def check_metadata(path: Path, metadata: pq.FileMetaData) -> None:
    """Raise `TooLargeError` if the metadata of a file names more than the limits."""
    if metadata.num_columns > MAX_COLUMNS:
        raise _too_large(path, f"{metadata.num_columns:,} columns", f"{MAX_COLUMNS:,}")
    if metadata.num_rows > MAX_ROWS:
        raise _too_large(path, f"{metadata.num_rows:,} rows", f"{MAX_ROWS:,}")
    cells, size = 0, 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(metadata.num_columns)):
            cells += max(column.num_values, group.num_rows)
            size += max(column.total_uncompressed_size, 0)
    if cells > MAX_CELLS:
        raise _too_large(path, f"{cells:,} values", f"{MAX_CELLS:,}")
    if size > max_bytes():
        raise _too_large(path, f"{size >> 20:,} MB of data", f"{max_bytes() >> 20:,} MB")


def expanded_size(array: pa.Array) -> int:
    """Return the size of an array in bytes after its dictionaries are expanded."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary)
        used = pc.sum(pc.take(lengths, array.indices)).as_py() or 0
        return int(used) + 4 * len(array)
    if pa.types.is_struct(kind):
        return sum(expanded_size(part) for part in array.flatten()) + len(array)
    if pa.types.is_map(kind):
        return expanded_size(array.keys) + expanded_size(array.items) + 4 * len(array)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return expanded_size(array.flatten()) + 4 * len(array)
    return int(array.nbytes)


def max_bytes() -> int:
    """Return the largest size of a table in bytes."""
    text = os.environ.get(MAX_BYTES_VARIABLE, "")
    return int(text) << 20 if text.isascii() and text.isdigit() else MAX_BYTES


def _is_expandable(kind: Any) -> bool:
    """Return whether Arrow can read the texts of a column as dictionaries and expand them again."""
    if pa.types.is_nested(kind):
        return all(_is_expandable(kind.field(i).type) for i in range(kind.num_fields))
    return not (pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _expand(array: pa.Array, kind: Any) -> pa.Array:
    return array if array.type == kind else array.cast(kind)


def _too_large(path: Path, size: str, limit: str) -> TooLargeError:
    return TooLargeError(
        f"{path.name} has {size}. The limit for a table is {limit}",
        place=str(path),
        hint=f"if you trust the file, set {MAX_BYTES_VARIABLE} to a larger number of megabytes",
    )
