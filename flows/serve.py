"""Serve: the deployments of prefect.yaml on one machine, with one command, until it is stopped.

Where no Prefect server is named (`PREFECT_API_URL`), one is started on this machine, and its page told.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

from flows.workspace import PROJECT, Workspace
from schemas.errors import InputError

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

DEPLOYMENTS = PROJECT / "prefect.yaml"
START_S = 180.0
LOOPBACK = "127.0.0.1"


def serve(
    workspace: Workspace, *, port: int, limit: int, only: Sequence[str] = (), parameters: dict[str, Any]
) -> None:
    """Register the deployments (or those named) and run what is scheduled or asked for. `parameters` replace
    those of prefect.yaml, by deployment. Returns when it is interrupted."""
    with prefect_server(workspace, port):
        from prefect import serve as serve_deployments

        chosen = read_deployments(DEPLOYMENTS, only, parameters)
        serve_deployments(*chosen, limit=limit, print_starting_message=False)


def read_deployments(path: Path, only: Sequence[str], parameters: dict[str, Any]) -> list[RunnerDeployment]:
    """What prefect.yaml says, as deployments that this process runs. Raises `InputError` for a name that is
    not there."""
    import yaml
    from prefect.flows import load_flow_from_entrypoint

    entries = {e["name"]: e for e in yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]}
    if unknown := [name for name in (*only, *parameters) if name not in entries]:
        raise InputError(
            f"there is no deployment {unknown[0]!r}", place=str(path), hint=f"there are: {', '.join(entries)}"
        )
    made: list[Any] = [
        load_flow_from_entrypoint(entry["entrypoint"]).to_deployment(
            name=name,
            description=entry["description"],
            tags=entry["tags"],
            parameters=entry["parameters"] | parameters.get(name, {}),
            concurrency_limit=_limit_of(entry),
            cron=_cron_of(entry),
        )
        for name, entry in entries.items()
        if not only or name in only
    ]
    return made


def _limit_of(entry: dict[str, Any]) -> Any:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

    said = entry.get("concurrency_limit")
    return ConcurrencyLimitConfig.model_validate(said) if isinstance(said, dict) else said


def _cron_of(entry: dict[str, Any]) -> list[str] | None:
    crons = [s["cron"] for s in entry.get("schedules", ()) if s.get("active", True)]
    return crons or None


@contextmanager
def prefect_server(workspace: Workspace, port: int) -> Iterator[str]:
    """The API's address: that of `PREFECT_API_URL`, or of a server that lives as long as the block."""
    if said := os.environ.get("PREFECT_API_URL"):
        yield said
        return
    home = workspace.home / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    own = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)]
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        os.environ.update(own | {"PREFECT_API_URL": f"http://{LOOPBACK}:{port}/api"})
        _wait_until_it_answers(f"http://{LOOPBACK}:{port}/api/health", process, home / "server.log")
        yield os.environ["PREFECT_API_URL"]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(address, timeout=5):  # noqa: S310 - our own loopback address
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise InputError("the Prefect server did not start", place=str(log), hint="is the --port taken?")
