"""Formats of other people's bias benchmarks: what a dataset looks like, and what must hold in one like it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import combinations
from math import prod
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import InputError
from schemas.validation import Layout, Layouts, MatchedRows
from tasks.checks.columns import Mask, column, mask_of
from tasks.checks.findings import Problem, problem
from tasks.formats.yaml_file import read_yaml
from tasks.text.slots import parse_slots


def read_layouts(data_dir: Path) -> tuple[Layout, ...]:
    """data/layouts.yaml"""
    return read_yaml(data_dir / "layouts.yaml", Layouts).layouts


def layout_of(names: Collection[str], layouts: Iterable[Layout]) -> Layout | None:
    """The first format all of whose columns are there."""
    return next((layout for layout in layouts if set(layout.columns) <= set(names)), None)


def check_layout(name: str, rows: pa.Table, layout: Layout, number: str) -> list[Problem]:
    """What is wrong with a dataset of that format. `name`: what the problems call it; `number`: the column
    with what they call a row."""
    numbers = rows[number].to_pylist()

    def told(check: str, where: Mask, column: str | None = None, detail: str = "") -> list[Problem]:
        failing = [n for n, fails in zip(numbers, where, strict=True) if fails]
        return problem(name, check, failing, column=column, detail=detail)

    problems = []
    for c, values in layout.one_of.items():
        known = pc.is_in(column(rows, c).cast(pa.string()), value_set=pa.array(values))
        unknown = ~mask_of(pc.or_(known, pc.is_null(rows[c].combine_chunks())))
        problems += told("value_unexpected", unknown, c, f"{layout.title} has: {', '.join(values)}")
    for columns in layout.differ:
        problems += told("texts_alike", _alike(rows, columns), None, ", ".join(columns))
    for c in layout.templates:
        problems += told("template_broken", _with_broken_slots(rows, c), c)
    if layout.sets is not None:
        problems += _incomplete_sets(name, rows, layout.sets)
    return problems


def _alike(rows: pa.Table, columns: tuple[str, ...]) -> Mask:
    """Rows in which two of the columns read the same, capitals and spaces aside."""
    plain = {c: pc.utf8_lower(pc.utf8_trim_whitespace(column(rows, c).cast(pa.string()))) for c in columns}
    alike = mask_of(pa.array([False] * rows.num_rows, pa.bool_()))
    for a, b in combinations(columns, 2):
        alike = alike | mask_of(pc.equal(plain[a], plain[b]))
    return alike


def _with_broken_slots(rows: pa.Table, name: str) -> Mask:
    return mask_of(pa.array([_is_broken(text) for text in rows[name].to_pylist()], pa.bool_()))


def _is_broken(text: str | None) -> bool:
    try:
        parse_slots(text or "")
    except InputError:
        return True
    return False


def _incomplete_sets(name: str, rows: pa.Table, sets: MatchedRows) -> list[Problem]:
    """Sets by the values that make them one. How many combinations there are is read off the dataset."""
    wanted = prod(pc.count_distinct(rows[c]).as_py() for c in sets.every)
    distinct = rows.group_by([*sets.by, *sets.every]).aggregate([])
    counted = distinct.group_by(list(sets.by)).aggregate([([], "count_all")])
    short = counted.filter(pc.less(counted["count_all"], wanted)).to_pylist()
    told = (" · ".join(str(row[c]) for c in sets.by) for row in short)
    detail = f"{' × '.join(sets.every)} has {wanted} combinations"
    return problem(name, "set_incomplete", told, column=", ".join(sets.by), detail=detail)
