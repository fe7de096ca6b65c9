"""Reading recorded answers: CSV files with named columns, and answers as they are compared."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from schemas.errors import InputError

LARGEST_CELL = 64 << 20
"""Characters. An answer may run away; the library's own limit of 131,072 would stop at it."""


def read_csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Every row with its place (`file:line`); extra columns are carried along, blank lines are none.

    Raises `InputError` for a file that cannot be read, columns that are missing or stand twice, and rows with
    more or fewer cells than there are columns: an answer with a comma and no quotes would be cut off.
    """
    with _opened(path) as stream:
        reader = csv.reader(stream, strict=True)
        csv.field_size_limit(LARGEST_CELL)
        try:
            header = next(reader, [])
            check_columns(path, header, columns)
            for row in reader:
                place = f"{path}:{reader.line_num}"
                if row:
                    _check_cells(row, header, place)
                    yield place, {name: cell for name, cell in zip(header, row, strict=True) if name}
        except csv.Error as error:
            raise InputError(
                f"not readable as CSV: {error}",
                place=f"{path}:{reader.line_num}",
                hint="cells that hold commas, quotes or line breaks stand in quotes, quotes in them doubled",
            ) from None


def _check_cells(row: Sequence[str], header: Sequence[str], place: str) -> None:
    if len(row) != len(header):
        raise InputError(
            f"the row has {len(row)} cell{'s' if len(row) != 1 else ''}, the header {len(header)}",
            place=place,
            hint="cells that hold commas or line breaks stand in quotes",
        )


def read_csv_header(path: Path) -> list[str]:
    """The names of the columns; none where the file is empty. Raises `InputError` as `read_csv_rows`."""
    with _opened(path) as stream:
        try:
            return next(csv.reader(stream, strict=True), [])
        except csv.Error as error:
            raise InputError(f"not readable as CSV: {error}", place=f"{path}:1") from None


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", hint="check the path") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise InputError(
            f"{path.name} is not a UTF-8 text file", place=str(path), hint="save it as UTF-8"
        ) from None


def check_columns(path: Path, found: Iterable[str], wanted: Sequence[str]) -> None:
    """Raise `InputError` where a column is missing, or stands twice."""
    names = list(found)
    missing = [column for column in wanted if column not in names]
    if missing:
        raise InputError(
            f"missing column{'s' if len(missing) > 1 else ''}: {', '.join(missing)}",
            place=str(path),
            hint=f"the file has: {', '.join(n for n in names if n) or '(none)'}",
        )
    twice = [column for column in wanted if names.count(column) > 1]
    if twice:
        raise InputError(f"the column {twice[0]} stands twice", place=str(path), hint="remove one of them")


def plain_answer(text: str) -> str:
    """Lower case, without full stops, space trimmed: how recorded answers and options are compared."""
    return " ".join(text.lower().replace(".", "").split())
