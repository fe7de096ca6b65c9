"""A family end to end: expanded, asked over a real server, measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Effect, Response
from schemas.question import QUESTIONS, Question
from tasks.expand import complete_families, expand_family, read_own_table
from tasks.families import Answered
from tasks.files.vocabulary import read_attributes
from tasks.gate.answers import check_responses
from tasks.gate.questions import (
    check_groups,
    check_leakage,
    check_repeated_texts,
    check_twins,
    check_vocabulary,
)
from tasks.measure import measure
from tasks.respond import respond
from tasks.run.store import Outcome, RunContext, write_step
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import OpenAIServer
from tests.tasks.judge.material import TARGET, make_response

MakeContext = Callable[..., RunContext]


class Asked:
    """Results of asking the questions of one family."""

    def __init__(self, outcome: Outcome, questions: list[Question], responses: list[Response]) -> None:
        self.questions = questions
        self.responses = responses
        self.effects = [e for e in outcome.tables[EFFECTS] if isinstance(e, Effect)]
        self.problems = faults_of(questions, responses)

    def only(self, **where: Any) -> Effect:
        """Return the only effect with these values."""
        (effect,) = [e for e in self.effects if all(getattr(e, k) == v for k, v in where.items())]
        return effect


def ask_family(make_context: MakeContext, answer: Any, family: str, **recipe: Any) -> Asked:
    """Answer the questions of a family with `answer` (see `OpenAIServer`) or a server, and measure them."""
    with answer if isinstance(answer, OpenAIServer) else OpenAIServer(answer) as server:
        model = f"openai:test-model@{server.url}"
        context = make_context(models={"targets": [model]}, budget={"free": [model]}, **recipe)
        own = read_own_table(context)
        context = context.model_copy(update={"recipe": complete_families(context.recipe, own)})
        questions = expand_family(context.recipe, DATA, family, own)
        step = write_step(Path(context.run_dir) / "q", "expand", "0", Outcome({QUESTIONS: questions}, ()))
        outcome = respond(context, step.table("questions"), "search")
    tables = {**outcome.tables, QUESTIONS: questions, JUDGEMENTS: []}
    parts = write_step(Path(context.run_dir) / "m", "gather", "0", Outcome(tables, ()))
    names = {t.name: parts.table(t.name) for t in (QUESTIONS, RESPONSES, JUDGEMENTS)}
    measured = measure(context, **names)
    rows = [r for r in outcome.tables[RESPONSES] if isinstance(r, Response)]
    return Asked(measured, questions, rows)


def faults_of(questions: list[Question], responses: list[Response]) -> list[str]:
    """Return the findings of the gate about questions and answers, without those of single columns."""
    known = {a.id: a for a in read_attributes(DATA, sorted({q.attribute for q in questions}))}
    problems = [
        *check_groups(questions),
        *check_vocabulary(questions, known),
        *check_repeated_texts(questions),
        *check_twins(questions),
        *check_leakage(questions, known),
        *check_responses(RESPONSES.to_arrow(responses), QUESTIONS.to_arrow(questions), 0.0),
    ]
    return sorted({p.check for p in problems})


def questions_of(family: str, *attributes: str, **spec: Any) -> list[Question]:
    """Return the questions of a family about some attributes."""
    recipe = recipe_of(attributes=list(attributes), families={family: spec})
    return expand_family(recipe, DATA, family)


def answered(question: Question, rows: list[Response], condition: str = "plain") -> Answered:
    """Return answers to one question."""
    return Answered(question, TARGET, condition, tuple(rows))


def say(question: Question, variant: int, sample: int, text: str = "", **more: Any) -> Response:
    """Return an answer in one order of the options. Odd samples reverse the order."""
    n = len(question.options)
    order = tuple(range(n)) if sample % 2 == 0 else tuple(reversed(range(n)))
    return make_response(question, variant, sample, text, option_order=order, **more)
