"""Read Parquet files of unknown origin with bounded memory.

A file of a few megabytes may expand to gigabytes, because equal values are stored once. So the number of rows
and cells is checked in the metadata first, text is read as dictionaries, and its full size is computed before
it is expanded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import InputError

MAX_ROWS = 20_000_000
MAX_CELLS = 500_000_000
"""Values in all columns together. Values inside lists count."""
MAX_COLUMNS = 2_000
MAX_BYTES = 2 << 30
"""Largest size of a table in memory. `COUNTERFOIL_MAX_TABLE_MB` names another one."""
MAX_BYTES_VARIABLE = "COUNTERFOIL_MAX_TABLE_MB"
BATCH_ROWS = 8192
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
    expandable = {field.name for field in schema if _is_expandable(field.type)}
    leaves = pq.read_metadata(path).schema
    texts = [
        column.path
        for column in map(leaves.column, range(len(leaves)))
        if column.physical_type == "BYTE_ARRAY" and column.path.split(".")[0] in expandable
    ]
    rows = BATCH_ROWS if len(expandable) == len(schema) else SMALL_BATCH_ROWS
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(batch_size=rows, columns=columns):
            total += sum(expanded_size(column) for column in batch.columns)
            if total > limit:
                raise _too_large(path, f"more than {limit >> 20:,} MB of data", f"{limit >> 20:,} MB")
            fields = [schema.field(name) for name in batch.schema.names]
            arrays = [_expand(column, f.type) for column, f in zip(batch.columns, fields, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


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
    if pa.types.is_list(kind):
        return expanded_size(array.flatten()) + 4 * len(array)
    return int(array.nbytes)


def max_bytes() -> int:
    """Return the largest size of a table in bytes."""
    text = os.environ.get(MAX_BYTES_VARIABLE, "")
    return int(text) << 20 if text.isascii() and text.isdigit() else MAX_BYTES


def _is_expandable(kind: Any) -> bool:
    """Return whether Arrow can read the texts of a column as dictionaries and expand them again."""
    if pa.types.is_struct(kind):
        return all(_is_expandable(field.type) for field in kind)
    if pa.types.is_list(kind):
        return _is_expandable(kind.value_type)
    return bool(pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_boolean(kind))


def _expand(array: pa.Array, kind: Any) -> pa.Array:
    return array if array.type == kind else array.cast(kind)


def _too_large(path: Path, size: str, limit: str) -> TooLargeError:
    return TooLargeError(
        f"{path.name} has {size}. The limit for a table is {limit}",
        place=str(path),
        hint=f"if you trust the file, set {MAX_BYTES_VARIABLE} to a larger number of megabytes",
    )
