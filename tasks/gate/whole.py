"""Nothing disappears: counts add up, and every generated question ends in exactly one place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.errors import GateError
from schemas.labels import StageCounts, check_reconciled
from schemas.tables import Table, content_id
from tasks.checks.catalogue import Problem, problem


def check_counts(counts: Iterable[StageCounts]) -> list[Problem]:
    """Rows in = kept + dropped + failed, for every stage."""
    found = []
    for stage in counts:
        try:
            check_reconciled([stage])
        except GateError as error:
            found += problem("counts", "counts_do_not_add_up", [stage.stage], detail=error.message)
    return found


def check_counted_rows(counts: Iterable[StageCounts], rows: Mapping[str, int]) -> list[Problem]:
    """What `assemble` says it kept is what is there."""
    found = []
    for stage in counts:
        table = ASSEMBLED.get(stage.stage)
        if table is not None and table in rows and rows[table] != stage.kept:
            detail = f"{stage.stage} kept {stage.kept}, and there are {rows[table]} {table}"
            found += problem("counts", "counts_contradict_rows", [stage.stage], detail=detail)
    return found


ASSEMBLED: Mapping[str, str] = {
    "assemble": "questions",
    "assemble_responses": "responses",
    "assemble_judgements": "judgements",
}


def dropped_questions(dropped: pa.Table) -> list[tuple[dict[str, Any], str | None]]:
    """Every dropped row of a question, with the id of the question in its record (`None`: unreadable)."""
    columns = ["id", "kind", "stage", "reason", "because_of", "text", "record"]
    rows = (row for row in dropped.select(columns).to_pylist() if row["kind"] == "question")
    return [(row, _recorded_id(row["record"])) for row in rows]


def _recorded_id(record: str | None) -> str | None:
    try:
        found = json.loads(record or "")["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def check_dropped(
    questions: Sequence[str], lost: Sequence[tuple[dict[str, Any], str | None]], *, may_lose_elsewhere: bool
) -> list[Problem]:
    """`may_lose_elsewhere`: questions were compared with an earlier release, whose rows are not at hand."""
    known = {*questions, *(name for _, name in lost)}
    nowhere = [
        row["id"] for row, _ in lost if row["because_of"] is not None and row["because_of"] not in known
    ]
    other = [
        row["id"]
        for row, name in lost
        if name is None or row["id"] != content_id("x", name, row["stage"], row["reason"])
    ]
    told = [row["id"] for row, name in lost if row["reason"] == "held_back" and _says_more(row, name)]
    return [
        *problem("dropped", "drop_points_nowhere", () if may_lose_elsewhere else nowhere),
        *problem("dropped", "drop_holds_other_row", other),
        *problem("dropped", "held_back_told", told),
    ]


def _says_more(row: dict[str, Any], name: str | None) -> bool:
    """Whether a dropped row tells more than whose it is."""
    return bool(row["text"]) or (name is not None and json.loads(row["record"]) != {"id": name})


def check_endings(
    generated: Iterable[str], kept: Iterable[str], lost: Sequence[tuple[dict[str, Any], str | None]]
) -> list[Problem]:
    """Kept or dropped, never both, never neither. A copy that lost to its own id is no second ending."""
    made, left = set(generated), set(kept)
    gone = {name for row, name in lost if row["because_of"] != name}
    return [
        *problem("questions", "question_kept_and_dropped", left & gone),
        *problem("questions", "question_lost", made - left - gone if made else ()),
        *problem("questions", "question_from_nowhere", left - made if made else ()),
    ]


# Whether a table has the columns of its schema, in the types of its schema.


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
