"""Export: a release's questions in a format that others read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.question import QUESTIONS
from tasks.formats.cab import COLUMNS, cab_rows
from tasks.formats.csv_file import write_csv
from tasks.release.reading import open_release


def export_release(release: Path, *, format: str, out: Path) -> dict[str, Any]:
    """Write the open questions of a release as CAB's rows (CSV). Returns how many were written, and how many
    the format cannot hold. Raises `InputError` where the release, or the format, is none."""
    if format != "cab":
        raise InputError(f"there is no export format {format!r}", hint="there is: cab")
    if out.suffix.lower() != ".csv":
        raise InputError(
            f"{out.name} is not named .csv", place=str(out), hint="give --out a name ending in .csv"
        )
    questions = [q for q in open_release(release).contents.rows(QUESTIONS) if q.family == "open"]
    if not questions:
        raise InputError("the release has no open questions", place=str(release))
    rows, left_out = cab_rows(questions)
    write_csv(out, COLUMNS, rows)
    return {"format": format, "out": str(out), "questions": len(rows), "left_out": len(left_out)}
