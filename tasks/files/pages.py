"""Read the headers and levels of Parquet pages, before Arrow reserves memory for what they promise.

The metadata at the end of a file names the size of each column chunk. The pages of the chunk have headers of
their own, and Arrow believes those. A damaged or hostile header may name 2 GiB for a page of a few bytes.

References:
    PageHeader: github.com/apache/parquet-format, parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from schemas.errors import InputError
from tasks.files.footer import ColumnChunk
from tasks.files.thrift import NUMBERS, STRUCT, ThriftReader

MAX_HEADER_BYTES = 16 << 20
"""Arrow reads no larger page header either."""
MAX_PAGES = 500_000
"""Pages of a row group."""
MAX_RUNS = 100_000_000
"""Runs of repetition levels in a column chunk. Each takes about a microsecond to read."""
LITERAL_STEP = 1 << 20
"""Levels that are unpacked at once."""
_UNCOMPRESSED, _COMPRESSED = 2, 3
_DATA, _DICTIONARY, _DATA_V2 = 5, 7, 8
_VALUES, _LEVEL_ENCODING, _LEVEL_BYTES = 1, 4, 6
"""Fields of the header of a data page: values, encoding of the repetition levels (version 1), and their
length in bytes (version 2)."""
_RLE = 3


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a column chunk."""

    values: int
    """Number of values. 0 for a dictionary."""
    size: int
    """Bytes after decompression."""
    position: int
    """First byte of the content in the file."""
    stored: int
    """Bytes in the file."""
    level_encoding: int = _RLE
    """Encoding of the repetition levels in a page of version 1."""
    level_bytes: int | None = None
    """Length of the repetition levels in a page of version 2."""
    is_dictionary: bool = False


def read_pages(path: Path, chunks: Sequence[ColumnChunk]) -> Iterator[tuple[int, Page]]:
    """Yield the column number and the page of every page in a row group.

    Raises:
        InputError: If a header cannot be read.
    """
    end, count = path.stat().st_size, 0
    with path.open("rb") as file:
        for number, chunk in enumerate(chunks):
            try:
                for page in _read_chunk(file, chunk, end):
                    count += 1
                    if count > MAX_PAGES:
                        raise ValueError(f"a row group has more than {MAX_PAGES:,} pages")
                    yield number, page
            except (EOFError, ValueError) as error:
                raise damaged_page(path, number, error) from None


def damaged_page(path: Path, column: int, error: Exception) -> InputError:
    """Return the error for a page that cannot be read."""
    return InputError(
        f"{path.name} is damaged: a page of column {column + 1} cannot be read ({error})", place=str(path)
    )


def _read_chunk(file: IO[bytes], chunk: ColumnChunk, end: int) -> Iterator[Page]:
    start, seen = chunk.start, 0
    while seen < chunk.values:
        if not 0 <= start < end:
            raise ValueError("it is outside the file")
        header = _Header(file, start)
        compressed, uncompressed = header.number(_COMPRESSED), header.number(_UNCOMPRESSED)
        if compressed < 0 or uncompressed < 0:
            raise ValueError("its size is negative")
        values = max(header.page.get(_VALUES, 0), 0)
        yield Page(
            values,
            uncompressed,
            header.position,
            compressed,
            header.page.get(_LEVEL_ENCODING, _RLE),
            header.page.get(_LEVEL_BYTES, 0) if header.is_version_2 else None,
            header.is_dictionary,
        )
        seen += values
        start = header.position + compressed


class _Header:
    """A page header. Only sizes and counts are kept."""

    def __init__(self, file: IO[bytes], start: int) -> None:
        reader = ThriftReader(file, start, MAX_HEADER_BYTES)
        self.page: dict[int, int] = {}
        """Numbers of the header of a data page."""
        self.is_version_2 = self.is_dictionary = False
        self._numbers: dict[int, int] = {}
        for field, kind in reader.fields():
            if field in (_DATA, _DATA_V2) and kind == STRUCT:
                self.page = reader.numbers()
                self.is_version_2 = field == _DATA_V2
            elif kind in NUMBERS:
                self._numbers[field] = reader.integer()
            else:
                self.is_dictionary |= field == _DICTIONARY
                reader.skip(kind)
        self.position = reader.position

    def number(self, field: int) -> int:
        if field not in self._numbers:
            raise ValueError("its header has no size")
        return self._numbers[field]


class RowLengths:
    """Count the values of the rows of a nested column from its repetition levels. A row begins at level 0.

    References:
        Data pages and the RLE/bit-packing hybrid: github.com/apache/parquet-format, Encodings.md.
    """

    def __init__(self, max_level: int, compression: str) -> None:
        """Start before the first page of a column chunk.

        Args:
            max_level: Largest repetition level of the column, at least 1.
            compression: Name of the codec in the metadata of the chunk.
        """
        self._width = max_level.bit_length()
        self._compression = compression
        self._open = 0
        self._runs = 0
        self.rows = 0
        """Rows that have begun."""
        self.longest = 0
        """Most values of a row."""

    def add(self, file: IO[bytes], page: Page) -> None:
        """Read the levels of the next page.

        Raises:
            ValueError: If they cannot be read.
        """
        if page.values:
            self._count(self._levels(file, page), page.values)
            self.longest = max(self.longest, self._open)

    def _levels(self, file: IO[bytes], page: Page) -> memoryview:
        file.seek(page.position)
        if page.level_bytes is not None:
            if not 0 <= page.level_bytes <= page.stored:
                raise ValueError("its levels are longer than the page")
            return memoryview(file.read(page.level_bytes))
        if page.level_encoding != _RLE:
            raise ValueError("its levels have an encoding that is not supported")
        page_content = _decompress(file.read(page.stored), page.size, self._compression)
        content = memoryview(page_content).cast("B")  # the bytes of Arrow are signed
        length = int.from_bytes(content[:4], "little")
        if length > len(content) - 4:
            raise ValueError("its levels are longer than the page")
        return content[4 : 4 + length]

    def _count(self, levels: memoryview, values: int) -> None:
        position = seen = 0
        while seen < values:
            self._runs += 1
            if self._runs > MAX_RUNS:
                raise ValueError("its levels have too many runs")
            header, position = _read_varint(levels, position)
            if header & 1:
                count = min((header >> 1) * 8, values - seen)
                size = (header >> 1) * self._width
                self._add_literal(levels[position : position + size], count)
            else:
                count, size = min(header >> 1, values - seen), (self._width + 7) // 8
                self._add_run(int.from_bytes(levels[position : position + size], "little"), count)
            if not count or position + size > len(levels):
                raise ValueError("its levels end too early")
            position, seen = position + size, seen + count

    def _add_run(self, level: int, count: int) -> None:
        if level:
            self._open += count
        elif count:
            self.longest = max(self.longest, self._open, 1)
            self.rows += count
            self._open = 1

    def _add_literal(self, packed: memoryview, count: int) -> None:
        step = LITERAL_STEP * self._width // 8
        for start in range(0, len(packed), step):
            bits = np.unpackbits(np.frombuffer(packed[start : start + step], np.uint8), bitorder="little")
            levels = bits[: len(bits) // self._width * self._width].reshape(-1, self._width)[:count]
            count -= len(levels)
            begins = np.flatnonzero(~levels.any(axis=1))
            if not len(begins):
                self._open += len(levels)
                continue
            self.longest = max(self.longest, self._open + int(begins[0]), int(np.diff(begins).max(initial=0)))
            self.rows += len(begins)
            self._open = len(levels) - int(begins[-1])


def _decompress(content: bytes, size: int, compression: str) -> Any:
    if compression == "UNCOMPRESSED":
        return content
    # The metadata calls both formats LZ4. The older one begins with two sizes.
    tries = [("lz4_raw", 0), ("lz4_raw", 8)] if compression.startswith("LZ4") else [(compression.lower(), 0)]
    for name, skipped in tries:
        try:
            return pa.decompress(content[skipped:], decompressed_size=size, codec=name)
        except (pa.ArrowException, OSError, ValueError):
            continue
    raise ValueError("it cannot be decompressed")


def _read_varint(content: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(content) and shift <= 63:
        byte = content[position]
        value, shift, position = value | (byte & 0x7F) << shift, shift + 7, position + 1
        if byte < 0x80:
            return value, position
    raise ValueError("its levels end too early")
