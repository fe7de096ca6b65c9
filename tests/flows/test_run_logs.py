"""Logs of runs on Prefect: our own errors are logged as the command line prints them."""

from __future__ import annotations

import logging
import sys

import pytest

from flows.lazy_flow import EXPLANATION, explain_errors
from schemas.errors import InputError


def record_of(error: Exception | None, message: str, *arguments: object) -> logging.LogRecord:
    info = None
    if error is not None:
        try:
            raise error
        except Exception:
            info = sys.exc_info()
    return logging.LogRecord("prefect.flow_runs", logging.ERROR, "x.py", 1, message, arguments, info)


def test_own_errors_have_no_traceback() -> None:
    error = InputError("there is no recipe", place="x.yaml", hint="check the path")
    record = record_of(error, "Encountered exception during execution: %r", error)
    assert EXPLANATION.filter(record)
    shown = logging.Formatter("%(message)s").format(record)
    assert shown == "error: there is no recipe\n  at: x.yaml\n  next: check the path"


def test_an_error_is_logged_once_per_run() -> None:
    error = InputError("there is no recipe")
    runs = ["a", "a", "b"]
    records = [record_of(error, "Engine execution exited with %r", error) for _ in runs]
    for record, run in zip(records, runs, strict=True):
        record.flow_run_id = run
    assert [EXPLANATION.filter(record) for record in records] == [True, False, True]


def test_other_errors_and_messages_are_logged_as_they_are() -> None:
    record = record_of(ValueError("x"), "Encountered exception during execution: %r", "x")
    assert EXPLANATION.filter(record)
    assert "Traceback" in logging.Formatter("%(message)s").format(record)
    record = record_of(None, "Finished in state %s", "Completed()")
    assert EXPLANATION.filter(record)
    assert record.getMessage() == "Finished in state Completed()"


def test_final_state_does_not_repeat_the_list_of_problems() -> None:
    record = record_of(None, "Finished in state %s", "Failed('InputError: 2 problems:\\n1. a\\n2. b')")
    assert EXPLANATION.filter(record)
    assert record.getMessage() == "Finished in state Failed('InputError: 2 problems:"


@pytest.mark.parametrize("name", ["prefect.flow_runs", "prefect.task_runs"])
def test_filter_is_installed_once(name: str) -> None:
    explain_errors()
    explain_errors()
    assert logging.getLogger(name).filters.count(EXPLANATION) == 1
