"""Limits of files of unknown origin: memory of a table, expansion of a streamed file, and number of rows.

A row takes time even if it takes no space: a Parquet file of 300 bytes can claim a billion equal rows. So the
number of rows is limited by the size of the file. Ordinary files are far below the limit.
"""

from __future__ import annotations

import os
from pathlib import Path

from schemas.errors import InputError

MAX_BYTES = 1 << 30
MAX_BYTES_VARIABLE = "COUNTERFOIL_MAX_TABLE_MB"
"""Variable of the environment that names another limit in megabytes."""


def max_bytes() -> int:
    """Return the limit in bytes."""
    text = os.environ.get(MAX_BYTES_VARIABLE, "")
    return int(text) << 20 if text.isascii() and text.isdigit() else MAX_BYTES


MAX_EXPANSION = 200
"""Largest ratio of a streamed file to its size on disk, beyond the limit of a table."""
MAX_ROWS_VARIABLE = "COUNTERFOIL_MAX_ROWS"
"""Variable of the environment that names the rows that a file of any size may have."""
FREE_ROWS = 1_000_000
"""Rows that a file of any size may have. Comparing a million equal texts takes about 10 seconds."""
ROWS_PER_BYTE = 2
"""Rows per byte on disk beyond `FREE_ROWS`."""
VALUES_PER_ROW = 20
"""Values in all columns per row that is allowed. Values inside lists count."""


def free_rows(default: int = FREE_ROWS) -> int:
    """Return the number of rows that a file of any size may have."""
    text = os.environ.get(MAX_ROWS_VARIABLE, "")
    return int(text) if text.isascii() and text.isdigit() else default


class RowLimit:
    """The rows and values that one or several files may have together, in relation to their size on disk."""

    def __init__(self, free: int = FREE_ROWS, per_byte: float = ROWS_PER_BYTE) -> None:
        """Start without a file.

        Args:
            free: Rows that are allowed for any size, unless `COUNTERFOIL_MAX_ROWS` names another number.
            per_byte: Rows per byte on disk beyond `free`.
        """
        self._free, self._per_byte = free_rows(free), per_byte
        self._size = self.rows = self.values = 0

    def open(self, path: Path) -> RowLimit:
        """Add the size of a file."""
        self._size += path.stat().st_size
        return self

    def add(self, path: Path, rows: int, values: int = 0) -> None:
        """Count rows and values of a file. Raise `InputError` if they are too many for the size on disk."""
        self.rows, self.values = self.rows + rows, self.values + values
        allowed = max(self._free, int(self._size * self._per_byte))
        for count, limit, unit in (
            (self.rows, allowed, "rows"),
            (self.values, allowed * VALUES_PER_ROW, "values"),
        ):
            if count > limit:
                raise InputError(
                    f"{path.name} has too many {unit} for its size: {count:,} or more in "
                    f"{self._size:,} bytes. The limit is {limit:,}",
                    place=str(path),
                    hint="the file is damaged or was not made for people. If you trust it, set "
                    f"{MAX_ROWS_VARIABLE} to its number of rows",
                )


class Expansion:
    """The size of a file after decompression, while it is streamed. A few bytes could fill a disk."""

    def __init__(self, path: Path) -> None:
        """Start at the beginning of a file."""
        self.size = 0
        self._path = path
        self._limit = max(max_bytes(), MAX_EXPANSION * path.stat().st_size)

    def add(self, size: int) -> None:
        """Count bytes. Raise `InputError` if the file expands too far."""
        self.size += size
        if self.size > self._limit:
            raise InputError(
                f"{self._path.name} expands to more than {self._limit >> 20:,} MB, "
                f"the larger of {max_bytes() >> 20:,} MB and {MAX_EXPANSION} times its size",
                place=str(self._path),
                hint="the file is damaged or was not made for people. If you trust it, set "
                f"{MAX_BYTES_VARIABLE} to a larger number of megabytes",
            )
