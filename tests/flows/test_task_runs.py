"""Task runs of Prefect are tried again after crashes of machines only, and log their progress."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import task_runs
from flows.engine import run_name
from flows.task_runs import LoggedProgress, is_crash, is_crash_of, wait_for_task
from schemas.errors import ModelError
from tasks.respond import STAGE
from tasks.run import progress


class KilledWorker(Exception):  # noqa: N818 - the name counts
    """Replaces the error of Dask with this name."""


@pytest.mark.parametrize(
    ("error", "crashed"),
    [
        (KilledWorker("worker"), True),
        (OSError(errno.EIO, "input/output error"), True),
        (OSError(errno.ESTALE, "stale file handle"), True),
        (OSError(errno.ENOSPC, "no space left"), False),
        (ModelError("the server refuses everything"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_crashes_of_machines_are_tried_again(error: Exception, crashed: bool) -> None:
    class State:
        def result(self, raise_on_failure: bool) -> Exception:
            return error

    assert is_crash(error) == crashed
    assert is_crash_of(None, None, State()) == crashed


class Future:
    """A task that was submitted, with its result or its error."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def result(self) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def submitting(*outcomes: Any) -> tuple[Callable[[], Future], list[Any]]:
    submitted: list[Any] = []

    def submit() -> Future:
        submitted.append(outcomes[len(submitted)])
        return Future(submitted[-1])

    return submit, submitted


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_runs, "CRASH_WAIT_S", 0.0)
    monkeypatch.setattr("prefect.get_run_logger", lambda: logging.getLogger("flow run"))


def test_a_task_whose_worker_was_lost_is_submitted_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    submit, submitted = submitting(KilledWorker("w1"), KilledWorker("w2"), "step")
    assert wait_for_task(submit, "respond · search", tmp_path) == "step"
    assert len(submitted) == 3
    assert "respond · search: the worker was lost (w1); trying again" in caplog.text


def test_a_third_crash_and_any_other_error_end_the_run(tmp_path: Path) -> None:
    submit, submitted = submitting(*(KilledWorker("w") for _ in range(5)))
    with pytest.raises(KilledWorker):
        wait_for_task(submit, "judge", tmp_path)
    assert len(submitted) == 3
    submit, submitted = submitting(ModelError("no"), "step")
    with pytest.raises(ModelError):
        wait_for_task(submit, "judge", tmp_path)
    assert len(submitted) == 1


def test_a_log_line_has_counts_time_left_coverage_and_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(task_runs.time, "monotonic", lambda: now[0])
    logged = LoggedProgress()
    assert logged.describe(tmp_path) == ""
    with progress.follow_stages(tmp_path, ["search"], lambda: 0.5) as enter:
        enter("search")
        with progress.track("target answers", 400) as bar:
            assert logged.describe(tmp_path).startswith("target answers 0 of 400")
            bar.advance(100)
            progress.count_answers(True)
            now[0] = 60.0
            line = logged.describe(tmp_path)
    assert line == ("target answers 100 of 400; about 3 min left; coverage 100 %; cost so far 0.5000 USD")


def test_the_name_of_a_task_run_has_stage_phase_and_round() -> None:
    assert run_name(STAGE, {"phase": "search"}) == "respond · search"
    assert run_name(STAGE, {"phase": "search", "round": 2}) == "respond · search · round 2"
