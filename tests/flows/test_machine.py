"""Refusals of the machine are errors with a next step. Defects of the program stay tracebacks."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from flows import cli as cli
from flows.cli.errors import HINTS, machine_error


@pytest.mark.parametrize("number", HINTS)
def test_refusals_name_the_place_and_the_next_step(number: int) -> None:
    reported = machine_error(OSError(number, os.strerror(number), "/place"))
    assert reported is not None
    assert (reported.message, reported.place, reported.exit_code) == (os.strerror(number), "/place", 8)
    assert "run the same command again" in str(reported.hint)


@pytest.mark.parametrize("error", [MemoryError(), SystemError("error return without exception set")])
def test_missing_memory_is_reported(error: Exception) -> None:
    reported = machine_error(error)
    assert reported is not None
    assert "memory" in reported.message


def test_cause_of_an_error_counts() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "no room")
        except OSError as full:
            raise RuntimeError("the step failed") from full
    except RuntimeError as error:
        reported = machine_error(error)
    assert reported is not None
    assert reported.message == os.strerror(errno.ENOSPC)


@pytest.mark.parametrize("error", [ValueError("ours"), SystemError("bad call"), FileNotFoundError(2, "no")])
def test_mistakes_of_ours_are_not_blamed_on_the_machine(error: Exception) -> None:
    assert machine_error(error) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_ends_the_command_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(**_: object) -> None:
        with Path("/dev/full").open("wb") as full:
            full.write(b"anything")

    monkeypatch.setattr(cli.cli, "main", write)
    monkeypatch.setattr(sys, "argv", ["counterfoil", "plan"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 8
    assert capsys.readouterr().err.startswith("error: No space left on device")
