"""CSV files that people open: cells that a spreadsheet would take for a formula get an apostrophe."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks.store import write_bytes

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Write the columns of the rows, UTF-8 with a byte-order mark, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([safe_cell(row[column]) for column in columns])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.getvalue().encode("utf-8-sig"))


def safe_cell(text: str) -> str:
    """Text that no spreadsheet runs."""
    return f"'{text}" if text.startswith(_FORMULA) else text
