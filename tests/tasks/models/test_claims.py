"""Two workers never pay for the same request, in a file and on a database server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, insert, select

from schemas.errors import InputError
from schemas.recipe import Limits
from tasks.models import cache as cache_module
from tasks.models import cache_database as claims_module
from tasks.models import count_cached
from tasks.models.cache import ResponseCache, fingerprint
from tasks.models.cache_database import CACHE_URL, cache_url, claims, create_tables, open_engine
from tasks.models.cache_database import answers as answers_table
from tasks.models.names import parse_model_name
from tasks.models.protocol import Completion, Failure
from tests.servers.openai_server import OpenAIServer, status
from tests.servers.postgres_server import PASSWORD, PostgresServer, missing_postgres
from tests.tasks.models.asking import DATA, answers, question, questions, settings_for

needs_postgres = pytest.mark.skipif(missing_postgres() is not None, reason=str(missing_postgres()))


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["file", pytest.param("postgres", marks=needs_postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Return an empty cache: a file in `tmp_path`, or a database server."""
    if request.param == "postgres":
        monkeypatch.setenv(CACHE_URL, request.getfixturevalue("postgres").url)
    engine = open_engine(cache_url(tmp_path / "cache.sqlite"))
    create_tables(engine)
    with engine.begin() as connection:
        for table in (answers_table(), claims()):
            connection.execute(table.delete())
    return engine


def rows(database: Engine, table: str) -> int:
    counted = claims() if table == "claims" else answers_table()
    with database.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(counted)).scalar_one())


WORKER = """
import sys
from pathlib import Path
from tests.tasks.models.asking import answers, questions, settings_for
name, place, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
print(len({o.text for o in answers(name, settings_for(place, name), questions(count)).values()}))
"""


def worker(server: OpenAIServer, place: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, server.model(), str(place), str(count)]
    return subprocess.Popen(command, cwd=DATA.parent, stdout=subprocess.PIPE, text=True)


def count_questions(server: OpenAIServer) -> Counter[str]:
    return Counter(r.body["messages"][-1]["content"] for r in server.requests)


def test_workers_that_ask_the_same_ask_it_once_between_them(database: Engine, tmp_path: Path) -> None:
    with OpenAIServer(latency_s=0.02) as server:
        workers = [worker(server, tmp_path, 500) for _ in range(3)]
        assert [w.communicate(timeout=120)[0].strip() for w in workers] == ["500"] * 3
        assert set(count_questions(server).values()) == {1}
        assert len(server.requests) == 500
    assert rows(database, "answers") == 500
    assert rows(database, "claims") == 0


def test_requests_of_a_killed_worker_are_taken_over(database: Engine, tmp_path: Path) -> None:
    with OpenAIServer(latency_s=0.05) as server:
        killed = worker(server, tmp_path, 500)
        while len(server.requests) < 250 and killed.poll() is None:
            time.sleep(0.01)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert rows(database, "claims") > 0
        found = answers(server.model(), settings_for(tmp_path, server.model()), questions(500))
        assert len(found) == 500
        assert len(server.requests) <= 500 + 16 + cache_module.BATCH
    assert rows(database, "claims") == 0


def claim_elsewhere(database: Engine, server: OpenAIServer, seconds: int) -> None:
    """Claim the first question like a worker on another machine."""
    key = fingerprint(str(parse_model_name(server.model()).resolved()), question(0))
    with database.begin() as connection:
        until = {"expires": int(time.time()) + seconds}
        connection.execute(insert(claims()).values(key=key, owner="elsewhere/1/1/x", **until))


def test_a_claim_of_another_machine_is_taken_over_when_it_expires(database: Engine, tmp_path: Path) -> None:
    with OpenAIServer() as server:
        claim_elsewhere(database, server, seconds=2)
        found = answers(server.model(), settings_for(tmp_path, server.model()), questions(3))
        assert len(found) == 3
        assert server.requests[-1].body["messages"][-1]["content"] == "question 0"


def test_a_claim_from_before_the_clock_was_set_back_is_void(database: Engine, tmp_path: Path) -> None:
    with OpenAIServer() as server:
        claim_elsewhere(database, server, seconds=3600)
        assert len(answers(server.model(), settings_for(tmp_path, server.model()), questions(3))) == 3


@pytest.mark.slow
def test_a_long_request_stays_claimed(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "EXPIRY_S", 2)
    monkeypatch.setattr(cache_module, "RENEW_S", 0.5)
    with OpenAIServer(latency_s=4.0) as server, ThreadPoolExecutor(2) as threads:
        limits = Limits(timeout_s=20)
        settings = settings_for(tmp_path, server.model(), limits=limits)
        runs = [threads.submit(answers, server.model(), settings, questions(2)) for _ in range(2)]
        assert [len(run.result()) for run in runs] == [2, 2]
        assert len(server.requests) == 2


def test_a_request_that_failed_for_one_worker_is_sent_by_another(database: Engine, tmp_path: Path) -> None:
    with (
        OpenAIServer(faults=[(status(400),), None], latency_s=0.3) as server,
        ThreadPoolExecutor(2) as threads,
    ):
        settings = settings_for(tmp_path, server.model())
        runs = [threads.submit(answers, server.model(), settings, questions(1)) for _ in range(2)]
        outcomes = [run.result()["tag 0"] for run in runs]
        assert {type(o) for o in outcomes} == {Completion, Failure}
        assert len(server.requests) == 2


@needs_postgres
def test_a_second_run_on_a_server_sends_nothing(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_URL, postgres.url)
    with OpenAIServer() as server:
        settings = settings_for(tmp_path, server.model())
        first = answers(server.model(), settings, questions(300))
        assert count_cached(server.model(), questions(300), settings) == 300
        again = answers(server.model(), settings, questions(300))
        assert len(server.requests) == 300
    assert {t: o.text for t, o in again.items() if isinstance(o, Completion)} == {
        t: o.text for t, o in first.items() if isinstance(o, Completion)
    }
    assert not settings.cache_path.exists()
    assert PASSWORD not in repr(settings)


@needs_postgres
def test_a_database_server_may_start_again_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        PostgresServer() as postgres,
        OpenAIServer(latency_s=0.1) as server,
        ThreadPoolExecutor(1) as thread,
    ):
        monkeypatch.setenv(CACHE_URL, postgres.url)
        settings = settings_for(tmp_path, server.model())
        run = thread.submit(answers, server.model(), settings, questions(600))
        for moment in (100, 400):
            while server.answered < moment and not run.done():
                time.sleep(0.01)
            postgres.stop()
            postgres.start()
        assert len(run.result()) == 600
        assert len(server.requests) == 600


WRONG = {
    "no address": "pass-w0rd",
    "another database": "mysql://me:pass-w0rd@localhost/x",
    "no port": "postgresql://me:pass-w0rd@localhost:port/x",
    "nobody there": "postgresql://me:pass-w0rd@127.0.0.1:9/x",
    "password with a slash": "postgresql://me:12/pass-w0rd@127.0.0.1:9/x",
    "password with an at": "postgresql://me:p@pass-w0rd@127.0.0.1:9/x",
    "password with a question": "postgresql://me:1?pass-w0rd=2@127.0.0.1:9/x",
    "password as option": "postgresql://me@127.0.0.1:9/x?password=pass-w0rd",
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_address_is_reported_without_its_password(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_URL, given)
    with pytest.raises(InputError) as caught:
        ResponseCache(tmp_path / "cache.sqlite")
    assert CACHE_URL in str(caught.value)
    assert "pass-w0rd" not in "".join(traceback.format_exception(caught.value))
    assert "pass-w0rd" not in str(caught.value.__context__)


@needs_postgres
def test_a_wrong_password_is_reported_and_not_shown(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_URL, postgres.url.replace(PASSWORD, "pass-w0rd"))
    with pytest.raises(InputError, match="password authentication failed") as caught:
        ResponseCache(tmp_path / "cache.sqlite")
    assert "pass-w0rd" not in str(caught.value)


def test_a_missing_driver_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_URL, "postgresql://me:pass-w0rd@localhost/x")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"\[postgres\]"):
        ResponseCache(tmp_path / "cache.sqlite")
