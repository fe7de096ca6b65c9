"""Rows of any table as units to compare: which column is the text, which ones must agree, what is a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.errors import InputError
from schemas.ids import content_id
from tasks.text.duplicates import Unit


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are for."""

    text: str
    slots: tuple[str, ...] = ()
    """Rows that differ in one of these are never duplicates."""
    group: str | None = None
    """Rows with the same value here are one unit."""
    rank: str | None = None
    """The greatest is the best; rows without a number come last."""


def rows_as_units(
    table: pa.Table, columns: Columns, *, place: Path, source: str | None = None
) -> tuple[list[Unit], list[int]]:
    """A unit for every group (or row), and the rows that have no text, or stand in a group with such a row.

    A unit goes by its group, else by the column `id`, else by its content. Raises `InputError` for a column
    that is not there or not of its kind.
    """
    texts = _texts(table, columns.text, place)
    guards = list(zip(*(_guards(table, name, place) for name in columns.slots), strict=True))
    guards = guards or [()] * table.num_rows
    ranks = _ranks(table, columns.rank, place)
    names = _column(table, columns.group, place).to_pylist() if columns.group else [None] * table.num_rows
    ids = table["id"].to_pylist() if "id" in table.column_names else [None] * table.num_rows

    groups: dict[Any, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(row if name is None else ("group", str(name)), []).append(row)
    units, without_text = [], []
    for rows in groups.values():
        if not all(texts[row] for row in rows):
            without_text += rows
            continue
        if len(rows) > 1:
            rows.sort(key=lambda row: (repr(guards[row]), texts[row]))
        name = ids[rows[0]] if names[rows[0]] is None else names[rows[0]]
        units.append(
            Unit(
                content_id("row", texts[rows[0]], list(guards[rows[0]])) if name is None else str(name),
                "\n".join([texts[row] for row in rows]),
                tuple([guards[row] for row in rows]),
                (-max([ranks[row] for row in rows]),),
                tuple(rows),
                source,
            )
        )
    return units, sorted(without_text)


def _column(table: pa.Table, name: str, place: Path) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise InputError(
            f"{place.name} has no column {name!r}",
            place=str(place),
            hint=f"it has: {', '.join(table.column_names)}",
        )
    return table[name]


def _texts(table: pa.Table, name: str, place: Path) -> list[str]:
    """The texts; an absent or blank one is empty."""
    column = _column(table, name, place)
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise InputError(f"the column {name!r} holds {column.type}, not text", place=str(place))
    return [(text or "").strip() and text for text in column.cast(pa.string()).to_pylist()]


def _guards(table: pa.Table, name: str, place: Path) -> list[str | None]:
    values = _column(table, name, place).to_pylist()
    return [value if value is None or isinstance(value, str) else repr(value) for value in values]


def _ranks(table: pa.Table, name: str | None, place: Path) -> Sequence[float]:
    if name is None:
        return [0.0] * table.num_rows
    column = _column(table, name, place)
    try:
        numbers = column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"the column {name!r} does not hold numbers: {str(error).splitlines()[0]}",
            place=str(place),
            hint="give a numeric column to rank by: the greatest is kept",
        ) from None
    return [x if x is not None and x == x else float("-inf") for x in numbers.to_pylist()]
