"""Batches are submitted once, collected however they end, and paid for at their price."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import CounterfoilError, InputError, ModelError
from schemas.recipe import Limits
from tasks.models import ModelSettings, OpenModel, open_model
from tasks.models import openai_batch as batch
from tasks.models import openai_batch as batch_server
from tasks.models.budget import Ledger, ledger_of, spent_in
from tasks.models.openai_batch import JobFolder
from tasks.models.preflight import check_models
from tasks.models.protocol import Completion, Decoding, Failure, Message, Outcome, Request
from tasks.run.retries import Backoff
from tests.servers.batch_routes import (
    BatchRoutes,
    cancelled,
    expires,
    line_errors,
    lost,
    refused,
    unanswered,
)
from tests.servers.openai_server import OpenAIServer, Reply
from tests.tasks.models.asking import answers, questions, settings_for

PRICES = """
batch: 0.5
models:
  test-model: {input: 1000.0, output: 10000.0, source: "a test", as_of: "2026-01-01"}
"""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "QUIET_S", 0.05)
    monkeypatch.setattr(batch, "MAX_WAITING", 200)
    monkeypatch.setattr(batch_server, "POLL", Backoff(0.02, 60.0))
    monkeypatch.setattr("tasks.models.limits.BACKOFF", Backoff(0.01, 30.0, jitter=True))


def batched(place: Path, server: OpenAIServer, **more: object) -> ModelSettings:
    """Return settings that ask the server's model through its Batch API, free of charge."""
    free = () if "prices_path" in more else (server.model(),)
    return settings_for(place, *free, batch=frozenset({server.model()}), **more)  # type: ignore[arg-type]


def texts(outcomes: dict[str, Outcome]) -> dict[str, str]:
    assert all(isinstance(o, Completion) for o in outcomes.values()), outcomes
    return {tag: o.text for tag, o in outcomes.items() if isinstance(o, Completion)}


def sent(server: OpenAIServer) -> list[str]:
    """Return the fingerprint of every line of every batch."""
    return [key for created in server.batches.created for key in created.custom_ids]


def test_a_batch_returns_the_same_answers_as_the_chat_route(tmp_path: Path) -> None:
    with OpenAIServer(batches=BatchRoutes()) as server:
        live = answers(server.model(), settings_for(tmp_path / "live", server.model()), questions(20))
        before = len(server.requests)
        found = answers(server.model(), batched(tmp_path, server), questions(20))
        assert texts(found) == texts(live)
        assert len(server.requests) == before
        assert [len(created.lines) for created in server.batches.created] == [20]


def test_answers_of_a_batch_are_cached_for_later_runs(tmp_path: Path) -> None:
    with OpenAIServer(batches=BatchRoutes()) as server:
        first = answers(server.model(), batched(tmp_path, server), questions(5))
        again = answers(server.model(), batched(tmp_path, server), questions(5))
        live = answers(server.model(), settings_for(tmp_path, server.model()), questions(5))
        assert texts(first) == texts(again) == texts(live)
        assert (len(server.batches.created), server.requests) == (1, [])
        assert list((tmp_path / "run" / "batches").iterdir()) == []


def test_a_batch_costs_half_and_the_ledger_knows(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    with OpenAIServer(Reply("four words are here", usage=(10, 4)), batches=BatchRoutes()) as server:
        settings = batched(tmp_path, server, budget_usd=5.0, prices_path=prices)
        found = answers(server.model(), settings, questions(3))
        each = 0.5 * (10 * 1000 + 4 * 10_000) / 1e6
        assert [o.cost_usd for o in found.values() if isinstance(o, Completion)] == pytest.approx([each] * 3)
        assert spent_in(tmp_path / "run") == pytest.approx(3 * each)


def test_requests_beyond_the_budget_are_never_submitted(tmp_path: Path) -> None:
    """A call has at most twenty tokens at $0.005: it may need a little over $0.1, and costs $0.005."""
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    with OpenAIServer(Reply("word", usage=(0, 1)), batches=BatchRoutes()) as server:
        settings = batched(tmp_path, server, budget_usd=0.25, prices_path=prices)
        found = answers(server.model(), settings, questions(6))
        assert all(isinstance(o, Completion) for o in found.values())
        assert all(len(created.lines) <= 2 for created in server.batches.created)
        poor = batched(tmp_path / "poor", server, budget_usd=0.05, prices_path=prices)
        refused = answers(server.model(), poor, questions(2)).values()
        assert [o.kind for o in refused if isinstance(o, Failure)] == ["budget", "budget"]
        assert len(server.batches.created) == 3


def test_too_many_requests_or_bytes_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_REQUESTS", 4)
    with OpenAIServer(batches=BatchRoutes()) as server:
        assert len(texts(answers(server.model(), batched(tmp_path, server), questions(10)))) == 10
        assert sorted(len(created.lines) for created in server.batches.created) == [2, 4, 4]
    monkeypatch.setattr(batch, "MAX_BYTES", 600)
    with OpenAIServer(batches=BatchRoutes()) as server:
        assert len(texts(answers(server.model(), batched(tmp_path / "b", server), questions(5)))) == 5
        assert all(len(content) <= 600 for content in list(server.batches.files.values())[:1])
        assert len(server.batches.created) > 1


def test_a_line_that_failed_is_asked_again_and_one_that_is_wrong_is_not(tmp_path: Path) -> None:
    routes = BatchRoutes(faults=[line_errors(500, 0, 3)])
    with OpenAIServer(batches=routes) as server:
        assert len(texts(answers(server.model(), batched(tmp_path, server), questions(6)))) == 6
        assert [len(created.lines) for created in routes.created] == [6, 2]
    routes = BatchRoutes(faults=[line_errors(429, 2)])
    with OpenAIServer(batches=routes) as server:
        assert len(texts(answers(server.model(), batched(tmp_path / "c", server), questions(6)))) == 6
    routes = BatchRoutes(faults=[line_errors(400, 1, message="the prompt is too long")])
    with OpenAIServer(batches=routes) as server:
        found = answers(server.model(), batched(tmp_path / "b", server), questions(3))
        failures = [o for o in found.values() if isinstance(o, Failure)]
        assert [(f.kind, f.attempts) for f in failures] == [("bad_request", 1)]
        assert "too long" in failures[0].message
        assert len(routes.created) == 1


def test_a_parameter_that_the_model_does_not_take_is_left_out_from_then_on(tmp_path: Path) -> None:
    with OpenAIServer(rejects=("seed",), batches=BatchRoutes()) as server:
        assert len(texts(answers(server.model(), batched(tmp_path, server), questions(4)))) == 4
        first, second = server.batches.created
        assert "seed" in first.lines[0]["body"]
        assert "seed" not in second.lines[0]["body"]


def test_answers_of_an_expired_batch_are_kept_and_the_rest_is_submitted_again(tmp_path: Path) -> None:
    routes = BatchRoutes(faults=[expires(after=3)])
    with OpenAIServer(batches=routes) as server:
        assert len(texts(answers(server.model(), batched(tmp_path, server), questions(8)))) == 8
        assert [len(created.lines) for created in routes.created] == [8, 5]


def test_a_line_that_is_in_no_result_file_is_asked_again(tmp_path: Path) -> None:
    routes = BatchRoutes(faults=[lost(2)])
    with OpenAIServer(batches=routes) as server:
        assert len(texts(answers(server.model(), batched(tmp_path, server), questions(4)))) == 4
        assert [len(created.lines) for created in routes.created] == [4, 2]


def test_for_ever_failing_lines_end_as_failures(tmp_path: Path) -> None:
    routes = BatchRoutes(faults=lambda number: line_errors(500, *range(9)))
    with OpenAIServer(batches=routes) as server:
        settings = batched(tmp_path, server, limits=Limits(attempts=3))
        found = answers(server.model(), settings, questions(2))
        assert [(f.kind, f.attempts) for f in found.values() if isinstance(f, Failure)] == [("server", 3)] * 2
        assert len(routes.created) == 3


def test_a_file_that_does_not_pass_validation_stops_the_stage_with_its_line(tmp_path: Path) -> None:
    routes = BatchRoutes(faults=[refused("the model is not known", line=2)])
    with OpenAIServer(batches=routes) as server:
        with pytest.raises(ModelError, match=r"refused a batch: line 2: the model is not known"):
            answers(server.model(), batched(tmp_path, server), questions(2))
        assert len(texts(answers(server.model(), batched(tmp_path, server), questions(2)))) == 2


def test_a_batch_that_is_put_off_is_handed_over_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "BUSY_WAIT_S", 0.05)
    routes = BatchRoutes(faults=[refused("too much is waiting", code="token_limit_exceeded")])
    with OpenAIServer(batches=routes) as server:
        assert len(texts(answers(server.model(), batched(tmp_path, server), questions(3)))) == 3
        assert [len(created.lines) for created in routes.created] == [3, 3]


def test_a_cancelled_batch_stops_the_stage_and_keeps_its_answers(tmp_path: Path) -> None:
    routes = BatchRoutes(faults=[cancelled(after=2)])
    with OpenAIServer(batches=routes) as server:
        with pytest.raises(ModelError, match="cancelled a batch"):
            answers(server.model(), batched(tmp_path, server), questions(5))
        assert len(texts(answers(server.model(), batched(tmp_path, server), questions(5)))) == 5
        assert [len(created.lines) for created in routes.created] == [5, 3]


def test_a_provider_without_batches_is_reported(tmp_path: Path) -> None:
    with (
        OpenAIServer() as server,
        pytest.raises(ModelError, match="rejects batches: it answers 404") as caught,
    ):
        answers(server.model(), batched(tmp_path, server), questions(1))
    assert "models.batch" in str(caught.value)


def test_no_error_and_no_record_holds_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-in-a-test")
    with OpenAIServer(api_key="sk-another", batches=BatchRoutes()) as server:
        with pytest.raises(CounterfoilError) as caught:
            answers(server.model(), batched(tmp_path, server), questions(1))
        assert "planted" not in str(caught.value)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files
    assert not [p for p in files if b"planted" in p.read_bytes()]


def test_looks_that_fail_are_repeated(tmp_path: Path) -> None:
    routes = BatchRoutes(retrieve_faults=[500, 503, 200, 500], duration_s=0.1)
    with OpenAIServer(batches=routes) as server:
        assert len(texts(answers(server.model(), batched(tmp_path, server), questions(2)))) == 2
        assert len(routes.created) == 1


def test_a_batch_without_confirmation_is_not_created_twice(tmp_path: Path) -> None:
    routes = BatchRoutes(faults=[unanswered()])
    with OpenAIServer(batches=routes) as server:
        assert len(texts(answers(server.model(), batched(tmp_path, server), questions(2)))) == 2
        assert len(routes.created) == 1


def test_text_scoring_is_refused_not_sent(tmp_path: Path) -> None:
    asked = Request("t", (Message("user", "a text"),), Decoding(1), score_prompt=True)
    with OpenAIServer(batches=BatchRoutes()) as server:
        (outcome,) = answers(server.model(), batched(tmp_path, server), [asked]).values()
        assert isinstance(outcome, Failure)
        assert (outcome.kind, server.batches.created) == ("bad_request", [])


def interrupt(server: OpenAIServer, settings: ModelSettings, count: int, until: Callable[[], bool]) -> None:
    """Ask, and stop once `until` is true, like a process that is terminated."""

    async def collect(model: OpenModel) -> None:
        async for _ in model.complete(questions(count)):
            pass

    async def ask() -> None:
        async with open_model(server.model(), settings) as model:
            asking = asyncio.create_task(collect(model))
            while not until():
                await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(ask())


def test_run_after_an_interruption_collects_and_submits_nothing_twice(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    routes = BatchRoutes()
    with OpenAIServer(Reply("word", usage=(10, 4)), batches=routes) as server:
        settings = batched(tmp_path, server, budget_usd=0.7, prices_path=prices)
        routes.held.set()
        interrupt(server, settings, 6, until=lambda: routes.looks > 0)
        assert spent_in(tmp_path / "run") > 0.6
        assert ledger_of(tmp_path / "run", 0.7).reserved_usd == pytest.approx(0)
        threading.Timer(0.5, routes.held.clear).start()  # two more than there is money for, until then
        found = answers(server.model(), settings, questions(8))
        assert len(texts(found)) == 8
        assert sorted(len(created.lines) for created in routes.created) == [2, 6]
        assert len(set(sent(server))) == 8
        assert spent_in(tmp_path / "run") == pytest.approx(8 * 0.5 * (10 * 1000 + 4 * 10_000) / 1e6)


def test_a_job_without_confirmation_is_found_at_the_provider(tmp_path: Path) -> None:
    """The process ended between the creation of the batch and the note of its id."""
    routes = BatchRoutes()
    with OpenAIServer(batches=routes) as server:
        settings = batched(tmp_path, server)
        routes.held.set()
        interrupt(server, settings, 3, until=lambda: routes.looks > 0)
        (record,) = (tmp_path / "run" / "batches").glob("*.json")
        noted = json.loads(record.read_text())
        assert noted["batch_id"] == routes.created[0].id
        record.write_text(json.dumps(noted | {"batch_id": None}))
        routes.held.clear()
        assert len(texts(answers(server.model(), settings, questions(3)))) == 3
        assert len(routes.created) == 1


def test_a_batch_that_the_provider_has_lost_is_handed_over_again(tmp_path: Path) -> None:
    with OpenAIServer(batches=BatchRoutes()) as server:
        settings = batched(tmp_path, server)
        server.batches.held.set()
        interrupt(server, settings, 3, until=lambda: server.batches.looks > 0)
        server.batches.created.clear()
        server.batches.held.clear()
        assert len(texts(answers(server.model(), settings, questions(3)))) == 3
        assert [len(created.lines) for created in server.batches.created] == [3]


def test_a_job_that_never_reached_the_provider_is_void_and_its_money_free(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    with OpenAIServer(Reply("word", usage=(0, 1)), batches=BatchRoutes()) as server:
        settings = batched(tmp_path, server, budget_usd=0.3, prices_path=prices)
        jobs = JobFolder(tmp_path / "run")
        jobs.begin(server.model(), ("0" * 64,), reserved_usd=0.25)
        jobs.release_all()
        (tmp_path / "run" / "spend.json").write_text('{"usd": 0.25}')
        assert len(texts(answers(server.model(), settings, questions(2)))) == 2
        assert spent_in(tmp_path / "run") == pytest.approx(2 * 0.005)


def test_only_one_of_two_processes_collects_a_batch(tmp_path: Path) -> None:
    first, second = JobFolder(tmp_path), JobFolder(tmp_path)
    job = first.begin("m", ("a",), 0.0)
    assert second.take_over("m") == []
    first.release_all()
    assert second.take_over("another") == []
    assert second.take_over("m") == [job]
    assert first.take_over("m") == []


def test_money_for_a_batch_stays_set_aside_between_two_processes(tmp_path: Path) -> None:
    before = Ledger(tmp_path / "spend.json", 1.0)
    assert before.reserve(0.4)
    before.leave(0.4)
    before.close()
    assert (before.reserved_usd, spent_in(tmp_path)) == (0.0, pytest.approx(0.4))
    after = Ledger(tmp_path / "spend.json", 1.0)
    after.adopt(0.4)
    assert not after.reserve(0.7)
    after.settle(0.4, 0.1)
    after.close()
    assert spent_in(tmp_path) == pytest.approx(0.1)


def test_batches_go_to_one_endpoint(tmp_path: Path) -> None:
    name = "openai:test-model@http://127.0.0.1:1/v1,http://127.0.0.1:2/v1"
    with pytest.raises(InputError, match="one endpoint"):
        check_models([name], settings_for(tmp_path, name, batch=frozenset({name})))
