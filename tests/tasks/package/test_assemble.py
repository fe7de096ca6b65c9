"""Every question ends in one table, and a release does not depend on the order of its inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.answers import RESPONSES
from schemas.errors import GateError
from schemas.labels import DROPPED
from schemas.question import Label
from tasks.package.assemble import STAGE, account_for, assemble, split_by_label
from tasks.questions.quality import drop_question
from tasks.release import CONFIGS, RETIRED
from tasks.run.store import Step, run_stage
from tests.tasks.release.example import Build, a_context, a_response, example_question, small_build


def assembled(build: Build, home: Path) -> Step:
    return run_stage(STAGE, a_context(home), **build.write(home / "in"))


def ids(step: Step, config: str) -> list[str]:
    found: list[str] = pq.read_table(step.table(config).path)["id"].to_pylist()
    return found


def test_each_question_goes_to_the_table_of_its_label() -> None:
    build = small_build()
    kept, clean, control, low, decision = build.standing
    released, left = split_by_label(build.standing, answered={decision.id})
    assert {q.id for q in released["questions"]} == {kept.id, decision.id}
    assert released["hard_negatives"] == [clean]
    assert released["controls"] == [control]
    assert [(d.stage, d.reason) for d in left] == [("select", "below_threshold")]
    assert low.id in left[0].record


def test_unanswered_question_of_a_templated_family_is_dropped_with_its_reason() -> None:
    decision = small_build().standing[-1]
    released, left = split_by_label([decision], answered=())
    assert not any(released.values())
    assert (left[0].stage, left[0].reason) == ("respond", "not_answered")


def test_unjudged_open_question_is_not_labelled_weak() -> None:
    _, left = split_by_label([example_question(label="unlabelled", fitness=None)], answered=())
    assert (left[0].stage, left[0].reason) == ("judge", "not_judged")


def test_question_without_a_final_table_is_named() -> None:
    lost, kept = example_question("age"), example_question()
    with pytest.raises(GateError, match=lost.id):
        account_for([kept, lost], {"questions": [kept]}, [])


def test_question_that_is_released_and_dropped_is_named() -> None:
    kept = example_question()
    dropped = drop_question(kept, stage="deduplicate", reason="near_duplicate", because_of="q_other")
    with pytest.raises(GateError, match=f"{kept.id}.*dropped and questions"):
        account_for([kept], {"questions": [kept]}, [dropped])


def test_question_made_twice_is_released_once() -> None:
    kept = example_question()
    again = drop_question(kept, stage="mutate", reason="repeats", because_of=kept.id)
    account_for([kept, kept], {"questions": [kept]}, [again])


def test_question_that_no_stage_made_cannot_be_released() -> None:
    with pytest.raises(GateError, match="no stage generated it"):
        account_for([], {"questions": [example_question()]}, [])


@given(st.lists(st.sampled_from(["accepted", "hard_negative", "unlabelled"]), max_size=12))
def test_all_questions_are_accounted_for_with_any_labels(labels: list[Label]) -> None:
    questions = [
        example_question(topic=f"waited {i} minutes", label=label, fitness=None if i % 3 else 0.1)
        for i, label in enumerate(labels)
    ]
    released, left = split_by_label(questions, answered=())
    account_for(questions, released, left)
    assert sum(map(len, released.values())) + len(left) == len(questions)


def test_every_config_has_its_table_even_when_it_is_empty(tmp_path: Path) -> None:
    step = assembled(replace(small_build(), history=(), effects=()), tmp_path)
    assert {ref.table for ref in step.tables} == set(CONFIGS) - {RETIRED.name}
    assert step.table("effects").rows == 0


def test_answers_of_dropped_questions_stay_behind_and_are_counted(tmp_path: Path) -> None:
    build = small_build()
    low = build.standing[3]
    step = assembled(build, tmp_path)
    released = pq.read_table(step.table(RESPONSES.name).path)["question_id"].to_pylist()
    assert low.id not in released
    counts = {c.stage: c for c in step.counts}
    assert counts["assemble_responses"].dropped == len(low.variants)
    assert counts["assemble_judgements"].dropped == 1
    assert counts["assemble"].dropped == 1


def test_dropped_rows_of_all_stages_are_in_one_config(tmp_path: Path) -> None:
    step = assembled(small_build(), tmp_path)
    rows = pq.read_table(step.table(DROPPED.name).path).to_pylist()
    assert {(r["stage"], r["reason"]) for r in rows} == {
        ("deduplicate", "near_duplicate"),
        ("select", "below_threshold"),
    }


def test_order_of_the_input_does_not_matter(tmp_path: Path) -> None:
    build = small_build()
    turned = Build(**{name: tuple(reversed(rows)) for name, rows in vars(build).items()})
    one, two = assembled(build, tmp_path / "one"), assembled(turned, tmp_path / "two")
    assert [r.sha256 for r in one.tables] == [r.sha256 for r in two.tables]


def test_two_different_rows_of_one_id_are_refused(tmp_path: Path) -> None:
    build = small_build()
    first = build.responses[0]
    build = replace(build, responses=(first, first.model_copy(update={"text": "another answer"})))
    with pytest.raises(GateError, match=first.id):
        assemble(a_context(tmp_path), **build.write(tmp_path / "in"))


def test_failed_call_does_not_count_as_an_answer(tmp_path: Path) -> None:
    build = small_build()
    decision = build.standing[-1]
    failed = tuple(
        a_response(decision, v.index, text="", failure="timeout", failure_message="no answer in 120 s")
        for v in decision.variants
    )
    others = tuple(r for r in build.responses if r.question_id != decision.id)
    step = assembled(replace(build, responses=others + failed), tmp_path)
    assert decision.id not in ids(step, "questions")
