"""Reviews as a sheet: a row a subject and reviewer, and one to fill in where nobody has said anything."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from schemas.errors import InputError
from tasks.formats.csv_file import safe_cell, write_csv
from tasks.reviewing.exchange import Line, Shown, line_of, said_of
from tasks.reviewing.standing import Words

COLUMNS = ("subject", "subject_id", "query_id", "text", "context", "about")
FILLED = ("reviewer", "verdict", "note", "new_text")
"""Columns that people fill in."""
LONGEST_CELL = 10_000_000


def write_sheet(path: Path, shown: Iterable[Shown], words: Words) -> None:
    """Cells that a spreadsheet would take for formulas are made harmless."""
    rows = []
    for subject in shown:
        about = "; ".join(f"{name}: {value}" for name, value in subject.about.items())
        fixed = {**subject.model_dump(include=set(COLUMNS)), "about": about}
        filled = [
            {"reviewer": s.reviewer, "verdict": s.verdict, "note": s.note, "new_text": s.template}
            for s in said_of(words, subject)
        ]
        rows += [{**fixed, **said} for said in filled or [dict.fromkeys(FILLED, "")]]
    write_csv(path, (*COLUMNS, *FILLED), rows)


def read_sheet(path: Path) -> list[Line]:
    """Rows with a verdict. Raises `InputError` with the row that nobody is named in, or cannot be read."""
    csv.field_size_limit(LONGEST_CELL)
    try:
        sheet = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        rows = [{k: _as_said(v) for k, v in row.items() if k and isinstance(v, str)} for row in sheet]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read as CSV: {error}", place=str(path)) from None
    return [_line(f"{path}, row {at}", row) for at, row in enumerate(rows, start=2) if row.get("verdict")]


def _line(place: str, row: dict[str, str]) -> Line:
    if not row.get("reviewer", "").strip():
        raise InputError("a verdict without a reviewer", place=place, hint="say who gave it")
    said = {name: row.get(name, "") for name in ("reviewer", "verdict", "note")}
    return line_of(place, row, {**said, "template": row.get("new_text", "")})


def _as_said(cell: str) -> str:
    """A cell without the apostrophe that made it harmless."""
    return cell[1:] if cell.startswith("'") and safe_cell(cell[1:]) == cell else cell
