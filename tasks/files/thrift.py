"""Read the compact protocol of Thrift, in which Parquet files describe themselves.

References:
    github.com/apache/thrift, doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

MAX_ELEMENTS = 100_000
"""Elements of a list that is skipped."""
MAX_DEPTH = 8
STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
NUMBERS = (4, 5, 6)
"""Integers of 16, 32 and 64 bits."""


class ThriftReader:
    """Reads structures from a file, from a position on. Only numbers are kept."""

    def __init__(self, file: IO[bytes], start: int, max_bytes: int) -> None:
        """Start at a position.

        Args:
            file: The file.
            start: First byte.
            max_bytes: Largest number of bytes to read.
        """
        self._file = file
        self._limit = start + max_bytes
        self.position = start
        file.seek(start)

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield the number and type of each field of a structure. The caller reads or skips its value."""
        field = 0
        while True:
            byte = self._byte()
            kind, step = byte & 0x0F, byte >> 4
            if kind == STOP:
                return
            field = field + step if step else self.integer()
            yield field, kind

    def elements(self) -> Iterator[int]:
        """Yield the type of each element of a list. The caller reads or skips it."""
        byte = self._byte()
        size = self._varint() if byte >> 4 == 15 else byte >> 4
        for _ in range(size):
            yield byte & 0x0F

    def numbers(self) -> dict[int, int]:
        """Read a structure and return its integers by field."""
        found = {}
        for field, kind in self.fields():
            if kind in NUMBERS:
                found[field] = self.integer()
            else:
                self.skip(kind, 1)
        return found

    def integer(self) -> int:
        """Read an integer."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def skip(self, kind: int, depth: int = 0) -> None:
        """Skip a value.

        Raises:
            ValueError: If it is too large, too deep, or of an unknown type.
            EOFError: If the file ends.
        """
        if depth > MAX_DEPTH:
            raise ValueError("its header is nested too deeply")
        if kind in (TRUE, FALSE):
            return
        if kind == BYTE:
            self._take(1)
        elif kind in NUMBERS:
            self._varint()
        elif kind == DOUBLE:
            self._take(8)
        elif kind == BINARY:
            self._take(self._varint())
        elif kind in (LIST, SET):
            byte = self._byte()
            size = self._varint() if byte >> 4 == 15 else byte >> 4
            self._skip_elements([byte & 0x0F], size, depth)
        elif kind == MAP:
            if size := self._varint():
                kinds = self._byte()
                self._skip_elements([kinds >> 4, kinds & 0x0F], size, depth)
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        else:
            raise ValueError("its header has an unknown type")

    def _skip_elements(self, kinds: list[int], count: int, depth: int) -> None:
        if count > MAX_ELEMENTS:
            raise ValueError("a list in its header is too long")
        for _ in range(count):
            for kind in kinds:
                if kind in (TRUE, FALSE):
                    self._take(1)
                else:
                    self.skip(kind, depth + 1)

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
