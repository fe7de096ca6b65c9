"""An answered request is not sent again, also after a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import InputError
from tasks.models import cache as cache_module
from tasks.models import count_cached, open_model, run_async
from tasks.models.cache import ResponseCache
from tasks.models.protocol import Completion, Decoding, Failure, Message, Request
from tests.servers.openai_server import OpenAIServer, Reply, status
from tests.tasks.models.asking import DATA, answers, question, questions, settings_for


def test_a_second_run_sends_nothing_and_gets_the_same_answers(tmp_path: Path) -> None:
    with OpenAIServer(Reply("A", top=({"A": -0.25, "B": -1.5},))) as server:
        settings = settings_for(tmp_path, server.model())
        requests = [question(i, top_logprobs=2) for i in range(300)]
        assert count_cached(server.model(), requests, settings) == 0
        first = answers(server.model(), settings, requests)
        assert count_cached(server.model(), requests, settings) == 300
        again = answers(server.model(), settings, reversed(requests))
        assert len(server.requests) == 300
    assert all(isinstance(o, Completion) and o.cached for o in again.values())
    assert {t: replace(o, cached=False) for t, o in again.items() if isinstance(o, Completion)} == first


def test_the_cache_is_per_model_and_endpoint(tmp_path: Path) -> None:
    with OpenAIServer("one") as one, OpenAIServer("two") as two:
        for server in (one, two):
            for name in (server.model(), server.model("other")):
                answers(name, settings_for(tmp_path, name), questions(2))
        assert len(one.requests) == len(two.requests) == 4


def test_failures_are_asked_again(tmp_path: Path) -> None:
    with OpenAIServer("yes", faults=[status(400)]) as server:
        settings = settings_for(tmp_path, server.model())
        assert isinstance(answers(server.model(), settings, questions(1))["tag 0"], Failure)
        assert isinstance(answers(server.model(), settings, questions(1))["tag 0"], Completion)


def test_one_question_asked_many_times_is_sent_once(tmp_path: Path) -> None:
    same = [Request(f"t{i}", (Message("user", "hi"),), Decoding(5, seed=1)) for i in range(600)]
    with OpenAIServer("yes", latency_s=0.05) as server:
        found = answers(server.model(), settings_for(tmp_path, server.model()), same)
        assert len(server.requests) == 1
    assert len(found) == 600


def test_a_failed_question_asked_many_times_fails_for_each(tmp_path: Path) -> None:
    same = [Request(f"t{i}", (Message("user", "hi"),), Decoding(5, seed=1)) for i in range(30)]
    with OpenAIServer("yes", latency_s=0.02, faults=lambda n, b: status(400)) as server:
        found = answers(server.model(), settings_for(tmp_path, server.model()), same)
    assert {tag for tag, o in found.items() if isinstance(o, Failure) and o.tag == tag} == {
        f"t{i}" for i in range(30)
    }


def test_samples_of_one_question_are_answers_of_their_own(tmp_path: Path) -> None:
    samples = [Request(f"t{i}", (Message("user", "hi"),), Decoding(5), sample=i) for i in range(5)]
    with OpenAIServer("yes") as server:
        answers(server.model(), settings_for(tmp_path, server.model()), samples)
        assert len(server.requests) == 5


def test_a_consumer_that_stops_early_leaves_a_usable_model(tmp_path: Path) -> None:
    async def stop_early(server: OpenAIServer) -> int:
        async with open_model(server.model(), settings_for(tmp_path, server.model())) as model:
            async for _ in model.complete(questions(50)):
                break
            return len([outcome async for outcome in model.complete(questions(50))])

    with OpenAIServer("yes", latency_s=0.01) as server:
        assert run_async(stop_early(server)) == 50


def test_an_error_in_the_requests_reaches_the_consumer(tmp_path: Path) -> None:
    def broken() -> Iterator[Request]:
        yield question(1)
        raise RuntimeError("the generator broke")

    with OpenAIServer("yes") as server, pytest.raises(RuntimeError, match="the generator broke"):
        answers(server.model(), settings_for(tmp_path, server.model()), broken())


CHILD = """
import sys
from pathlib import Path
from tests.tasks.models.asking import answers, questions, settings_for
name, place, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
answers(name, settings_for(place, name), questions(count))
"""


def _child(server: OpenAIServer, place: Path, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, server.model(), str(place), str(count)]
    return subprocess.Popen(command, cwd=DATA.parent)


def test_after_a_kill_at_most_one_batch_and_the_requests_in_flight_are_sent_again(tmp_path: Path) -> None:
    count = 1000
    with OpenAIServer("yes", latency_s=0.01) as server:
        child = _child(server, tmp_path, count)
        while server.answered < 450 and child.poll() is None:
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        answered = server.answered
        answers(server.model(), settings_for(tmp_path, server.model()), questions(count))
        total = len(server.requests)
    assert answered < count
    assert total <= count + cache_module.BATCH + 16


def test_processes_share_one_file(tmp_path: Path) -> None:
    with OpenAIServer("yes") as server:
        children = [_child(server, tmp_path, 300) for _ in range(2)]
        assert [child.wait(60) for child in children] == [0, 0]
        sent = len(server.requests)
        answers(server.model(), settings_for(tmp_path, server.model()), questions(300))
        assert len(server.requests) == sent
    with sqlite3.connect(tmp_path / "cache.sqlite") as connection:
        assert connection.execute("select count(*) from answers").fetchone() == (300,)


def test_threads_share_one_file(tmp_path: Path) -> None:
    with OpenAIServer("yes") as server:
        settings = settings_for(tmp_path, server.model())
        with ThreadPoolExecutor(3) as threads:
            runs = [threads.submit(answers, server.model(), settings, questions(300)) for _ in range(3)]
            assert {len(run.result()) for run in runs} == {300}
        sent = len(server.requests)
        assert len(answers(server.model(), settings, questions(300))) == 300
        assert len(server.requests) == sent


def test_a_new_file_is_opened_by_many_at_once(tmp_path: Path) -> None:
    def open_and_close(path: Path) -> None:
        ResponseCache(path).close()

    with ThreadPoolExecutor(8) as threads:
        for number in range(100):
            list(threads.map(open_and_close, [tmp_path / f"{number}.sqlite"] * 8))


def test_no_secret_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with OpenAIServer("yes", api_key="sk-very-secret") as server:
        answers(server.model(), settings_for(tmp_path, server.model()), questions(3))
        assert server.answered == 3
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"yes" in stored
    assert b"sk-very-secret" not in stored


def test_a_damaged_file_is_reported_with_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"this is no database, and has never been one. " * 100)
    with pytest.raises(InputError, match="move the file away") as caught:
        ResponseCache(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("harm", ["x'00'", "x''", "cast(replace(answer, 'yes', 'yez') as blob)"])
def test_a_damaged_answer_is_asked_again_and_replaced(tmp_path: Path, harm: str) -> None:
    with OpenAIServer("yes") as server:
        settings = settings_for(tmp_path, server.model())
        first = answers(server.model(), settings, questions(3))
        with sqlite3.connect(settings.cache_path) as connection:
            connection.execute(f"update answers set answer = {harm} where rowid = 2")
        assert answers(server.model(), settings, questions(3)).keys() == first.keys()
        assert len(server.requests) == 4
        again = answers(server.model(), settings, questions(3))
        assert len(server.requests) == 4
    assert {t: replace(o, cached=False) for t, o in again.items() if isinstance(o, Completion)} == first


def test_an_answer_in_anothers_place_is_not_taken(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        settings = settings_for(tmp_path, server.model())
        first = answers(server.model(), settings, questions(2))
        with sqlite3.connect(settings.cache_path) as connection:
            connection.execute("update answers set answer = (select answer from answers where rowid = 1)")
        again = answers(server.model(), settings, questions(2))
        assert len(server.requests) == 3
    assert {t: o.text for t, o in again.items() if isinstance(o, Completion)} == {
        t: o.text for t, o in first.items() if isinstance(o, Completion)
    }


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="response cache"):
        ResponseCache(tmp_path / "file" / "cache.sqlite")
