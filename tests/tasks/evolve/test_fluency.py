"""Fluency parity: a question that reads badly for one value leaves before a target is paid."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from schemas.errors import ModelError
from tasks.evolve.generate import find_fluency_judge
from tasks.run.store import Outcome, RunContext
from tests.conftest import recipe_of
from tests.servers.openai_server import Messages, OpenAIServer
from tests.tasks.evolve.writing_server import (
    all_fluent,
    one_round,
    questions_of,
    requested_type,
    script,
    written,
)

MakeContext = Callable[..., RunContext]
BOTH = {"open": {"questions": 4, "framings": ["explicit", "implicit"]}}


def read_once(
    make_context: MakeContext,
    read: Callable[[Messages], Any] = all_fluent,
    *,
    fluency: str = "judge",
    judged: bool = True,
    **changes: Any,
) -> tuple[OpenAIServer, Outcome]:
    with OpenAIServer(script(written, read=read)) as server:
        writer, judge = server.model("writer"), server.model("judge")
        context = make_context(
            models={
                "generator": writer,
                "targets": ["embedded:smollm2-135m"],
                "judges": ["divergence", judge] if judged else ["divergence"],
            },
            budget={"free": [writer, judge]},
            evolve={"rounds": 1, "questions_per_round": 6, "fluency": fluency},
            judging={"max_tokens": 777},
            limits={"max_in_flight": 1, "attempts": 1},
            **changes,
        )
        return server, one_round(context)


def readings(server: OpenAIServer) -> list[dict[str, Any]]:
    return [r.body for r in server.requests if requested_type(r.body) == "ReadVersions"]


def stumbling_at(word: str) -> Callable[[Messages], Any]:
    """A reader that finds one version with the word unreadable."""

    def read(messages: Messages) -> Any:
        verdict = all_fluent(messages)
        for version in verdict["versions"]:
            text = messages[-1]["content"].split(f"<{version['label']} ")[1].split("</")[0]
            version["fluent"] = int(word not in text)
        return verdict

    return read


def test_every_question_is_read_once_with_all_its_variants(make_context: MakeContext) -> None:
    server, outcome = read_once(make_context)
    made = questions_of(outcome)
    asked = readings(server)
    assert len(asked) == len(made) == json.loads(outcome.notes)["fluency_read"]
    for question in made:
        assert sum(all(v.text in a["messages"][-1]["content"] for v in question.variants) for a in asked) == 1


def test_question_that_reads_badly_for_one_value_leaves_with_its_twin(make_context: MakeContext) -> None:
    _, outcome = read_once(make_context, stumbling_at("a woman, asked me for advice 2 times"), families=BOTH)
    dropped = {d.reason: json.loads(d.record) for d in outcome.dropped}
    assert set(dropped) == {"fluency:judge", "twin_dropped"}
    assert dropped["fluency:judge"]["twin_id"] == dropped["twin_dropped"]["id"]
    assert len(questions_of(outcome)) == 10


@pytest.mark.parametrize(
    "useless",
    [
        "I cannot read.",
        {"versions": []},
        {"versions": [{"label": "version-1", "problem": "bad", "fluent": 0}]},
        {"versions": [{"label": "version-9", "problem": "bad", "fluent": 0}] * 3},
    ],
    ids=["no JSON", "no version", "one version only", "versions that were not shown"],
)
def test_reader_that_abstains_keeps_the_question_and_is_counted(
    make_context: MakeContext, useless: Any
) -> None:
    _, outcome = read_once(make_context, lambda messages: useless, validate={"min_judged": 0})
    notes = json.loads(outcome.notes)
    assert notes["fluency_abstained"] == notes["fluency_read"] == len(questions_of(outcome)) == 6


def test_reader_without_any_readable_answer_stops_the_build(make_context: MakeContext) -> None:
    with pytest.raises(ModelError, match="6 of 6 readings of questions without a usable answer"):
        read_once(make_context, lambda messages: "no JSON")


def test_cost_of_reading_is_recorded_for_the_judge(make_context: MakeContext) -> None:
    server, outcome = read_once(make_context)
    calls = {cost.model.split("@")[0]: cost.calls for cost in outcome.costs}
    assert calls["openai:judge"] == len(readings(server)) == 6


def test_reader_gets_the_length_limit_of_a_judge(make_context: MakeContext) -> None:
    server, _ = read_once(make_context)
    assert {a.get("max_completion_tokens", a.get("max_tokens")) for a in readings(server)} == {777}


def test_question_that_breaks_a_rule_is_not_read(make_context: MakeContext) -> None:
    def write(number: int) -> dict[str, str]:
        return written(number, **({"explicit": "What about {noun}?"} if number == 0 else {}))

    with OpenAIServer(script(write)) as server:
        writer, judge = server.model("writer"), server.model("judge")
        context = make_context(
            models={"generator": writer, "targets": ["embedded:smollm2-135m"], "judges": [judge]},
            budget={"free": [writer, judge]},
            evolve={"rounds": 1, "questions_per_round": 6},
            limits={"max_in_flight": 1},
        )
        outcome = one_round(context)
        assert len(readings(server)) == len(questions_of(outcome)) == 5


@pytest.mark.parametrize("changes", [{"fluency": "rules"}, {"judged": False}], ids=["rules", "no model"])
def test_without_a_reader_rules_decide_alone(make_context: MakeContext, changes: dict[str, Any]) -> None:
    server, outcome = read_once(make_context, stumbling_at("a woman"), **changes)
    assert not readings(server)
    assert len(questions_of(outcome)) == 6


def test_text_put_together_from_the_vocabulary_needs_no_reader(make_context: MakeContext) -> None:
    with OpenAIServer(script()) as server:
        judge = server.model("judge")
        context = make_context(
            models={"targets": ["embedded:smollm2-135m"], "judges": [judge]},
            budget={"free": [judge]},
            evolve={"rounds": 1, "questions_per_round": 6},
        )
        assert questions_of(one_round(context))
        assert not server.requests


def test_reader_is_the_first_model_among_the_judges() -> None:
    models = {"targets": ["embedded:smollm2-135m"], "judges": ["divergence", "openai:b", "openai:a"]}
    assert find_fluency_judge(recipe_of(models=models)) == "openai:b"
    assert find_fluency_judge(recipe_of()) is None
