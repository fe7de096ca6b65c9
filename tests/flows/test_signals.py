"""Stop commands with signals: exit code, time, and the processes and claims that remain."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from flows.processes import descendants
from flows.server import quiet_shutdown
from tests.conftest import PROJECT
from tests.flows.test_build import scripted, start, wait_for_requests, write_recipe
from tests.flows.test_schedule import ask, free_port, start_serving, wait_for
from tests.servers.openai_server import OpenAIServer

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
WITHIN_S = 30.0
"""A stop takes at most 5 seconds on an idle machine. The tests may run on a busy one."""
each_signal = pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)


@pytest.fixture(autouse=True)
def signals_are_not_ignored() -> Iterator[None]:
    """Processes of a test inherit what `nohup` sets."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(scripted, latency_s=0.2) as started:
        yield started


def stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, float]:
    """Send a signal. Return stderr, and the seconds until the process and its children ended."""
    started = descendants(process.pid)
    begun = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    while alive := [pid for pid in started if Path(f"/proc/{pid}").exists() and not is_zombie(pid)]:
        assert time.monotonic() < begun + WITHIN_S, f"{alive} still run"
        time.sleep(0.05)
    return err, time.monotonic() - begun


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def claims(home: Path) -> int:
    with sqlite3.connect(home / "cache" / "answers.sqlite") as cache:
        return int(cache.execute("select count(*) from claims").fetchone()[0])


def check(process: subprocess.Popen[str], number: signal.Signals, home: Path) -> None:
    assert process.poll() is None, process.communicate()
    err, seconds = stop(process, number)
    assert process.returncode == CODES[number], err
    assert seconds < WITHIN_S
    if number != signal.SIGKILL:
        assert "Traceback" not in err
        assert "run the same command again" in err
        assert not (home / "cache").exists() or claims(home) == 0


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        signal.SIGKILL,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
    ids=lambda number: number.name,
)
def test_build_stops(server: OpenAIServer, tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "build", write_recipe(tmp_path / "recipe.yaml", server))
    wait_for_requests(server, 10, process)
    check(process, number, tmp_path)


@each_signal
def test_relabel_stops(server: OpenAIServer, tmp_path: Path, number: signal.Signals) -> None:
    judge = server.model("judge")
    data = PROJECT / "data/examples/retrieval.jsonl"
    process = start(tmp_path, "relabel", data, "--format", "flagembedding", "--judge", judge, "--free", judge)
    wait_for_requests(server, 2, process)
    check(process, number, tmp_path)


@pytest.mark.slow
@each_signal
def test_build_on_prefect_stops_with_its_server(
    server: OpenAIServer, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(tmp_path, "build", write_recipe(tmp_path / "recipe.yaml", server), "--prefect")
    wait_for_requests(server, 10, process)
    assert descendants(process.pid)
    check(process, number, tmp_path)


@pytest.mark.slow
@each_signal
def test_serve_stops_with_its_server(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    process = start_serving(tmp_path, port, "refresh", None)
    wait_for(lambda: ask(f"http://127.0.0.1:{port}/api", "deployments/filter", {}), process)
    check(process, number, tmp_path)


def test_tasks_that_fail_while_serving_ends_print_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def poll() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("the poll was interrupted")

    async def serve() -> None:
        polling = asyncio.create_task(poll())
        await asyncio.sleep(0)
        assert not polling.done()

    for context, hidden in ((quiet_shutdown(), True), (nullcontext(), False)):
        caplog.clear()
        with context:
            asyncio.run(serve())
        assert ("the poll was interrupted" not in caplog.text) == hidden


@pytest.mark.slow
def test_a_second_signal_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first signal leaves ten minutes to the calls in flight. `communicate` waits for one."""
    patient = tmp_path / "patient.py"
    code = "import flows.processes as p\np.GRACE_S = 600\nfrom flows.cli import main\nmain()\n"
    patient.write_text(f"#!{sys.executable}\n{code}")
    patient.chmod(0o755)
    monkeypatch.setattr("tests.flows.test_build.COUNTERFOIL", patient)
    with OpenAIServer(scripted, latency_s=30) as slow:
        process = start(tmp_path, "build", write_recipe(tmp_path / "recipe.yaml", slow))
        wait_for_requests(slow, 1, process)
        for _ in range(10):  # a busy process may take two signals as one
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        process.communicate(timeout=60)
        assert process.returncode in (143, -15)  # -15 if the interpreter was ending


def test_a_signal_during_a_long_c_call_is_heeded(tmp_path: Path) -> None:
    code = (
        "import flows.cli as c, hashlib\n"
        "run = lambda: hashlib.pbkdf2_hmac('sha256', b'', b'', 500_000_000)\n"
        "c.cli.main = lambda **_: (print('in', flush=True), run())\n"
        "c.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    begun = time.monotonic()
    process.terminate()
    process.communicate(timeout=40)
    assert process.returncode == 143
    assert time.monotonic() - begun < WITHIN_S
