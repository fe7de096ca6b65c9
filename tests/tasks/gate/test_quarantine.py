"""Failing questions are removed with their group before measurement, up to the limit of the recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.gate import Quarantine
from schemas.labels import DROPPED, LABEL_HISTORY, check_reconciled
from schemas.question import QUESTIONS, Question
from tasks.checks.catalogue import CHECKS, QUARANTINE_CHECKS, Problem
from tasks.gate import check_quarantine_limit
from tasks.gate.quarantine import STAGE, find_failing_questions, read_quarantine, remove_failing
from tasks.run.store import RunContext, Step, read_table, run_stage
from tasks.text.slots import expand_template
from tests.material.good_tables import Tables, good_tables
from tests.tasks.gate.test_validate import refs_of

ContextMaker = Callable[..., RunContext]
NEEDED = ("questions", "responses", "judgements", "label_history", "dropped")


@pytest.fixture
def tables() -> Tables:
    found, _ = good_tables()
    return {name: found[name] for name in NEEDED}


def quarantined(place: Path, make_context: ContextMaker, tables: Tables, **settings: Any) -> Step:
    context = make_context(validate={"on_failure": "quarantine", **settings})
    return run_stage(STAGE, context, **refs_of(place, tables))


def with_sentence(question: Question, sentence: str) -> Question:
    template = f"{question.template} {sentence}"
    changed = {"template": template, "variants": expand_template(template, question.values)}
    return question.model_copy(update={**changed, "changed_in": "1.0.0"})


def test_a_failing_question_is_dropped_whole_with_its_reason(
    tmp_path: Path, make_context: ContextMaker, tables: Tables
) -> None:
    hard = next(i for i, q in enumerate(tables["questions"]) if q.label == "hard_negative")
    spoilt = with_sentence(tables["questions"][hard], "The cafÃ© was closed.")
    tables["questions"][hard] = spoilt
    step = quarantined(tmp_path / "a", make_context, tables)
    quarantine = read_quarantine(step)
    assert quarantine is not None
    assert (quarantine.questions, quarantine.failing, quarantine.taken) == (62, 1, 1)
    assert quarantine.checks == {"garbled_text": 1}
    assert spoilt.id not in {q.id for q in read_table(step.table("questions"), QUESTIONS)}
    (lost,) = read_table(step.table("dropped"), DROPPED)
    assert (lost.stage, lost.reason) == ("validate", "garbled_text")
    assert json.loads(lost.record)["id"] == spoilt.id
    assert spoilt.id not in {c.subject_id for c in read_table(step.table("label_history"), LABEL_HISTORY)}
    check_reconciled(step.counts)
    assert [(c.stage, c.rows, c.dropped) for c in step.counts] == [("quarantine", 62, 1)]


def test_a_faulty_answer_takes_its_question_with_it(
    tmp_path: Path, make_context: ContextMaker, tables: Tables
) -> None:
    first = tables["responses"][0]
    tables["responses"][0] = first.model_copy(update={"value": "man"})
    step = quarantined(tmp_path / "a", make_context, tables)
    (lost,) = read_table(step.table("dropped"), DROPPED)
    assert json.loads(lost.record)["id"] == first.question_id
    assert lost.reason == "answer_of_another_value"


def test_a_twin_that_stays_no_longer_names_the_one_that_left(tables: Tables) -> None:
    questions: list[Question] = tables["questions"]
    gone = next(q for q in questions if q.framing == "implicit")
    kept, _ = remove_failing(questions, {gone.id: "implicit_text_names_group"})
    stayed = next(q for q in kept if q.id == gone.twin_id)
    assert stayed.twin_id is None


def test_personal_data_is_not_repeated_in_the_dropped_row(
    tmp_path: Path, make_context: ContextMaker, tables: Tables
) -> None:
    tables["questions"][0] = with_sentence(tables["questions"][0], "Write to jo.doe@example.org.")
    step = quarantined(tmp_path / "a", make_context, tables)
    (lost,) = read_table(step.table("dropped"), DROPPED)
    assert lost.reason == "personal_data"
    assert "example.org" not in lost.model_dump_json()


def test_more_than_the_recipe_allows_stay_and_the_gate_fails(
    tmp_path: Path, make_context: ContextMaker, tables: Tables
) -> None:
    for i in (0, 2):
        tables["questions"][i] = with_sentence(tables["questions"][i], "The cafÃ© was closed.")
    step = quarantined(tmp_path / "a", make_context, tables, max_quarantine_rate=0.02)
    quarantine = read_quarantine(step)
    assert quarantine is not None
    assert (quarantine.failing, quarantine.taken) == (2, 0)
    assert len(read_table(step.table("questions"), QUESTIONS)) == 62
    assert read_table(step.table("dropped"), DROPPED) == []
    (problem,) = check_quarantine_limit(quarantine)
    assert problem.check == "too_many_to_quarantine"
    assert problem.severity == "error"
    assert "2 of 62" in problem.message


def test_without_a_quarantine_in_the_recipe_nothing_is_looked_at(
    tmp_path: Path, make_context: ContextMaker, tables: Tables
) -> None:
    tables["questions"][0] = with_sentence(tables["questions"][0], "The cafÃ© was closed.")
    step = quarantined(tmp_path / "a", make_context, tables, on_failure="stop")
    assert read_quarantine(step) is None
    assert step.counts == ()
    assert read_table(step.table("questions"), QUESTIONS) == tables["questions"]


def test_unreleased_questions_are_not_quarantined(
    tmp_path: Path, make_context: ContextMaker, tables: Tables
) -> None:
    at = next(i for i, q in enumerate(tables["questions"]) if q.label == "accepted")
    spoilt = with_sentence(tables["questions"][at], "The cafÃ© was closed.")
    tables["questions"][at] = spoilt.model_copy(update={"label": "unlabelled"})
    quarantine = read_quarantine(quarantined(tmp_path / "a", make_context, tables))
    assert quarantine is not None
    assert (quarantine.questions, quarantine.failing) == (61, 0)


def test_faults_of_a_whole_table_do_not_blame_a_question(tables: Tables) -> None:
    arrow = {"questions": QUESTIONS.to_arrow(tables["questions"])}
    rows = (tables["questions"][0].id,)
    whole = ("question_lost", "question_from_nowhere", "too_many_failures", "canary_absent", "file_changed")
    for check in whole:
        assert find_failing_questions([Problem("questions", check, rows)], arrow) == {}
    assert find_failing_questions([Problem("questions", "variant_missing", rows)], arrow) == {
        rows[0]: "variant_missing"
    }
    assert set(CHECKS) > QUARANTINE_CHECKS


def test_all_that_failed_were_taken_and_the_gate_has_nothing_to_add() -> None:
    quarantine = Quarantine(questions=100, failing=2, taken=2, limit=0.02, checks={"garbled_text": 2})
    assert check_quarantine_limit(quarantine) == []
    assert check_quarantine_limit(None) == []
