"""Read the column chunks that the footer of a Parquet file names.

PyArrow ends the whole process, without an exception, if it is asked for a column chunk whose metadata
contradict each other (seen with pyarrow 26: `Definition level histogram size mismatch`). So a footer of
unknown origin is read here.

References:
    FileMetaData: github.com/apache/parquet-format, parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from schemas.errors import InputError
from tasks.files.thrift import LIST, NUMBERS, STRUCT, ThriftReader

MAX_FOOTER_BYTES = 64 << 20
MAX_CHUNKS = 500_000
"""Column chunks of a file."""
REMEMBERED_BYTES = 64 << 10
"""Largest footer whose row groups are kept in memory."""
_END = 8
"""Bytes after the footer: its length and `PAR1`."""
_ROW_GROUPS, _COLUMNS, _ROWS, _METADATA = 4, 1, 3, 3
_CODEC, _VALUES, _SIZE, _DATA_PAGE, _DICTIONARY_PAGE = 4, 5, 6, 9, 11
_CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """The values of one column in a row group."""

    values: int
    size: int
    """Bytes after decompression."""
    start: int
    """First byte of the first page in the file."""
    compression: str


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that are stored together."""

    rows: int
    columns: tuple[ColumnChunk, ...]


def read_row_groups(path: Path, columns: int) -> tuple[RowGroup, ...]:
    """Return the row groups of a file.

    Args:
        path: The file.
        columns: Number of columns without nesting in the schema.

    Raises:
        InputError: If the footer is damaged or too large.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - _END, 0))
            end = file.read(_END)
            length = int.from_bytes(end[:4], "little")
            if len(end) < _END or end[4:] != b"PAR1" or length > size - _END:
                raise ValueError("the file ends too early")
            if length > MAX_FOOTER_BYTES:
                raise ValueError(f"its footer is larger than {MAX_FOOTER_BYTES >> 20} MB")
            if length <= REMEMBERED_BYTES:
                file.seek(size - _END - length)
                groups = _read_small_footer(file.read(length))
            else:
                groups = tuple(_read_groups(ThriftReader(file, size - _END - length, length)))
    except (EOFError, ValueError) as error:
        raise InputError(
            f"{path.name} is damaged: its metadata cannot be read ({error})", place=str(path)
        ) from None
    if any(len(group.columns) != columns for group in groups):
        raise InputError(
            f"{path.name} is damaged: a row group does not have the {columns} columns of the schema",
            place=str(path),
        )
    return groups


@lru_cache(maxsize=64)
def _read_small_footer(footer: bytes) -> tuple[RowGroup, ...]:
    """Return the row groups of a footer. A file is opened several times, and its footer is parsed once."""
    return tuple(_read_groups(ThriftReader(BytesIO(footer), 0, len(footer))))


def _read_groups(reader: ThriftReader) -> Iterator[RowGroup]:
    chunks = 0
    for field, kind in reader.fields():
        if field != _ROW_GROUPS or kind != LIST:
            reader.skip(kind)
            continue
        for element in reader.elements():
            if element != STRUCT:
                raise ValueError("a row group has another type")
            group = _read_group(reader)
            chunks += len(group.columns)
            if chunks > MAX_CHUNKS:
                raise ValueError(f"it has more than {MAX_CHUNKS:,} column chunks")
            yield group


def _read_group(reader: ThriftReader) -> RowGroup:
    rows, columns = 0, []
    for field, kind in reader.fields():
        if field == _COLUMNS and kind == LIST:
            for element in reader.elements():
                if element != STRUCT:
                    raise ValueError("a column chunk has another type")
                columns.append(_read_chunk(reader))
                if len(columns) > MAX_CHUNKS:
                    raise ValueError(f"it has more than {MAX_CHUNKS:,} column chunks")
        elif field == _ROWS and kind in NUMBERS:
            rows = reader.integer()
        else:
            reader.skip(kind)
    return RowGroup(rows, tuple(columns))


def _read_chunk(reader: ThriftReader) -> ColumnChunk:
    found: dict[int, int] = {}
    for field, kind in reader.fields():
        if field == _METADATA and kind == STRUCT:
            found = reader.numbers()
        else:
            reader.skip(kind)
    if not {_CODEC, _VALUES, _SIZE, _DATA_PAGE} <= found.keys():
        raise ValueError("a column chunk has no size or place")
    if not 0 <= found[_CODEC] < len(_CODECS):
        raise ValueError("a column chunk has an unknown compression")
    start, dictionary = found[_DATA_PAGE], found.get(_DICTIONARY_PAGE, 0)
    if 0 < dictionary < start:
        start = dictionary
    return ColumnChunk(found[_VALUES], found[_SIZE], start, _CODECS[found[_CODEC]])
