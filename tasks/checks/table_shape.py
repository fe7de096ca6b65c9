"""Whether a table has the columns of its schema, in the types of its schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.tables import Table
from tasks.checks.findings import Problem, problem

EXTRA_COLUMNS = frozenset({"canary"})
"""Columns that a release adds to its rows."""


@dataclass(frozen=True)
class Shape:
    """A table cast to its schema where that was possible, and what stands against it."""

    rows: pa.Table
    problems: tuple[Problem, ...]
    is_whole: bool
    """All columns are there in their types, so that the other checks can run."""


def check_shape(table: Table[Any], rows: pa.Table) -> Shape:
    """Columns by name; types that hold the same values in another layout (`large_string`) are no problem. A
    column that an earlier version did not have yet is filled with its default."""
    schema = table.arrow_schema
    rows = _with_defaults(table, rows)
    absent = [n for n in schema.names if n not in rows.column_names]
    unknown = [n for n in rows.column_names if n not in schema.names and n not in EXTRA_COLUMNS]
    strange = [
        n
        for n in schema.names
        if n in rows.column_names and not _same_values(rows.schema.field(n).type, schema.field(n).type)
    ]
    encoded = [] if absent or strange else _not_utf8(rows.select(schema.names))
    problems = [
        *problem(table.name, "column_absent", absent),
        *problem(table.name, "column_of_another_type", strange),
        *problem(table.name, "column_unknown", unknown),
        *problem(table.name, "not_utf8", encoded),
    ]
    if absent or strange or encoded:
        return Shape(rows, tuple(problems), is_whole=False)
    cast = rows.select(schema.names).cast(schema).combine_chunks()
    return Shape(cast, tuple(problems), is_whole=True)


def _with_defaults(table: Table[Any], rows: pa.Table) -> pa.Table:
    for name, column in table.row.model_fields.items():
        if name not in rows.column_names and not column.is_required():
            kind = table.arrow_schema.field(name).type
            default = pa.scalar(column.get_default(call_default_factory=True), kind)
            rows = rows.append_column(name, pa.repeat(default, rows.num_rows))
    return rows


def _same_values(found: pa.DataType, declared: pa.DataType) -> bool:
    """Types that differ in layout only; a column of nothing but nulls has no type of its own."""
    if pa.types.is_null(found):
        return True
    if pa.types.is_dictionary(found):
        return _same_values(found.value_type, declared)
    if _is_list(found) and _is_list(declared):
        return _same_values(found.value_type, declared.value_type)
    if pa.types.is_struct(found) and pa.types.is_struct(declared):
        return [f.name for f in found] == [f.name for f in declared] and all(
            _same_values(f.type, d.type) for f, d in zip(found, declared, strict=True)
        )
    if _is_text(declared):
        return _is_text(found)
    return bool(found == declared)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _not_utf8(rows: pa.Table) -> list[str]:
    """Parquet promises UTF-8 and readers believe it."""
    faulty = []
    for name in rows.column_names:
        try:
            rows[name].validate(full=True)
        except pa.ArrowInvalid:
            faulty.append(name)
    return faulty
