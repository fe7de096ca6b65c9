"""Read files of recorded answers. Cells that cannot be used are counted by column and reason.

A row with such a cell is kept as an invalid row, so that every figure knows how many rows were asked for. The
same value in another type (`60`, `60.0`, `"60"`) or in another case is one value.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import orjson

from schemas.errors import InputError
from tasks.files.records import BadRows, check_utf8, read_records
from tasks.files.tables import read_csv_header, read_csv_rows
from tasks.text.assignments import plain_answer

MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "#n/a", "<na>"})
"""Spellings of an empty cell, in lower case."""
RECORDS = frozenset({".json", ".jsonl", ".ndjson", ".parquet"})
"""Suffixes of files with one record per row. Other files are CSV, or TSV according to their name."""
DELIMITERS: Mapping[str, str] = {".tsv": "\t"}
NO_VALUE = "missing"
NO_NUMBER = "not a number"
NO_COUNT = "not a number from 0"
UNKNOWN = "unknown value"
LARGEST_EXAMPLE = 40
"""Characters of a cell that a message quotes."""

_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_QUOTED = re.compile(r"(['\"])(.*)\1", re.DOTALL)

Kind = Literal["any", "answer", "id", "label", "text", "number", "count", "index"]
"""How the cells of a column are read:

- `any` and `answer`: as they are. A missing answer is counted, and its row stays.
- `text`: as it is, but not empty.
- `id`: one spelling per number. `label`: also one spelling per value, whatever its case.
- `number`, `count` (from 0) and `index` (a whole number from 0).
"""


@dataclass(frozen=True)
class Column:
    """A column of a recorded file, and how its cells are read."""

    name: str
    kind: Kind = "id"
    known: Mapping[str, Any] | None = None
    """Value by spelling in lower case, if only these spellings are valid."""
    required: bool = True
    """Whether the file must have the column."""
    blank: Any = None
    """Value of an empty cell. If it is `None`, an empty cell makes its row invalid."""
    absent: Any = None
    """Value in all rows, if the file lacks the column or has nothing in it."""


@dataclass(frozen=True)
class RecordedRow:
    """A row with the cells that could be read."""

    place: str
    cells: Mapping[str, Any]
    is_valid: bool


@dataclass(frozen=True)
class RecordedRows:
    """All rows of a file, with counts of the cells that could not be read."""

    path: Path
    every: tuple[RecordedRow, ...]
    invalid: Mapping[str, Mapping[str, int]]
    """Number of cells by column and reason."""
    notes: tuple[str, ...]

    @property
    def valid(self) -> list[RecordedRow]:
        """Rows without unreadable cells."""
        return [row for row in self.every if row.is_valid]

    def count(self, **cells: Any) -> int:
        """Count the rows with these cells, valid or not. Without cells, count all rows."""
        return sum(all(row.cells.get(k) == v for k, v in cells.items()) for row in self.every)


def read_recorded(path: Path, columns: Sequence[Column]) -> RecordedRows:
    """Read a CSV, TSV, JSON Lines or Parquet file of recorded answers.

    Args:
        path: The file, plain or compressed.
        columns: The columns to read. Others are ignored.

    Raises:
        InputError: If the file cannot be read, lacks a required column or has no rows, or if no row is valid.
    """
    rows = list(read_rows(path, [c.name for c in columns if c.required]))
    if not rows:
        raise InputError("the file has no answers", place=str(path), hint="give a file with at least one row")
    filled = [c for c in columns if c.required or any(not is_missing(row.get(c.name)) for _, row in rows)]
    absent = {c.name: c.absent for c in columns if c not in filled and c.absent is not None}
    problems: dict[str, Counter[str]] = defaultdict(Counter)
    examples: list[str] = []
    every = []
    for place, texts in rows:
        cells: dict[str, Any] = dict(absent)
        is_valid = True
        for column in filled:
            value, reason = _read_cell(texts.get(column.name) or "", column)
            if reason:
                problems[column.name][reason] += 1
                text = (texts.get(column.name) or "").strip()[:LARGEST_EXAMPLE]
                shown = f"{column.name} is {text!r}, {reason}" if text else f"{column.name} is empty"
                examples.append(f"{_row_name(place, path)}: {shown}")
                is_valid = is_valid and column.kind == "answer"
            if not reason or column.kind == "answer":
                cells[column.name] = value
        every.append(RecordedRow(place, cells, is_valid))
    if not any(row.is_valid for row in every):
        raise InputError(
            f"none of the {len(every)} rows can be used; {examples[0]}",
            place=every[0].place,
            hint=_valid_cells(columns, problems),
        )
    merged, notes = _merge_cases(every, [c.name for c in filled if c.kind == "label"])
    invalid = {name: dict(sorted(counts.items())) for name, counts in sorted(problems.items())}
    return RecordedRows(path, tuple(merged), invalid, (*notes, *_first_examples(examples)))


def read_rows(path: Path, required: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every row as texts with its place.

    Raises:
        InputError: If the file cannot be read or lacks a required column.
    """
    suffix = _suffix(path)
    if suffix not in RECORDS:
        yield from read_csv_rows(path, required, delimiter=DELIMITERS.get(suffix))
        return
    if suffix != ".parquet":
        check_utf8(path)
    records = list(read_records(path, BadRows()))
    names = {name for r in records for name in r.record}
    if records and (absent := [name for name in required if name not in names]):
        raise InputError(
            f"missing column{'s' if len(absent) > 1 else ''}: {', '.join(absent)}",
            place=str(path),
            hint=f"the file has: {', '.join(sorted(names))}",
        )
    for r in records:
        yield r.place, {name: _as_text(value) for name, value in r.record.items()}


def read_column_names(path: Path) -> list[str]:
    """Return the names of the columns in the order of the file."""
    suffix = _suffix(path)
    if suffix in RECORDS:
        return list(dict.fromkeys(name for r in read_records(path, BadRows()) for name in r.record))
    return read_csv_header(path, delimiter=DELIMITERS.get(suffix))


def _suffix(path: Path) -> str:
    """Return the suffix of the format, without that of a compression."""
    return next((s.lower() for s in reversed(path.suffixes) if s.lower() not in (".gz", ".zst")), "")


def _row_name(place: str, path: Path) -> str:
    rest = place.removeprefix(str(path)).removeprefix(":").strip()
    return f"line {rest}" if rest.isdecimal() else rest


def is_missing(text: str | None) -> bool:
    """Return whether a cell is empty: nothing, white space, or a spelling such as `nan` or `None`."""
    return text is None or text.strip().lower() in MISSING


def canonical_value(text: str) -> str:
    """Return a cell without surrounding quotes and white space, and a whole number without decimals."""
    plain = " ".join(text.split())
    while (quoted := _QUOTED.fullmatch(plain)) is not None:
        plain = quoted[2].strip()
    whole = _WHOLE.fullmatch(plain)
    return whole[1] if whole else plain


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        return orjson.dumps(value, default=str).decode()
    return str(value)


def _read_cell(text: str, column: Column) -> tuple[Any, str]:
    """Return the value of a cell, and the reason if it cannot be used."""
    if column.kind == "any":
        return text, ""
    if is_missing(text):
        if column.blank is not None:
            return column.blank, ""
        return "", NO_VALUE
    if column.known is not None:
        value = column.known.get(plain_answer(canonical_value(text)))
        return (value, "") if value is not None else (None, UNKNOWN)
    if column.kind in ("answer", "text"):
        return text, ""
    if column.kind in ("id", "label"):
        value = canonical_value(text)
        return (value, "") if not is_missing(value) else ("", NO_VALUE)
    return _read_number(canonical_value(text), column.kind)


def _read_number(text: str, kind: Kind) -> tuple[float | int | None, str]:
    try:
        number = float(text)
    except ValueError:
        return None, NO_NUMBER if kind == "number" else NO_COUNT
    if not isfinite(number):
        return None, NO_NUMBER if kind == "number" else NO_COUNT
    if kind == "number":
        return number, ""
    if number < 0 or (kind == "index" and not number.is_integer()):
        return None, NO_COUNT
    return (int(number) if kind == "index" else number), ""


def _merge_cases(rows: Sequence[RecordedRow], names: Sequence[str]) -> tuple[list[RecordedRow], list[str]]:
    """Replace spellings that differ only in case by the most frequent one, and describe each replacement."""
    chosen: dict[str, dict[str, str]] = {}
    notes = []
    for name in names:
        counts = Counter(row.cells[name] for row in rows if row.cells.get(name))
        spellings: dict[str, list[str]] = defaultdict(list)
        for value in counts:
            spellings[value.casefold()].append(value)
        chosen[name] = {v: max(same, key=lambda v: counts[v]) for same in spellings.values() for v in same}
        notes += [
            f"{name}: {value!r} is read as {kept!r} in {counts[value]} rows"
            for value, kept in chosen[name].items()
            if value != kept
        ]
    merged = [
        RecordedRow(
            row.place,
            {k: chosen[k].get(v, v) if k in chosen else v for k, v in row.cells.items()},
            row.is_valid,
        )
        for row in rows
    ]
    return merged, notes


def _valid_cells(columns: Sequence[Column], problems: Mapping[str, Mapping[str, int]]) -> str:
    """Return how the failing columns are written."""
    texts = []
    for column in columns:
        if column.name in problems:
            valid = (
                f"one of {', '.join(islice(column.known, MOST_SPELLINGS))}"
                if column.known
                else _VALID.get(column.kind, "a value")
            )
            texts.append(f"{column.name}: {valid}")
    return f"write in each row {'; '.join(texts)}"


MOST_SPELLINGS = 30
"""Spellings of a column that an error names."""
_VALID: Mapping[str, str] = {
    "number": "a number",
    "count": "a number from 0",
    "index": "a whole number from 0",
}

EXAMPLES = 5
"""Invalid cells that are named with their line."""


def _first_examples(examples: Sequence[str]) -> list[str]:
    rest = len(examples) - EXAMPLES
    shown = list(examples[:EXAMPLES])
    return [*shown, f"and {rest} more invalid cells"] if rest > 0 else shown
