"""Read the page headers of a Parquet file, before Arrow reserves memory for what they promise.

The metadata at the end of a file names the size of each column chunk. The pages of the chunk have headers of
their own, and Arrow believes those. A damaged or hostile header may name 2 GiB for a page of a few bytes.

References:
    PageHeader and the compact protocol: github.com/apache/parquet-format, parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from schemas.errors import InputError

MAX_HEADER_BYTES = 16 << 20
"""Arrow reads no larger page header either."""
MAX_PAGES = 2_000_000
MAX_ELEMENTS = 100_000
"""Elements of a list inside a header."""
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
_UNCOMPRESSED, _COMPRESSED = 2, 3
_DATA, _DICTIONARY, _DATA_V2 = 5, 7, 8
MAX_DEPTH = 8


@dataclass(frozen=True)
class Page:
    """One page of a column chunk."""

    values: int
    """Number of values. 0 for a dictionary."""
    size: int
    """Bytes after decompression."""


def read_pages(path: Path, metadata: pq.FileMetaData) -> Iterator[tuple[int, Page]]:
    """Yield the column number and the page of every page in a file, by row group.

    Raises:
        InputError: If a header cannot be read.
    """
    end, count = path.stat().st_size, 0
    with path.open("rb") as file:
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for number in range(metadata.num_columns):
                try:
                    for page in _read_chunk(file, group.column(number), end):
                        count += 1
                        if count > MAX_PAGES:
                            raise ValueError(f"the file has more than {MAX_PAGES:,} pages")
                        yield number, page
                except (EOFError, ValueError) as error:
                    raise InputError(
                        f"{path.name} is damaged: a page of column {number + 1} cannot be read ({error})",
                        place=str(path),
                    ) from None


def _read_chunk(file: IO[bytes], chunk: Any, end: int) -> Iterator[Page]:
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset and 0 < chunk.dictionary_page_offset < start:
        start = chunk.dictionary_page_offset
    seen = 0
    while seen < chunk.num_values:
        if not 0 <= start < end:
            raise ValueError("it is outside the file")
        header = _Header(file, start)
        compressed, uncompressed = header.number(_COMPRESSED), header.number(_UNCOMPRESSED)
        if compressed < 0 or uncompressed < 0:
            raise ValueError("its size is negative")
        values = max(header.values, 0)
        yield Page(values, uncompressed)
        seen += values
        start = header.position + compressed


class _Header:
    """A page header in the compact protocol of Thrift. Only sizes and counts are kept."""

    def __init__(self, file: IO[bytes], start: int) -> None:
        self._file = file
        self._limit = start + MAX_HEADER_BYTES
        self.position = start
        self.values = 0
        self._numbers: dict[int, int] = {}
        file.seek(start)
        for field, kind in self._fields():
            if field in (_DATA, _DATA_V2) and kind == _STRUCT:
                self.values = self._first_number()
            elif kind in (4, 5, 6):
                self._numbers[field] = self._zigzag()
            else:
                self._skip(kind, 0)

    def number(self, field: int) -> int:
        if field not in self._numbers:
            raise ValueError("its header has no size")
        return self._numbers[field]

    def _first_number(self) -> int:
        found = 0
        for field, kind in self._fields():
            if field == 1 and kind == 5:
                found = self._zigzag()
            else:
                self._skip(kind, 1)
        return found

    def _fields(self) -> Iterator[tuple[int, int]]:
        field = 0
        while True:
            byte = self._byte()
            kind, step = byte & 0x0F, byte >> 4
            if kind == _STOP:
                return
            field = field + step if step else self._zigzag()
            yield field, kind

    def _skip(self, kind: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError("its header is nested too deeply")
        if kind in (_TRUE, _FALSE):
            return
        if kind == _BYTE:
            self._take(1)
        elif kind in (4, 5, 6):
            self._varint()
        elif kind == _DOUBLE:
            self._take(8)
        elif kind == _BINARY:
            self._take(self._varint())
        elif kind in (_LIST, _SET):
            byte = self._byte()
            size = self._varint() if byte >> 4 == 15 else byte >> 4
            self._skip_elements([byte & 0x0F], size, depth)
        elif kind == _MAP:
            if size := self._varint():
                kinds = self._byte()
                self._skip_elements([kinds >> 4, kinds & 0x0F], size, depth)
        elif kind == _STRUCT:
            for _, inner in self._fields():
                self._skip(inner, depth + 1)
        else:
            raise ValueError("its header has an unknown type")

    def _skip_elements(self, kinds: list[int], count: int, depth: int) -> None:
        if count > MAX_ELEMENTS:
            raise ValueError("a list in its header is too long")
        for _ in range(count):
            for kind in kinds:
                if kind in (_TRUE, _FALSE):
                    self._take(1)
                else:
                    self._skip(kind, depth + 1)

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        self.position += count
        if self.position > self._limit:
            raise ValueError("its header is too long")
        content = self._file.read(count)
        if len(content) < count:
            raise EOFError("the file ends in its header")
        return content

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number in its header is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
