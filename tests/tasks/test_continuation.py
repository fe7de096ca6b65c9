"""Models are asked for the second half of questions, by a real server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.answers import CONTINUATIONS, Continuation
from schemas.errors import ModelError
from schemas.question import QUESTIONS
from tasks.continuation import CANARY, CANARY_TEXT, probe_continuations
from tasks.report.comparisons import Scored
from tasks.report.contamination import contamination_of
from tasks.run.store import Outcome, RunContext, TableRef, write_step
from tests.servers.openai_server import Fault, OpenAIServer, status
from tests.tasks.release.example import example_question

GUID = "7cd2c6a5-3b1f-5d7a-9c62-5f0d4e8b21aa"
PUBLIC = [
    example_question(topic=f"asked the manager of shop {i} which course to take next year for a better job")
    for i in range(4)
]
PRIVATE = [
    example_question(topic=f"asked the owner of farm {i} which tools to buy next week to repair an old barn")
    for i in range(3)
]
MakeContext = Callable[..., RunContext]


def saved(context: RunContext, name: str, questions: list[Any]) -> TableRef:
    step = write_step(Path(context.run_dir) / name, "expand", "0", Outcome({QUESTIONS: questions}, ()))
    return step.table("questions")


def probe(
    make_context: MakeContext, answer: Any, *, private: bool = True, **changes: Any
) -> tuple[Outcome, list[Continuation], OpenAIServer]:
    with OpenAIServer(answer) as server:
        model = f"openai:test-model@{server.url}"
        settings = {"targets": [model]}
        context = make_context(models=settings, budget={"free": [model]}, limits={"attempts": 1}, **changes)
        outcome = probe_continuations(
            context,
            public=saved(context, "q-0", PUBLIC),
            private=saved(context, "q-1", PRIVATE) if private else None,
            name="advice",
            canary=GUID,
        )
    return outcome, [r for r in outcome.tables[CONTINUATIONS] if isinstance(r, Continuation)], server


def knowing(messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
    """A model that knows the public questions and the canary string by heart."""
    start = messages[-1]["content"].removeprefix("Continue this text:").strip()
    texts = [q.variants[0].text for q in PUBLIC] + [CANARY_TEXT.format(name="advice") + GUID]
    return next((t.removeprefix(start) for t in texts if t.startswith(start)), "I do not know this text.")


def test_a_model_that_knows_the_public_texts_reproduces_them(make_context: MakeContext) -> None:
    outcome, rows, server = probe(make_context, knowing)
    assert len(rows) == len(server.requests) == len(PUBLIC) + len(PRIVATE) + 1
    assert {r.question_id: r.overlap for r in rows if r.published and r.overlap is not None} == {
        q.id: 1.0 for q in PUBLIC
    }
    assert {r.overlap for r in rows if not r.published} == {0.0}
    canary = next(r for r in rows if r.question_id == CANARY)
    assert canary.overlap is None
    assert GUID.endswith(canary.reply)
    assert outcome.counts[0].rows == len(rows)
    assert sum(cost.calls for cost in outcome.costs) == len(rows)


def test_no_request_contains_the_half_that_is_asked_for(make_context: MakeContext) -> None:
    _, _, server = probe(make_context, "no idea")
    sent = str([r.body for r in server.requests])
    assert GUID[:18] in sent
    assert GUID[19:] not in sent
    assert not [q.id for q in (*PUBLIC, *PRIVATE) if q.variants[0].text in sent]


def test_without_private_questions_the_public_ones_are_probed(make_context: MakeContext) -> None:
    _, rows, _ = probe(make_context, "no idea", private=False)
    assert len(rows) == len(PUBLIC) + 1
    assert all(r.published for r in rows)


def test_a_failed_call_has_no_overlap(make_context: MakeContext) -> None:
    broken: Fault = status(400)

    def answer(messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return broken if "farm 1" in str(messages) else "no idea"

    outcome, rows, _ = probe(make_context, answer, validate={"max_failure_rate": 0.5})
    failed = [r for r in rows if r.failure is not None]
    assert [r.overlap for r in failed] == [None]
    assert (outcome.counts[0].failed, outcome.counts[0].kept) == (1, len(rows) - 1)


def test_a_server_that_mostly_fails_stops_the_stage(make_context: MakeContext) -> None:
    with pytest.raises(ModelError):
        probe(make_context, status(400))


def test_a_model_that_refuses_is_not_free_of_contamination(make_context: MakeContext) -> None:
    _, rows, _ = probe(make_context, "I'm sorry, but I can't continue this text.")
    assert all(r.overlap is None and r.failure is not None for r in rows)
    empty = Scored((), {})
    (model,) = contamination_of(empty, empty, rows, [*PUBLIC, *PRIVATE], canary=GUID)["models"]
    assert {test["test"]: test["status"] for test in model["tests"]} == dict.fromkeys(
        ("gap", "continuation", "canary"), "not_measured"
    )
    assert "replies cannot be used" in model["tests"][1]["reason"]
