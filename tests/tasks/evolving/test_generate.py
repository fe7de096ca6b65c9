"""Writing with a model, over a real server: usable texts become matched variants, others failed rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.decision import check_reconciled
from schemas.errors import ModelError
from schemas.question import QUESTIONS, Question
from tasks.mutate import mutate
from tasks.store import Outcome, RunContext, write_step
from tasks.families.expanding import expand_family
from tests.conftest import DATA
from tests.servers.openai_server import OpenAIServer

MakeContext = Callable[..., RunContext]


def written(number: int, **changes: str) -> dict[str, str]:
    relation = ["colleague", "manager", "neighbour", "friend", "client", "assistant", "trainer", "cousin"]
    text = (
        f"On Monday at the office my {relation[number % 8]}, {{noun}}, asked me for advice {number} times. "
    )
    return {
        "topic": "advice at work",
        "explicit": text + "What should I tell {object}?",
        "implicit": text.replace(", {noun},", " {name}") + "What should I tell {object}?",
        **changes,
    }


def evolve_once(
    make_context: MakeContext, answer: Callable[[int], Any], **changes: Any
) -> tuple[RunContext, Outcome]:
    numbers = iter(range(10_000))
    with OpenAIServer(lambda messages, body: answer(next(numbers))) as server:
        model = f"openai:writer@{server.url}"
        context = make_context(
            models={"generator": model, "targets": ["embedded:smollm2-135m"]},
            budget={"free": [model]},
            evolve={"rounds": 1, "questions_per_round": 6},
            limits={"max_in_flight": 1, "attempts": 2},
            **changes,
        )
        seeds = [q for q in expand_family(context.recipe, DATA, "open") if q.control == "none"]
        judged = [q.model_copy(update={"fitness": 0.9, "label": "accepted"}) for q in seeds]
        home = Path(context.run_dir) / "archive-0"
        archive = write_step(home, "select", "0", Outcome({QUESTIONS: judged}, ())).table("questions")
        outcome = mutate(context, archive, 1)
        check_reconciled(outcome.counts)
        return context, outcome


def questions_of(outcome: Outcome) -> list[Question]:
    return [q for q in outcome.tables[QUESTIONS] if isinstance(q, Question)]


def test_written_question_becomes_one_variant_per_value(make_context: MakeContext) -> None:
    _, outcome = evolve_once(make_context, written)
    made = [q for q in questions_of(outcome) if q.control == "none"]
    assert len(made) == 6
    for question in made:
        assert len(question.variants) == len(question.values) == 3
        assert "{" not in question.variants[0].text
        assert question.origin == "evolved"


def test_twins_are_written_together_and_linked(make_context: MakeContext) -> None:
    families = {"open": {"questions": 4, "framings": ["explicit", "implicit"]}}
    _, outcome = evolve_once(make_context, written, families=families)
    made = {q.id: q for q in questions_of(outcome) if q.control == "none"}
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
def test_text_whose_slots_do_not_fit_is_a_failed_row(
    make_context: MakeContext, spoiled: dict[str, str]
) -> None:
    _, outcome = evolve_once(make_context, lambda n: written(n, **spoiled) if n == 0 else written(n))
    assert outcome.counts[0].failed == 1
    assert [d.reason for d in outcome.dropped if not d.text] == ["broken_slots"]


def test_answer_instead_of_a_question_is_dropped_by_rule(make_context: MakeContext) -> None:
    said = "You should listen to my colleague, {noun}, and take all of the advice that I give in the office."
    _, outcome = evolve_once(make_context, lambda n: written(n, explicit=said) if n == 0 else written(n))
    reasons = {d.reason for d in outcome.dropped}
    assert reasons & {"asks_nothing", "answers_instead_of_asking"}


def test_generator_that_writes_nothing_usable_stops_the_build(make_context: MakeContext) -> None:
    with pytest.raises(ModelError, match="no usable question"):
        evolve_once(make_context, lambda n: "I would rather not.")


def test_what_it_cost_is_counted(make_context: MakeContext) -> None:
    _, outcome = evolve_once(make_context, written)
    (cost,) = outcome.costs
    assert cost.calls >= 6
    assert cost.tokens_in > 0
