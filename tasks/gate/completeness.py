"""Checks of completeness: counts add up, every question is in one place, and tables have their columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.errors import GateError
from schemas.labels import StageCounts, check_reconciled
from schemas.tables import Table, content_id
from tasks.checks.catalogue import Problem, report_rows

ASSEMBLED_TABLES: Mapping[str, str] = {
    "assemble": "questions",
    "assemble_responses": "responses",
    "assemble_judgements": "judgements",
}
"""Table counted by each stage."""
EXTRA_COLUMNS = frozenset({"canary"})
"""Columns that a release adds to its rows."""


def check_counts(counts: Iterable[StageCounts]) -> list[Problem]:
    """Check that the rows of every stage are the sum of kept, dropped and failed rows."""
    problems = []
    for stage in counts:
        try:
            check_reconciled([stage])
        except GateError as error:
            problems += report_rows("counts", "counts_do_not_add_up", [stage.stage], detail=error.message)
    return problems


def check_counted_rows(counts: Iterable[StageCounts], rows: Mapping[str, int]) -> list[Problem]:
    """Check that the tables have as many rows as the `assemble` stages kept."""
    problems = []
    for stage in counts:
        table = ASSEMBLED_TABLES.get(stage.stage)
        if table is not None and table in rows and rows[table] != stage.kept:
            detail = f"{stage.stage} kept {stage.kept}, the table has {rows[table]} {table}"
            problems += report_rows("counts", "counts_contradict_rows", [stage.stage], detail=detail)
    return problems


def read_dropped_questions(dropped: pa.Table) -> list[tuple[dict[str, Any], str | None]]:
    """Return every dropped row of a question with the id in its record, or `None` if that is unreadable."""
    columns = ["id", "kind", "stage", "reason", "because_of", "text", "record"]
    rows = (row for row in dropped.select(columns).to_pylist() if row["kind"] == "question")
    return [(row, _recorded_id(row["record"])) for row in rows]


def _recorded_id(record: str | None) -> str | None:
    try:
        name = json.loads(record or "")["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None


def check_dropped(
    questions: Sequence[str], lost: Sequence[tuple[dict[str, Any], str | None]], *, may_lose_elsewhere: bool
) -> list[Problem]:
    """Check the dropped rows.

    Args:
        questions: Ids of the kept questions.
        lost: Dropped rows with the ids in their records.
        may_lose_elsewhere: Whether questions may have lost to rows of earlier releases, which are not
        available.
    """
    known = {*questions, *(name for _, name in lost)}
    dangling = [
        row["id"] for row, _ in lost if row["because_of"] is not None and row["because_of"] not in known
    ]
    mismatched = [
        row["id"]
        for row, name in lost
        if name is None or row["id"] != content_id("x", name, row["stage"], row["reason"])
    ]
    revealed = [
        row["id"] for row, name in lost if row["reason"] == "held_back" and _reveals_content(row, name)
    ]
    return [
        *report_rows("dropped", "drop_points_nowhere", () if may_lose_elsewhere else dangling),
        *report_rows("dropped", "drop_holds_other_row", mismatched),
        *report_rows("dropped", "held_back_told", revealed),
    ]


def _reveals_content(row: dict[str, Any], name: str | None) -> bool:
    """Return whether a dropped row has more than the id of its question."""
    return bool(row["text"]) or (name is not None and json.loads(row["record"]) != {"id": name})


def check_outcomes(
    generated: Iterable[str], kept: Iterable[str], lost: Sequence[tuple[dict[str, Any], str | None]]
) -> list[Problem]:
    """Check that every generated question is either kept or dropped."""
    all_ids, kept_ids = set(generated), set(kept)
    # A copy that lost to a question with the same id is not counted as dropped.
    dropped_ids = {name for row, name in lost if row["because_of"] != name}
    return [
        *report_rows("questions", "question_kept_and_dropped", kept_ids & dropped_ids),
        *report_rows("questions", "question_lost", all_ids - kept_ids - dropped_ids if all_ids else ()),
        *report_rows("questions", "question_from_nowhere", kept_ids - all_ids if all_ids else ()),
    ]


# Shape of a table


@dataclass(frozen=True)
class Shape:
    """A table and its differences from its schema."""

    rows: pa.Table
    """Cast to the schema if it is complete."""
    problems: tuple[Problem, ...]
    is_complete: bool
    """Whether all columns exist with their types, so that the other checks can run."""


def check_shape(table: Table[Any], rows: pa.Table) -> Shape:
    """Check that a table has the columns and types of its schema.

    Types with the same values in another layout (such as `large_string`) are accepted. Columns with a default
    may be missing, because tables of earlier versions do not have them.
    """
    schema = table.arrow_schema
    rows = _fill_defaults(table, rows)
    absent = [n for n in schema.names if n not in rows.column_names]
    unknown = [n for n in rows.column_names if n not in schema.names and n not in EXTRA_COLUMNS]
    mistyped = [
        n
        for n in schema.names
        if n in rows.column_names and not _is_compatible(rows.schema.field(n).type, schema.field(n).type)
    ]
    undecodable = [] if absent or mistyped else _find_invalid_utf8(rows.select(schema.names))
    problems = [
        *report_rows(table.name, "column_absent", absent),
        *report_rows(table.name, "column_of_another_type", mistyped),
        *report_rows(table.name, "column_unknown", unknown),
        *report_rows(table.name, "not_utf8", undecodable),
    ]
    if absent or mistyped or undecodable:
        return Shape(rows, tuple(problems), is_complete=False)
    cast = rows.select(schema.names).cast(schema).combine_chunks()
    return Shape(cast, tuple(problems), is_complete=True)


def _fill_defaults(table: Table[Any], rows: pa.Table) -> pa.Table:
    for name, column in table.row.model_fields.items():
        if name not in rows.column_names and not column.is_required():
            kind = table.arrow_schema.field(name).type
            default = pa.scalar(column.get_default(call_default_factory=True), kind)
            rows = rows.append_column(name, pa.repeat(default, rows.num_rows))
    return rows


def _is_compatible(actual: pa.DataType, declared: pa.DataType) -> bool:
    """Return whether types differ in layout only. A column of nulls fits any type."""
    if pa.types.is_null(actual):
        return True
    if pa.types.is_dictionary(actual):
        return _is_compatible(actual.value_type, declared)
    if _is_list(actual) and _is_list(declared):
        return _is_compatible(actual.value_type, declared.value_type)
    if pa.types.is_struct(actual) and pa.types.is_struct(declared):
        return [f.name for f in actual] == [f.name for f in declared] and all(
            _is_compatible(f.type, d.type) for f, d in zip(actual, declared, strict=True)
        )
    if _is_text(declared):
        return _is_text(actual)
    return bool(actual == declared)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _find_invalid_utf8(rows: pa.Table) -> list[str]:
    """Return the columns with invalid text. Readers of Parquet do not validate it."""
    faulty = []
    for name in rows.column_names:
        try:
            rows[name].validate(full=True)
        except pa.ArrowInvalid:
            faulty.append(name)
    return faulty
