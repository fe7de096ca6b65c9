"""A scheduled deployment with a real Prefect server and `counterfoil serve`, triggered twice."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from tests.flows.test_build import scripted, start, write_recipe
from tests.servers.openai_server import OpenAIServer

pytestmark = pytest.mark.slow

LONG_S = 400


TOKEN = "0" * 40
HEADERS = {
    "content-type": "application/json",
    "authorization": "Basic " + base64.b64encode(f"counterfoil:{TOKEN}".encode()).decode(),
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def start_serving(
    home: Path, port: int, deployment: str, recipe: Path | None, **variables: str
) -> subprocess.Popen[str]:
    """Start `counterfoil serve` with a known password."""
    (home / "prefect").mkdir()
    (home / "prefect" / ".token").write_text(TOKEN)
    chosen = ("--recipe", recipe) if recipe else ()
    variables = {"PREFECT_RUNNER_POLL_FREQUENCY": "1", **variables}  # the default is ten seconds
    return start(home, "serve", "--port", port, "--only", deployment, *chosen, **variables)


def ask(api: str, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{api}/{path}", data=data, headers=HEADERS, method=method)
    for wait_s in (0.5, 1, 2, 4, 8, 0):
        try:
            with urlopen(request, timeout=20) as answer:
                return json.loads(answer.read() or b"null")
        except HTTPError as error:  # Prefect answers so while its database is locked
            if error.code != 503 or not wait_s:
                raise
            time.sleep(wait_s)
    raise AssertionError("unreachable")


def wait_for(found: Any, process: subprocess.Popen[str]) -> Any:
    end = time.monotonic() + LONG_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if result := found():
                return result
        except (URLError, OSError):
            pass
        time.sleep(0.5)
    raise AssertionError("it did not happen in time")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, subprocess.Popen[str]]]:
    """Start `counterfoil serve` and return its API, home and process."""
    home = tmp_path_factory.mktemp("served")
    with OpenAIServer(scripted) as server:
        families = {
            "open": {"questions": 3, "samples": 2, "max_tokens": 20},
            "decision": {"questions": 2, "samples": 1},
        }
        changes: dict[str, Any] = {"families": families, "evolve": {"rounds": 0}, "relabel": {}}
        recipe = write_recipe(home / "recipe.yaml", server, **changes)
        port = free_port()
        process = start_serving(home, port, "refresh", recipe)
        try:
            yield f"http://127.0.0.1:{port}/api", home, process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_a_scheduled_run_is_planned(served: tuple[str, Path, subprocess.Popen[str]]) -> None:
    api, _, process = served
    planned = wait_for(lambda: ask(api, "flow_runs/filter", {}), process)
    assert {run["state"]["type"] for run in planned} == {"SCHEDULED"}


def test_a_refresh_that_is_run_twice_releases_once(
    served: tuple[str, Path, subprocess.Popen[str]],
) -> None:
    api, home, process = served
    deployment = wait_for(lambda: ask(api, "deployments/filter", {}), process)[0]
    assert deployment["name"] == "refresh"
    assert deployment["schedules"][0]["schedule"]["cron"]
    verdicts = []
    for _ in range(2):
        begun = ask(api, f"deployments/{deployment['id']}/create_flow_run", {})

        def ended(run: str = begun["id"]) -> Any:
            state = ask(api, f"flow_runs/{run}")["state"]
            return state if state["type"] in ("COMPLETED", "FAILED", "CRASHED") else None

        state = wait_for(ended, process)
        assert state["type"] == "COMPLETED", state["message"]
        assert {"counterfoil", "recipe"} <= set(ask(api, f"flow_runs/{begun['id']}")["tags"])
        verdicts.append(ask(api, "artifacts/counterfoil-refresh/latest")["data"].split("**")[1])
    assert verdicts == ["safe", "unchanged"]
    assert [p.name for p in (home / "releases" / "tested").iterdir()] == ["0.1.0"]
    keys = {a["key"] for a in ask(api, "artifacts/filter", {})}
    assert {"counterfoil-funnel", "counterfoil-effects", "counterfoil-findings"} <= keys
