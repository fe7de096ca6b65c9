"""Suites follow the schemas: a column that is declared is a column that is checked."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from schemas.answers import RESPONSES
from schemas.question import QUESTIONS
from tasks.checks.catalogue import CHECKS
from tasks.gate import great_expectations
from tasks.gate.examination import TABLES
from tasks.gate.great_expectations import COLUMNS, Expectation, derive_suite, split_frames
from tests.tasks.release.example import example_question


def suite(table: str, frame: str) -> list[Expectation]:
    (found,) = (f for f in split_frames(TABLES[table], TABLES[table].to_arrow([])) if f.name == frame)
    return derive_suite(found)


def test_optional_columns_may_be_null_and_others_may_not() -> None:
    required = {e.column for e in suite("questions", "questions") if e.kind == "not_null"}
    assert {"id", "family", "template", "round"} <= required
    assert not {"parent_id", "fitness", "changed_in"} & required


def test_literals_become_value_sets() -> None:
    sets = {e.column: e.arguments["values"] for e in suite("responses", "responses") if e.kind == "in_set"}
    assert sets["phase"] == ("search", "holdout")


def test_nested_records_have_a_suite_of_their_own() -> None:
    names = [f.name for f in split_frames(QUESTIONS, QUESTIONS.to_arrow([]))]
    assert names == ["questions", "questions.variants", "questions.options"]
    assert ("slot_unfilled", "text") in {
        (e.check, e.column) for e in suite("questions", "questions.variants")
    }


def test_references_of_the_schema_are_checked() -> None:
    assert [e.column for e in suite("responses", "responses") if e.kind == "known"] == [
        column for column, _ in RESPONSES.references
    ]


@pytest.mark.parametrize("frame", sorted(COLUMNS))
def test_manual_expectations_name_existing_columns(frame: str) -> None:
    table = frame.split(".")[0]
    made = suite(table, frame)
    assert all(e in made for e in COLUMNS[frame])


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_expectation_is_in_the_catalogue(table: str) -> None:
    frames = split_frames(TABLES[table], TABLES[table].to_arrow([]))
    assert {e.check for f in frames for e in derive_suite(f)} <= set(CHECKS)


def test_the_columns_of_a_large_frame_are_checked_one_by_one_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = QUESTIONS.to_arrow([example_question(), example_question("age"), example_question("age")])
    at = rows.column_names.index("language")
    rows = rows.set_column(at, "language", pa.array(["en", "not a tag", "de"]))
    found = []
    for limit in (great_expectations.LARGE_FRAME, 1):
        monkeypatch.setattr(great_expectations, "LARGE_FRAME", limit)
        for frame in split_frames(QUESTIONS, rows):
            problems, result = great_expectations.run_suite(frame, {}, {"values_repeated": ["q_1"]})
            content = json.loads(result.result)
            by_text = sorted(json.dumps(entry, sort_keys=True) for entry in content.pop("results"))
            found.append((frame.name, sorted(map(repr, problems)), result.failed, by_text, content))
    half = len(found) // 2
    assert found[:half] == found[half:]
    assert any(problems for _, problems, *_ in found)
