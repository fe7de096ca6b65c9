"""Parts on workers give the rows of one process. Several models are asked at the same time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tasks.respond as stage
from schemas.answers import RESPONSES, Response
from schemas.errors import ModelError
from schemas.question import QUESTIONS
from tasks.expand import expand_family
from tasks.respond import respond
from tasks.run.store import Outcome, RowSpool, RunContext, TableRef, write_step, write_table
from tests.conftest import DATA
from tests.servers.openai_server import Body, Messages, OpenAIServer
from tests.workers import send_to_workers

MakeContext = Callable[..., RunContext]
FAMILIES = {"open": {"questions": 12}, "decision": {"questions": 12, "samples": 1}}


def asked(context: RunContext) -> TableRef:
    """Write the questions of both families, mixed."""
    questions = [q for f in FAMILIES for q in expand_family(context.recipe, DATA, f)]
    questions.sort(key=lambda q: q.id)
    step = write_step(Path(context.run_dir) / "q-0", "expand", "0", Outcome({QUESTIONS: questions}, ()))
    return step.table("questions")


def answer(messages: Messages, body: Body) -> str:
    """Answer by the hash of the request."""
    return ("Yes.", "No.")[sum(json.dumps(body, sort_keys=True).encode()) % 2]


def with_models(server: OpenAIServer, *names: str) -> dict[str, Any]:
    models = [f"openai:{name}@{server.url}" for name in names]
    return {
        "models": {"targets": models},
        "budget": {"free": models},
        "limits": {"attempts": 2, "max_in_flight": 4},
        "families": FAMILIES,
    }


def saved(outcome: Outcome, folder: Path) -> bytes:
    write_table(folder / "responses.parquet", RESPONSES, outcome.tables[RESPONSES])  # type: ignore[arg-type]
    return (folder / "responses.parquet").read_bytes()


def test_workers_give_the_bytes_counts_and_costs_of_one_process(
    make_context: MakeContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "QUESTIONS_PER_PART", (3, 5))
    with OpenAIServer(answer, models=("one", "two")) as server:
        context = make_context(**with_models(server, "one", "two"))
        questions = asked(context)
        shared = respond(context, questions, "search", run_parts=send_to_workers)
        sent = len(server.requests)
        alone = respond(context, questions, "search")
        assert len(server.requests) == sent  # the same calls
    assert (shared.counts, shared.costs) == (alone.counts, alone.costs)
    assert saved(shared, tmp_path) == saved(alone, tmp_path)
    models = [r.model for r in alone.tables[RESPONSES] if isinstance(r, Response)]
    assert models == sorted(models)
    assert sent == len(models) == alone.counts[0].kept > 100
    assert not list(Path(context.run_dir).glob(".respond-*"))


def test_two_models_are_asked_at_the_same_time(make_context: MakeContext) -> None:
    seen: list[tuple[float, str]] = []

    def note(messages: Messages, body: Body) -> str:
        seen.append((time.monotonic(), body["model"]))
        return "Yes."

    with OpenAIServer(note, models=("one", "two"), latency_s=0.01) as server:
        context = make_context(**with_models(server, "one", "two"))
        respond(context, asked(context), "search")
    order = [model for _, model in sorted(seen)]
    assert order.index("openai:two" if "openai:two" in order else "two") < len(order) // 2


def test_a_model_that_stops_lets_the_other_one_keep_its_answers(make_context: MakeContext) -> None:
    def reply(messages: Messages, body: Body) -> str:
        return "Yes." if body["model"] == "one" else "Purple."

    with OpenAIServer(reply, models=("one", "two"), latency_s=0.01) as server:
        context = make_context(**with_models(server, "one", "two"))
        questions = asked(context)
        with pytest.raises(ModelError, match="could not be read"):
            respond(context, questions, "search")
        first = [json.dumps(r.body, sort_keys=True) for r in server.requests if r.body["model"] == "one"]
        with pytest.raises(ModelError, match="could not be read"):
            respond(context, questions, "search")
        both = [json.dumps(r.body, sort_keys=True) for r in server.requests if r.body["model"] == "one"]
    assert len(set(both)) == len(both)  # no answer was asked for twice
    assert first


def test_a_spool_of_files_has_the_bytes_of_a_spool_of_rows(
    make_context: MakeContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.run.store.ROW_GROUP", 16)
    questions = [q for f in FAMILIES for q in expand_family(make_context(families=FAMILIES).recipe, DATA, f)]
    rows, files = RowSpool(QUESTIONS, tmp_path), RowSpool(QUESTIONS, tmp_path)
    for start in range(0, len(questions), 7):
        part = questions[start : start + 7]
        write_table(tmp_path / "part.parquet", QUESTIONS, part)
        files.append_file(tmp_path / "part.parquet")
        for question in part:
            rows.append(question)
    files.append(questions[0])
    rows.append(questions[0])
    rows.save(tmp_path / "rows.parquet")
    files.save(tmp_path / "files.parquet")
    assert len(files) == len(questions) + 1
    assert (tmp_path / "files.parquet").read_bytes() == (tmp_path / "rows.parquet").read_bytes()
