"""What each column must be, derived from the schemas: the suites as data, before any library sees them."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.compute as pc

from schemas.tables import Row, Table, arrow_type
from tasks.checks.catalogue import OWN
from tasks.stats.fitness import FORMS

Kind = Literal[
    "unique", "not_null", "in_set", "between", "matches", "lengths", "json", "passes", "known", "rows"
]


@dataclass(frozen=True)
class Expected:
    """One expectation of one column: the check that it stands for, and the arguments of its kind.

    `between` and `lengths` take `low` and `high`, `in_set` takes `values`, `matches` takes `pattern`,
    `known` takes `table`. `rows` is of no column: no row of the table may fail the check, which looks at
    several columns or tables.
    """

    check: str
    column: str
    kind: Kind
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """The scalar columns of a table, or of the records nested in one of its columns."""

    name: str
    """`questions`, or `questions.variants`."""
    table: str
    key: str
    """The column whose value tells a person which row failed."""
    unique: bool
    row: type[Row]
    references: tuple[tuple[str, str], ...]
    rows: pa.Table


def frames_of(table: Table[Any], rows: pa.Table) -> Iterator[Frame]:
    """The table's own scalar columns, then one frame for every column of nested records."""
    nested = {name: inner for name, f in table.row.model_fields.items() if (inner := _nested(f.annotation))}
    scalars = [
        n for n in table.row.model_fields if n in rows.column_names and _is_scalar(rows.schema.field(n))
    ]
    yield Frame(table.name, table.name, table.key, True, table.row, table.references, rows.select(scalars))
    for name, inner in nested.items():
        if name in rows.column_names:
            key = f"{table.name}_id"
            yield Frame(
                f"{table.name}.{name}",
                table.name,
                key,
                False,
                inner,
                (),
                _flatten(rows, table.key, name, key),
            )


def _flatten(rows: pa.Table, key: str, column: str, key_name: str) -> pa.Table:
    lists = rows[column].combine_chunks()
    parents = pc.list_parent_indices(lists)
    inner = pc.list_flatten(lists)
    columns = {key_name: rows[key].combine_chunks().take(parents)}
    for i in range(inner.type.num_fields):
        if _is_scalar(inner.type.field(i)):
            columns[inner.type.field(i).name] = pc.struct_field(inner, [i])
    return pa.table(columns)


def _is_scalar(column: pa.Field) -> bool:
    return not pa.types.is_nested(column.type)


def _nested(annotation: Any) -> type[Row] | None:
    args = get_args(annotation)
    if get_origin(annotation) is tuple and isinstance(args[0], type) and issubclass(args[0], Row):
        return args[0]
    return None


def expected_of(frame: Frame) -> list[Expected]:
    """The suite of a frame: what its row type declares, then what is known about single columns."""
    suite = []
    if frame.unique:
        suite.append(Expected("key_repeated", frame.key, "unique"))
        if frame.key == "id":
            suite.append(Expected("id_malformed", "id", "matches", {"pattern": _id_pattern(frame.table)}))
    for column, declared in frame.row.model_fields.items():
        if column in frame.rows.column_names:
            suite += _declared(frame.name, column, declared.annotation)
    for column, target in frame.references:
        suite.append(Expected("reference_broken", column, "known", {"table": target.split(".")[0]}))
    suite = [e for e in suite + COLUMNS.get(frame.name, []) if e.column in frame.rows.column_names]
    return suite + [Expected(check, "", "rows") for check in OWN.get(frame.name, ())]


def _declared(frame: str, column: str, annotation: Any) -> Iterator[Expected]:
    """Not null unless optional; one of a literal's values; not empty unless it may be."""
    inner = _without_none(annotation)
    if inner is annotation:
        yield Expected("value_missing", column, "not_null")
    if get_origin(inner) is Literal:
        yield Expected("value_not_allowed", column, "in_set", {"values": get_args(inner)})
    elif arrow_type(inner) == pa.string() and (frame, column) not in MAY_BE_EMPTY:
        yield Expected("text_empty", column, "lengths", {"low": 1})


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        (inner,) = [a for a in get_args(annotation) if a is not type(None)]
        return inner
    return annotation


def _id_pattern(table: str) -> str:
    return f"^{ID_PREFIXES.get(table, '[a-z_]+')}_[0-9a-f]{{16}}$"


ID_PREFIXES = {
    "questions": "q",
    "responses": "r",
    "judgements": "j",
    "label_history": "lc",
    "effects": "e",
    "dropped": "x",
}

MAY_BE_EMPTY = {
    ("responses", "text"),
    ("responses", "failure_message"),
    ("dropped", "text"),
    ("judgements", "prompt_hash"),  # the divergence judge has no prompt
    ("judgements.scores", "reasoning"),
    ("label_history", "evidence"),
}


def _between(column: str, low: float, high: float | None = None) -> Expected:
    return Expected("out_of_range", column, "between", {"low": low, "high": high})


def _passes(check: str, *columns: str) -> list[Expected]:
    return [Expected(check, column, "passes") for column in columns]


LANGUAGE_TAG = r"^[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*$"

COLUMNS: dict[str, list[Expected]] = {
    "questions": [
        _between("round", 0),
        Expected("not_json", "composition", "json"),
        Expected("language_malformed", "language", "matches", {"pattern": LANGUAGE_TAG}),
        *_passes("garbled_text", "template", "superdomain", "domain", "topic"),
    ],
    "questions.variants": [
        _between("index", 0),
        _between("valence", -1, 1),
        Expected("text_too_long", "text", "lengths", {"high": 4000}),
        *_passes("garbled_text", "text"),
        *_passes("slot_unfilled", "text"),
        *_passes("personal_data", "text"),
    ],
    "questions.options": [
        _between("valence", -1, 1),
        Expected("text_too_long", "text", "lengths", {"high": 500}),
        *_passes("garbled_text", "text"),
        *_passes("slot_unfilled", "text"),
        *_passes("personal_data", "text"),
    ],
    "responses": [
        *(_between(c, 0) for c in ("variant", "sample", "tokens_in", "tokens_out", "cost_usd", "option")),
        *_passes("garbled_answer", "text"),
        *_passes("personal_data_in_answer", "text"),
    ],
    "judgements": [
        *(_between(c, 0) for c in ("repeat", "tokens_in", "tokens_out", "cost_usd")),
        _between("p_value", 0, 1),
        Expected("value_not_allowed", "fitness_form", "in_set", {"values": tuple(FORMS)}),
    ],
    "label_history": [_between("step", 0)],
    "dropped": [
        _between("similarity", 0, 100),
        Expected("not_json", "record", "json"),
        *_passes("personal_data_in_dropped", "text"),
    ],
    "effects": [_between("p_value", 0, 1), _between("q_value", 0, 1), _between("n", 1)],
}
"""What the row types do not say, by frame."""
