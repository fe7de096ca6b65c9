"""Tables: Arrow types follow from one declaration."""

from __future__ import annotations

import ast
import subprocess
import sys
from math import inf, nan
from pathlib import Path
from struct import pack

import pyarrow as pa
import pytest
from pydantic import ValidationError

import schemas
from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Judgement, Score
from schemas.labels import DROPPED, LABEL_HISTORY
from schemas.question import QUESTIONS
from schemas.tables import Table, arrow_type

TABLES = [QUESTIONS, RESPONSES, JUDGEMENTS, LABEL_HISTORY, DROPPED, EFFECTS]


def judgement() -> Judgement:
    return Judgement(
        id="j1",
        question_id="q1",
        judge="divergence",
        revision=None,
        rubric="divergence",
        rubric_hash="",
        prompt_hash="",
        target="m",
        phase="search",
        order=(0, 1),
        masked=True,
        repeat=0,
        scores=(Score(criterion="divergence", value=0.5, reasoning=""),),
        fitness=0.5,
        fitness_form="divergence",
        p_value=None,
        abstention=None,
        tokens_in=0,
        tokens_out=0,
        cost_usd=0.0,
    )


def test_rows_survive_the_way_to_arrow_and_back() -> None:
    table = JUDGEMENTS.to_arrow([judgement()])
    assert list(JUDGEMENTS.from_arrow(table)) == [judgement()]


@pytest.mark.parametrize(
    "text", ["", "a\nb\r\n\u2028\x00\t", '"\\u0041"', "é 🙂 \ufeff", "null", "2026-01-01", "NaN"]
)
def test_texts_are_stored_unchanged(text: str) -> None:
    row = judgement().model_copy(update={"scores": (Score(criterion=text, value=0.0, reasoning=text),)})
    assert list(JUDGEMENTS.from_arrow(JUDGEMENTS.to_arrow([row, row]))) == [row, row]


@pytest.mark.parametrize("number", [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 1e22, inf, -inf, nan])
def test_numbers_survive_to_the_last_bit(number: float) -> None:
    (value,) = JUDGEMENTS.to_arrow([judgement().model_copy(update={"p_value": number})])[
        "p_value"
    ].to_pylist()
    assert pack("d", value) == pack("d", number)


def test_large_integers_survive() -> None:
    row = judgement().model_copy(update={"tokens_in": 2**63 - 1})
    assert JUDGEMENTS.to_arrow([row])["tokens_in"].to_pylist() == [2**63 - 1]


def test_rows_share_their_texts_and_the_names_of_their_fields() -> None:
    rows = [judgement(), judgement().model_copy(update={"id": "another"})]
    first, second = JUDGEMENTS.from_arrow(JUDGEMENTS.to_arrow(rows))
    assert [first, second] == rows
    assert first.model_fields_set is second.model_fields_set
    assert first.judge is second.judge
    assert first.scores[0].criterion is second.scores[0].criterion
    assert first.scores[0].model_fields_set is second.scores[0].model_fields_set
    assert first.scores[0].model_fields_set == {"criterion", "value", "reasoning"}
    changed = first.model_copy(update={"judge": "other"})
    assert changed.model_fields_set == first.model_fields_set
    assert changed.model_fields_set is not first.model_fields_set


def test_pandas_is_not_needed_for_a_table() -> None:
    code = """
import sys
from schemas.labels import DROPPED, Dropped
fields = dict.fromkeys(("id", "stage", "reason", "text", "record"), "a")
row = Dropped(kind="question", because_of=None, similarity=None, **fields)
for rows in ([], [row], [row] * 10_000):
    assert DROPPED.to_arrow(rows).num_rows == len(rows)
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_empty_table_keeps_its_types(table: Table) -> None:  # type: ignore[type-arg]
    empty = table.to_arrow([])
    assert empty.schema == table.arrow_schema
    assert pa.null() not in {field.type for field in empty.schema}


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_references_point_at_columns_that_exist(table: Table) -> None:  # type: ignore[type-arg]
    names = {t.name: t for t in TABLES}
    for column, target in table.references:
        other, key = target.split(".")
        assert column in table.row.model_fields
        assert key in names[other].row.model_fields


def test_rows_are_frozen_and_closed() -> None:
    with pytest.raises(ValidationError):
        judgement().fitness = 1.0
    with pytest.raises(ValidationError):
        Score.model_validate({"criterion": "a", "value": 1, "reasoning": "", "extra": 1})


def test_type_without_an_arrow_counterpart_is_refused() -> None:
    with pytest.raises(TypeError):
        arrow_type(dict)


def test_score_that_the_rubric_does_not_have_is_no_zero() -> None:
    with pytest.raises(KeyError):
        judgement().score("bias")


def test_types_of_equal_values_list_them_in_one_order() -> None:
    # Python treats them as one type, so that the order in a check would depend on the first import.
    orders: dict[frozenset[str], set[tuple[str, ...]]] = {}
    for path in Path(schemas.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal":
                parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                values = tuple(str(part.value) for part in parts if isinstance(part, ast.Constant))
                orders.setdefault(frozenset(values), set()).add(values)
    assert len(orders) > 20
    assert [found for found in orders.values() if len(found) > 1] == []
