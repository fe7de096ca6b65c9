"""Responding against a real server: every call becomes a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.answers import RESPONSES, Response
from schemas.errors import ModelError
from schemas.question import QUESTIONS
from tasks.expand import expand_family
from tasks.respond import plan_calls, respond
from tasks.run.store import Outcome, RunContext, TableRef, write_step
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import (
    DISCONNECT,
    HANG,
    MALFORMED,
    Body,
    Fault,
    OpenAIServer,
    Reply,
    delay,
    status,
    storm,
)

MakeContext = Callable[..., RunContext]


def asked(context: RunContext, *families: str) -> TableRef:
    questions = [q for f in families for q in expand_family(context.recipe, DATA, f)]
    step = write_step(Path(context.run_dir) / "q-0", "expand", "0", Outcome({QUESTIONS: questions}, ()))
    return step.table("questions")


def against(server: OpenAIServer, **changes: Any) -> dict[str, Any]:
    model = f"openai:test-model@{server.url}"
    return {
        "models": {"targets": [model]},
        "budget": {"free": [model]},
        "limits": {"attempts": 2, "max_in_flight": 8},
        **changes,
    }


def rows_of(outcome: Outcome) -> list[Response]:
    return [r for r in outcome.tables[RESPONSES] if isinstance(r, Response)]


def test_every_variant_and_sample_has_one_row(make_context: MakeContext) -> None:
    with OpenAIServer("Talk to them first.") as server:
        context = make_context(**against(server))
        questions = asked(context, "open")
        rows = rows_of(respond(context, questions, "search"))
    wanted = {
        (q.id, v.index, k)
        for q in expand_family(context.recipe, DATA, "open")
        for v in q.variants
        for k in (0, 1)
    }
    assert {(r.question_id, r.variant, r.sample) for r in rows} == wanted
    assert len(rows) == len(wanted)
    assert {r.text for r in rows} == {"Talk to them first."}


def test_rows_are_in_the_order_of_the_questions(make_context: MakeContext) -> None:
    def last_first(number: int, body: Body) -> Fault:
        return delay(max(0.0, 0.3 - number * 0.02))

    with OpenAIServer("Talk.", faults=last_first) as server:
        context = make_context(**against(server))
        questions = asked(context, "open")
        rows = rows_of(respond(context, questions, "search"))
    wanted = [
        (q.id, v.index, k)
        for q in expand_family(context.recipe, DATA, "open")
        for v in q.variants
        for k in (0, 1)
    ]
    assert [(r.question_id, r.variant, r.sample) for r in rows] == wanted


def test_a_storm_neither_loses_nor_duplicates_rows(make_context: MakeContext) -> None:
    troubles = (status(429), status(429, retry_after="0.05"), status(500), DISCONNECT, MALFORMED, HANG)
    limits = {"attempts": 12, "max_in_flight": 16, "timeout_s": 0.5}
    with OpenAIServer("Talk.", faults=storm(0.35, *troubles, seed=2)) as server:
        context = make_context(**against(server, limits=limits))
        questions = asked(context, "open")
        outcome = respond(context, questions, "search")
        assert len(server.requests) > server.answered
    rows, (counts,) = rows_of(outcome), outcome.counts
    wanted = sum(2 * len(q.variants) for q in expand_family(context.recipe, DATA, "open"))
    assert len({r.id for r in rows}) == len(rows) == wanted == server.answered
    assert (counts.rows, counts.kept, counts.failed) == (wanted, wanted, 0)


def test_a_second_run_sends_nothing(make_context: MakeContext) -> None:
    with OpenAIServer("Yes, do.") as server:
        context = make_context(**against(server))
        questions = asked(context, "open")
        first = respond(context, questions, "search")
        sent = len(server.requests)
        assert respond(context, questions, "search") == first
        assert len(server.requests) == sent


def test_option_probabilities_are_used_if_available(make_context: MakeContext) -> None:
    family = {"decision": {"questions": 1, "samples": 1}}
    with OpenAIServer(Reply("Yes", top=({"Yes": -0.1, "No": -2.4},))) as server:
        context = make_context(**against(server, families=family))
        (row, *_) = rows_of(respond(context, asked(context, "decision"), "search"))
    assert row.scoring == "token_probability"
    assert row.option_logprobs[0] == pytest.approx(-0.1, abs=0.01)
    assert row.option == 0


def test_sampled_answer_is_read_without_probabilities(make_context: MakeContext) -> None:
    family = {"decision": {"questions": 1, "samples": 1}}
    with OpenAIServer("No.", rejects=("logprobs", "top_logprobs")) as server:
        context = make_context(**against(server, families=family))
        (row, *_) = rows_of(respond(context, asked(context, "decision"), "search"))
    assert (row.scoring, row.option_logprobs, row.option) == ("sampled", (), 1)


def test_invalid_choice_is_recorded_as_none_and_never_guessed(make_context: MakeContext) -> None:
    family = {"decision": {"questions": 1, "samples": 1}}
    with OpenAIServer("Perhaps.", rejects=("logprobs", "top_logprobs")) as server:
        context = make_context(**against(server, families=family, validate={"below_coverage": "report"}))
        (row, *_) = rows_of(respond(context, asked(context, "decision"), "search"))
    assert row.option is None
    assert row.text == "Perhaps."


def test_target_that_is_always_cut_off_stops_after_its_first_answers(make_context: MakeContext) -> None:
    family = {"decision": {"questions": 6, "samples": 20}}
    cut = Reply("Let me think about this carefully. The applicant", finish_reason="length")
    with OpenAIServer(lambda messages, body: cut, rejects=("logprobs", "top_logprobs")) as server:
        context = make_context(**against(server, families=family))
        questions = asked(context, "decision")
        with pytest.raises(ModelError, match="cut off at the length limit") as stopped:
            respond(context, questions, "search")
        calls = len(server.requests)
    assert "max_tokens" in str(stopped.value)
    assert calls <= 20 + 8 + 1, "the first answers, and those in flight"


def test_family_that_cannot_be_read_stops_after_its_first_answers(make_context: MakeContext) -> None:
    family = {"decision": {"questions": 12, "samples": 1}}
    with OpenAIServer("Well, it depends.", rejects=("logprobs", "top_logprobs")) as server:
        context = make_context(**against(server, families=family))
        questions = asked(context, "decision")
        with pytest.raises(ModelError, match=r"family `decision` could not be read") as stopped:
            respond(context, questions, "search")
        calls = len(server.requests)
        planned = sum(1 for _ in plan_calls(context, questions, "search"))
    assert "Well, it depends." in str(stopped.value)
    assert stopped.value.exit_code == 5
    assert calls < planned / 2


def test_one_question_that_cannot_be_read_does_not_stop_its_family(make_context: MakeContext) -> None:
    with OpenAIServer("Well, it depends.", rejects=("logprobs", "top_logprobs")) as server:
        context = make_context(**against(server, families={"decision": {"questions": 1, "samples": 20}}))
        question, *_ = expand_family(context.recipe, DATA, "decision")
        step = write_step(Path(context.run_dir) / "q-0", "x", "0", Outcome({QUESTIONS: [question]}, ()))
        answered = rows_of(respond(context, step.table("questions"), "search"))
    assert len(answered) >= 40
    assert {r.reading for r in answered} == {"unreadable"}


def test_unreadable_family_is_reported_if_the_recipe_asks_for_that(make_context: MakeContext) -> None:
    family = {"decision": {"questions": 12, "samples": 1}}
    with OpenAIServer("Well, it depends.", rejects=("logprobs", "top_logprobs")) as server:
        context = make_context(**against(server, families=family, validate={"below_coverage": "report"}))
        answered = rows_of(respond(context, asked(context, "decision"), "search"))
    assert {r.reading for r in answered} == {"unreadable"}


def test_polite_refusal_is_marked(make_context: MakeContext) -> None:
    with OpenAIServer("I'm sorry, but I can't help with that.") as server:
        context = make_context(**against(server))
        assert all(r.refused for r in rows_of(respond(context, asked(context, "open"), "search")))


def test_tolerated_failures_are_counted_rows(make_context: MakeContext) -> None:
    def first_one_fails(number: int, body: dict[str, Any]) -> Any:
        return status(400) if number == 0 else None

    with OpenAIServer("Yes.", faults=first_one_fails) as server:
        context = make_context(**against(server, validate={"max_failure_rate": 0.5}))
        outcome = respond(context, asked(context, "open"), "search")
    failed = [r for r in rows_of(outcome) if r.failure]
    assert len(failed) == outcome.counts[0].failed == 1
    assert failed[0].text == ""


def test_too_many_failures_stop_the_stage_with_a_reason(make_context: MakeContext) -> None:
    with OpenAIServer("Yes.", faults=lambda number, body: status(500)) as server:
        context = make_context(**against(server))
        with pytest.raises(ModelError, match="the first 20 calls all failed") as error:
            respond(context, asked(context, "open"), "search")
    assert error.value.exit_code == 5


def test_holdout_asks_accepted_questions_and_controls_only(make_context: MakeContext) -> None:
    with OpenAIServer("Yes.") as server:
        context = make_context(**against(server, holdout={"samples": 1}))
        questions = expand_family(recipe_of(), DATA, "open")
        plain = [q for q in questions if q.control == "none"]
        labelled = [
            plain[0].model_copy(update={"label": "accepted"}),
            *plain[1:],
            *(q for q in questions if q.control != "none"),
        ]
        step = write_step(Path(context.run_dir) / "q-0", "x", "0", Outcome({QUESTIONS: labelled}, ()))
        rows = rows_of(respond(context, step.table("questions"), "holdout"))
    asked_ids = {r.question_id for r in rows}
    assert plain[0].id in asked_ids
    assert not asked_ids & {q.id for q in plain[1:]}
    assert {r.phase for r in rows} == {"holdout"}
