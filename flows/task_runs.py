"""Task runs of Prefect: wait for them, log their progress, and try again if a machine crashed."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Generic, TypeVar

from schemas.errors import CounterfoilError
from tasks.run.progress import current_stage, read_stage

R = TypeVar("R")

CRASHES = frozenset(
    {
        "KilledWorker",
        "CommClosedError",
        "WorkerCrashedError",
        "NodeDiedError",
        "LocalRayletDiedError",
        "OutOfMemoryError",
        "BrokenProcessPool",
        "CrashedRun",
    }
)
"""Names of the errors with which Dask, Ray and Prefect report that a worker was lost."""
PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENETDOWN})
"""Errors of a disk or network that may have passed at the next attempt. A full disk has not."""
MOST_CRASHES = 2
"""Times that a task is run again after crashes."""
CRASH_WAIT_S = 5.0
LOG_EVERY_S = 30.0
"""Seconds between two lines about a running stage in the log of a flow run."""


def is_crash(error: BaseException) -> bool:
    """Return whether the machine failed, so that the same work may succeed on another try.

    Failures of models are not crashes: the calls have their own attempts.
    """
    if isinstance(error, CounterfoilError):
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & CRASHES) or (isinstance(error, OSError) and error.errno in PASSING)


def is_crash_of(task: Any, task_run: Any, state: Any) -> bool:
    """Return whether a task run failed because of a crash, for `retry_condition_fn` of Prefect."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and is_crash(error)


CRASH_RETRIES: dict[str, Any] = {
    "retries": MOST_CRASHES,
    "retry_delay_seconds": CRASH_WAIT_S,
    "retry_condition_fn": is_crash_of,
}
"""Options of a task that is run again after a crash."""


def wait_for_task(submit: Callable[[], Any], name: str, run_dir: Path) -> Any:
    """Submit a task and return its result. Log its progress, and submit it again if its worker was lost."""
    from prefect import get_run_logger

    with log_progress(get_run_logger(), name, run_dir):
        return TaskFuture(submit, name).result()


class TaskFuture(Generic[R]):
    """A submitted task that is submitted again if its worker was lost."""

    def __init__(self, submit: Callable[[], Any], name: str) -> None:
        self._submit, self._name = submit, name
        self._future = submit()

    def result(self) -> R:
        """Wait for the task and return its result."""
        from prefect import get_run_logger

        for crashes in count(1):
            try:
                result: R = self._future.result()
                return result
            except Exception as error:
                if crashes > MOST_CRASHES or not is_crash(error):
                    raise
                get_run_logger().warning("%s: the worker was lost (%s); trying again", self._name, error)
                time.sleep(CRASH_WAIT_S)
                self._future = self._submit()
        raise AssertionError("unreachable")


@contextmanager
def log_progress(logger: Any, name: str, run_dir: Path) -> Iterator[None]:
    """Write a line every `LOG_EVERY_S` seconds while the block runs."""
    ended, progress = threading.Event(), LoggedProgress()

    def log() -> None:
        while not ended.wait(LOG_EVERY_S):
            if line := progress.describe(run_dir):
                logger.info("%s: %s", name, line)

    thread = threading.Thread(target=log, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class LoggedProgress:
    """Describes the running stage, with the time that is left."""

    def __init__(self) -> None:
        self._work, self._began, self._first = "", time.monotonic(), 0

    def describe(self, run_dir: Path) -> str:
        """Return counts, time left, coverage and cost. Empty if nothing is known."""
        state = current_stage() or read_stage(run_dir)
        if state is None:
            return ""
        if state.work != self._work or state.done < self._first:
            self._work, self._began, self._first = state.work, time.monotonic(), state.done
        of = f" of {state.total:,}" if state.total is not None else ""
        parts = [f"{state.work} {state.done:,}{of}".strip()] if state.work else []
        advanced = state.done - self._first
        if state.total and advanced > 0:
            left = (time.monotonic() - self._began) * (state.total - state.done) / advanced
            parts.append(f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left")
        parts += [] if state.coverage is None else [f"coverage {100 * state.coverage:.0f} %"]
        parts += [] if state.cost_usd is None else [f"cost so far {state.cost_usd:.4f} USD"]
        return "; ".join(parts)
