"""Where the work of a flow runs: threads of this process, or a Dask or Ray cluster.

Dask and Ray ask a Prefect server from every worker. Where none is named (`PREFECT_API_URL`), one is started
on this machine and stopped with the run, and so is a cluster, unless the environment names one
(`DASK_SCHEDULER_ADDRESS`, `RAY_ADDRESS`). Workers must see the same folders as this process.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, TypeVar

from flows.workspace import Workspace, quiet_prefect
from schemas.errors import InputError

P = TypeVar("P")
R = TypeVar("R")
RAY_OBJECT_STORE_BYTES = 256 << 20
"""What tasks hand to each other are places on disk."""


@contextmanager
def task_runner(name: str, workspace: Workspace) -> Iterator[Any]:
    """Prefect's task runner of that name, quiet, for as long as the block lasts. Raises `InputError` naming
    the extra that it needs."""
    if name != "threads" and find_spec(f"prefect_{name}") is None:
        raise InputError(
            f"--runner {name} needs the extra [{name}]",
            hint=f"uv pip install --python .venv/bin/python -e '.[{name}]'",
        )
    make = {"threads": _threads, "dask": _dask, "ray": _ray}[name]
    quiet_prefect(workspace)
    with nullcontext() if name == "threads" else _server(workspace):
        yield make()


def submit_each(job: Callable[[P], R], parts: Sequence[P], /) -> list[R]:
    """`tasks.text.parts.Each` as Prefect tasks, on the task runner of the flow that this is called in."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    named = task(name=job.__name__, cache_policy=NO_CACHE, persist_result=False)(_do)
    futures = [named.submit(job, part) for part in parts]
    return [future.result() for future in futures]


def _do(job: Callable[[Any], Any], part: Any) -> Any:
    return job(part)


@contextmanager
def _server(workspace: Workspace) -> Iterator[None]:
    from flows.serve import LOOPBACK, prefect_server

    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        port = found.getsockname()[1]
    before = signal.signal(signal.SIGTERM, _leave)  # or the server would outlive a run that is terminated
    try:
        with prefect_server(workspace, port):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def _threads() -> Any:
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner()


def _dask() -> Any:
    from prefect_dask.task_runners import DaskTaskRunner

    if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
        return DaskTaskRunner(address=address)
    workers = {"n_workers": _cores(), "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=workers)


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
