"""The largest size of a table in memory, and the largest expansion of a file that is streamed."""

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


MAX_EXPANSION = 1000
"""Largest ratio of a streamed file to its size on disk, beyond `FREE_EXPANSION`."""
FREE_EXPANSION = 4 << 30
"""Bytes that any file may expand to."""


class Expansion:
    """The size of a file after decompression, while it is streamed. A few bytes could fill a disk."""

    def __init__(self, path: Path) -> None:
        """Start at the beginning of a file."""
        self.size = 0
        self._path = path
        self._limit = max(FREE_EXPANSION, MAX_EXPANSION * path.stat().st_size)

    def add(self, size: int) -> None:
        """Count bytes. Raise `InputError` if the file expands too far."""
        self.size += size
        if self.size > self._limit:
            raise InputError(
                f"{self._path.name} expands to more than {self._limit >> 20:,} MB, "
                f"{MAX_EXPANSION:,} times its size",
                place=str(self._path),
                hint="the file is damaged or was not made for people. If you trust it, decompress it first",
            )
