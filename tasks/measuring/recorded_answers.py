"""Reading recorded answers: CSV files with named columns, and answers as they are compared."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from schemas.errors import InputError


def read_csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Every row with its place (`file:line`). Raises `InputError` naming the columns that are missing, or
    the file that cannot be read; extra columns are carried along."""
    with _opened(path) as stream:
        reader = csv.DictReader(stream, restkey="", restval="", strict=True)
        check_columns(path, reader.fieldnames or (), columns)
        for row in reader:
            yield f"{path}:{reader.line_num}", {k: v for k, v in row.items() if k}


def read_csv_header(path: Path) -> list[str]:
    """The names of the columns; none where the file is empty. Raises `InputError` as `read_csv_rows`."""
    with _opened(path) as stream:
        return next(csv.reader(stream, strict=True), [])


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", hint="check the path") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise InputError(f"{path.name} is not a UTF-8 text file", place=str(path)) from None
    except csv.Error as error:
        raise InputError(f"not readable as CSV: {error}", place=str(path)) from None


def check_columns(path: Path, found: Iterable[str], wanted: Sequence[str]) -> None:
    """Raise `InputError` where a column is missing."""
    names = list(found)
    missing = [column for column in wanted if column not in names]
    if missing:
        raise InputError(
            f"missing column{'s' if len(missing) > 1 else ''}: {', '.join(missing)}",
            place=str(path),
            hint=f"the file has: {', '.join(n for n in names if n) or '(none)'}",
        )


def plain_answer(text: str) -> str:
    """Lower case, without full stops, space trimmed: how recorded answers and options are compared."""
    return " ".join(text.lower().replace(".", "").split())
