"""Task runners, and the Prefect server and deployments of this computer.

Prefect is imported inside the functions, after its settings are made: it reads them when it is imported.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from flows.processes import end_with_parent
from flows.releases_server import serve_releases
from flows.workspace import PROJECT, Workspace, configured_server, quiet_prefect
from schemas.errors import InputError
from tasks.files.vocabulary import is_checkout, shipped_data

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment


# Task runners: threads of this process, or a Dask or Ray cluster.
#
# The workers of Dask and Ray call a Prefect server. Without `PREFECT_API_URL`, one is started for the run.
# A cluster is started, too, unless `DASK_SCHEDULER_ADDRESS` or `RAY_ADDRESS` names one. Workers must see the
# same folders.


RAY_OBJECT_STORE_BYTES = 256 << 20
"""Small, because tasks pass references to files."""


@contextmanager
def task_runner(name: str, workspace: Workspace) -> Iterator[Any]:
    """Yield a Prefect task runner.

    Args:
        name: `threads`, `dask` or `ray`.
        workspace: The workspace.

    Raises:
        InputError: If the extra of the runner is not installed.
    """
    if name != "threads" and find_spec(f"prefect_{name}") is None:
        raise InputError(
            f"--runner {name} needs the extra [{name}]",
            hint=f"uv pip install --python .venv/bin/python -e '.[{name}]'",
        )
    make = {"threads": _threads, "dask": _dask, "ray": _ray}[name]
    quiet_prefect(workspace)
    if address := configured_server():
        check_reachable(address)
    # Ray prints a line about every lost worker on stdout, where results belong.
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere) if name == "ray" else nullcontext(),
        nullcontext() if address else _server(workspace),
    ):
        yield make()


@contextmanager
def _server(workspace: Workspace) -> Iterator[None]:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    with prefect_server(workspace, port):
        yield


def _threads() -> Any:
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner(max_workers=_cores())


def _dask() -> Any:
    from prefect_dask.task_runners import DaskTaskRunner

    if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
        return DaskTaskRunner(address=address)
    workers = {"n_workers": _cores(), "threads_per_worker": 1, "dashboard_address": None}
    # The scheduler serves its metrics on port 8787 otherwise, and warns if another cluster has that port.
    quiet = {"silence_logs": logging.CRITICAL, "scheduler_kwargs": {"dashboard_address": f"{LOOPBACK}:0"}}
    return DaskTaskRunner(cluster_kwargs={**workers, **quiet})


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray.task_runners import RayTaskRunner

    if os.environ.get("RAY_ADDRESS"):
        return RayTaskRunner()
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    return RayTaskRunner(
        init_kwargs={"num_cpus": _cores(), "object_store_memory": RAY_OBJECT_STORE_BYTES, **quiet}
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


# Deployments: run those of prefect.yaml on this computer until stopped.


DEPLOYMENTS = PROJECT / ("prefect.yaml" if is_checkout() else "counterfoil/prefect.yaml")
"""In a checkout, or in the installed package."""


START_S = 180.0
"""Seconds to wait for a Prefect server to start."""


REACH_S = 10.0
"""Seconds in which a configured Prefect server must answer."""


END_S = 1.0
"""Seconds in which a Prefect server may end by itself."""


LOOPBACK = "127.0.0.1"


def serve(
    workspace: Workspace, *, port: int, limit: int, only: Sequence[str] = (), parameters: dict[str, Any]
) -> None:
    """Serve deployments until interrupted.

    Args:
        workspace: The workspace.
        port: Port of the local Prefect server, if `PREFECT_API_URL` names none.
        limit: Number of concurrent runs.
        only: Names of deployments. The default is all.
        parameters: By deployment, parameters that replace those of prefect.yaml.
    """
    check_names(DEPLOYMENTS, (*only, *parameters))
    with prefect_server(workspace, port), serve_releases(workspace.releases):
        from prefect import serve as serve_deployments

        chosen = read_deployments(DEPLOYMENTS, only, parameters, workspace)
        with quiet_shutdown():
            serve_deployments(*chosen, limit=limit, print_starting_message=False)


@contextmanager
def quiet_shutdown() -> Iterator[None]:
    """Hide what Prefect's runner prints about its own tasks while it is stopped.

    A poll that a signal interrupts fails in any way, and the `asyncio` logger prints its traceback. Also, the
    runner does not await the end that the signal has begun. Nothing is lost: runs are stopped by themselves.
    """
    log = logging.getLogger("asyncio")
    log.addFilter(_is_no_shutdown)
    warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)
    try:
        yield
    finally:
        log.removeFilter(_is_no_shutdown)


def _is_no_shutdown(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("unhandled exception during asyncio.run() shutdown")


def check_names(path: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the entries of prefect.yaml by name.

    Raises:
        InputError: If a name is unknown.
    """
    import yaml

    entries = {e["name"]: e for e in yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]}
    if unknown := [name for name in names if name not in entries]:
        raise InputError(
            f"there is no deployment {unknown[0]!r}",
            place=str(path),
            hint=f"the deployments are {', '.join(entries)}",
        )
    return entries


def read_deployments(
    path: Path, only: Sequence[str], parameters: dict[str, Any], workspace: Workspace
) -> list[RunnerDeployment]:
    """Return the deployments of prefect.yaml for this process.

    Raises:
        InputError: If a name is unknown.
    """
    from prefect.deployments.runner import RunnerDeployment

    entries = check_names(path, (*only, *parameters))
    made: list[Any] = []
    for name, entry in entries.items():
        if only and name not in only:
            continue
        defaults = {key: place_of(value, workspace) for key, value in entry["parameters"].items()}
        values = defaults | parameters.get(name, {})
        made.append(
            RunnerDeployment.from_entrypoint(
                # A module path, so that runs start in any folder.
                entry["entrypoint"].replace("/", ".").replace(".py:", "."),
                name=name,
                description=entry["description"],
                tags=entry["tags"],
                parameters=values,
                concurrency_limit=_limit_of(entry),
                cron=_cron_of(entry),
            )
        )
    return made


def place_of(value: Any, workspace: Workspace) -> Any:
    """Return an absolute path for a default that begins with `data/`: of the user, or shipped."""
    if not (isinstance(value, str) and value.startswith("data/")):
        return value
    inside = value.removeprefix("data/")
    shipped = shipped_data() / inside
    return str(shipped if shipped.exists() else workspace.home / inside)


def _limit_of(entry: dict[str, Any]) -> Any:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

    limit = entry.get("concurrency_limit")
    return ConcurrencyLimitConfig.model_validate(limit) if isinstance(limit, dict) else limit


def _cron_of(entry: dict[str, Any]) -> list[str] | None:
    crons = [s["cron"] for s in entry.get("schedules", ()) if s.get("active", True)]
    return crons or None


@contextmanager
def prefect_server(workspace: Workspace, port: int) -> Iterator[str]:
    """Yield the address of `PREFECT_API_URL`, or of a server that runs as long as the block."""
    if address := os.environ.get("PREFECT_API_URL"):
        check_reachable(address)
        yield address
        return
    home = workspace.home / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    password = server_password(workspace)
    own = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_API_AUTH_STRING": password,
    }
    command = [sys.executable, "-m", "flows.guarded_api", "--host", LOOPBACK, "--port", str(port)]
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **own},
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=end_with_parent(),
        )
    try:
        os.environ.update(own | {"PREFECT_API_URL": f"http://{LOOPBACK}:{port}/api"})
        _wait_until_it_answers(f"http://{LOOPBACK}:{port}/api/health", process, home / "server.log")
        yield os.environ["PREFECT_API_URL"]
    finally:
        _end(process)


def server_password(workspace: Workspace) -> str:
    """Return `user:password` of the local Prefect server. It is generated once and kept in the home folder.

    `PREFECT_SERVER_API_AUTH_STRING` replaces it.
    """
    from tasks.review.server import keep_token

    own = os.environ.get("PREFECT_SERVER_API_AUTH_STRING", "")
    return (
        own if own.partition(":")[2] else f"counterfoil:{keep_token(workspace.home / 'prefect' / '.token')}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=END_S)
            return


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(address, timeout=5):  # noqa: S310 - our own loopback address
                return
        except (URLError, OSError):
            time.sleep(0.5)
    if b"Can't locate revision" in log.read_bytes()[-20_000:]:
        raise InputError(
            "a newer version of Prefect has written its database",
            place=str(log.parent / "prefect.db"),
            hint="update Prefect, or move that file away: it holds only the pages of earlier runs",
        )
    raise InputError(
        "the Prefect server did not start",
        place=str(log),
        hint="check whether another program uses the --port",
    )


def check_reachable(address: str) -> None:
    """Raise `InputError` if no Prefect server answers at an address. Any HTTP status is an answer."""
    try:
        with urlopen(f"{address.rstrip('/')}/health", timeout=REACH_S):  # noqa: S310 - checked by Prefect, too
            return
    except HTTPError:
        return
    except (OSError, ValueError) as error:
        host = urlsplit(address)
        raise InputError(
            f"no Prefect server answers: {getattr(error, 'reason', error)}",
            place=f"{host.scheme}://{host.hostname}{f':{host.port}' if host.port else ''}{host.path}",
            hint="start that server, or unset PREFECT_API_URL (or the profile) to run without Prefect",
        ) from None
