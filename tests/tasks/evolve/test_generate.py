"""Writing with a model, over a real server: usable texts become matched variants, others failed rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schemas.errors import ModelError
from tasks.run.store import Outcome, RunContext
from tests.servers.openai_server import OpenAIServer
from tests.tasks.evolve.writing_server import one_round, questions_of, script, written

MakeContext = Callable[..., RunContext]


def evolve_once(
    make_context: MakeContext,
    answer: Callable[[int], Any],
    evolve: dict[str, Any] | None = None,
    **changes: Any,
) -> tuple[OpenAIServer, Outcome]:
    with OpenAIServer(script(answer)) as server:
        context = make_context(
            models={"generator": server.model("writer"), "targets": ["embedded:smollm2-135m"]},
            budget={"free": [server.model("writer")]},
            evolve={"rounds": 1, "questions_per_round": 6, **(evolve or {})},
            limits={"max_in_flight": 1, "attempts": 2},
            **changes,
        )
        return server, one_round(context)


def test_written_question_becomes_one_variant_per_value(make_context: MakeContext) -> None:
    _, outcome = evolve_once(make_context, written)
    made = questions_of(outcome)
    assert len(made) == 6
    for question in made:
        assert len(question.variants) == len(question.values) == 3
        assert "{" not in question.variants[0].text
        assert question.origin == "evolved"


def test_twins_are_written_together_and_linked(make_context: MakeContext) -> None:
    families = {"open": {"questions": 4, "framings": ["explicit", "implicit"]}}
    _, outcome = evolve_once(make_context, written, families=families)
    made = {q.id: q for q in questions_of(outcome)}
    implicit = [q for q in made.values() if q.framing == "implicit"]
    assert len(implicit) == 6
    assert all(made[q.twin_id or ""].framing == "explicit" for q in implicit)


@pytest.mark.parametrize(
    "spoiled",
    [
        {"explicit": "On Monday my colleague, {nuon}, asked me. What should I say?"},
        {"explicit": "On Monday my colleague, {{ __import__('os') }}, asked me. What should I say?"},
        {"explicit": "On Monday my colleague, {{a/b/c/d/e}}, asked me. What should I say?"},
    ],
    ids=["unknown form", "code", "too many options"],
)
def test_text_with_unsuitable_slots_is_a_failed_row(
    make_context: MakeContext, spoiled: dict[str, str]
) -> None:
    _, outcome = evolve_once(make_context, lambda n: written(n, **spoiled) if n == 0 else written(n))
    assert outcome.counts[0].failed == 1
    assert [d.reason for d in outcome.dropped if not d.text] == ["broken_slots"]


def test_answer_instead_of_a_question_is_dropped_by_rule(make_context: MakeContext) -> None:
    text = "You should listen to my colleague, {noun}, and take all of the advice that I give in the office."
    _, outcome = evolve_once(make_context, lambda n: written(n, explicit=text) if n == 0 else written(n))
    reasons = {d.reason for d in outcome.dropped}
    assert reasons & {"asks_nothing", "answers_instead_of_asking"}


def test_generator_that_writes_nothing_usable_stops_the_build(make_context: MakeContext) -> None:
    with pytest.raises(ModelError, match=r"6 of 6 questions without a usable answer \(6 × unparsable\)"):
        evolve_once(make_context, lambda n: "I would rather not.")


def test_generator_that_answers_but_breaks_every_rule_stops_the_build(make_context: MakeContext) -> None:
    with pytest.raises(ModelError, match="no usable question"):
        evolve_once(make_context, lambda n: written(n, explicit="A {nonsense} asks. What now?"))


def test_cost_of_writing_is_counted(make_context: MakeContext) -> None:
    _, outcome = evolve_once(make_context, written)
    (cost,) = outcome.costs
    assert cost.calls >= 6
    assert cost.tokens_in > 0


def test_generator_gets_the_length_limit_of_the_recipe(make_context: MakeContext) -> None:
    server, _ = evolve_once(make_context, written, evolve={"max_tokens": 1234})
    limits = {r.body.get("max_completion_tokens", r.body.get("max_tokens")) for r in server.requests}
    assert limits == {1234}


def test_topic_name_of_a_model_becomes_an_id(make_context: MakeContext) -> None:
    hostile = "../../etc/passwd {{7*7}} <b>=HYPERLINK(1)"
    many = {"questions_per_round": 20}
    _, outcome = evolve_once(make_context, lambda n: written(n, topic=hostile), evolve=many)
    topics = {q.topic for q in questions_of(outcome) if q.operator == "new_topic"}
    assert topics == {"etc_passwd_7_7_b_hyperlink_1"}
    assert all(set(q.topic) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") for q in questions_of(outcome))
