"""Rows that are too many to hold on their way to a table: written as they come, read back as they stand."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Generic

import pyarrow.parquet as pq

from schemas.tables import R, Table

ROW_GROUP = 4096
"""Rows that are held in memory before they are written."""


class Spool(Collection[R], Generic[R]):
    """Rows of one table, appended in order. They lie in a file without a name, so that nothing is left of
    them when the process dies; what is read or saved cannot be appended to any more."""

    def __init__(self, table: Table[R], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._table = table
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._writer = pq.ParquetWriter(self._file, table.arrow_schema, compression="zstd")
        self._group: list[R] = []
        self._rows = 0

    def append(self, row: R) -> None:
        """Add one row at the end."""
        if not self._writer.is_open:
            raise ValueError("these rows were read already: they are complete")
        self._group.append(row)
        self._rows += 1
        if len(self._group) == ROW_GROUP:
            self._write_group()

    def save(self, path: Path) -> None:
        """Write everything to a Parquet file."""
        self._finish()
        self._file.seek(0)
        with path.open("wb") as stream:
            shutil.copyfileobj(self._file, stream, 1 << 20)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[R]:
        self._finish()
        with pq.ParquetFile(self._file) as file:
            for group in range(file.num_row_groups):
                yield from self._table.from_arrow(file.read_row_group(group))

    def __contains__(self, row: object) -> bool:
        return any(row == mine for mine in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spool):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip_longest(self, other))

    __hash__ = None  # type: ignore[assignment]

    def _write_group(self) -> None:
        if self._group:
            self._writer.write_table(self._table.to_arrow(self._group))
            self._group = []

    def _finish(self) -> None:
        if self._writer.is_open:
            self._write_group()
            self._writer.close()
