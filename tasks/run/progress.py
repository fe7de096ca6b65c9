"""Progress of long work. Nothing is shown until a sink, such as the terminal, is set.

A build consists of stages. While one runs, its progress is also written to `<run>/progress.json`, so that
`counterfoil show` can report it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, Protocol

PROGRESS = "progress.json"
WRITE_EVERY_S = 2.0
"""Seconds between two writes of the file."""


class ProgressBar(Protocol):
    """A progress bar."""

    def advance(self, steps: int = 1) -> None:
        """Advance the bar."""


class Sink(Protocol):
    """Shows bars, stages and lines: a terminal or a log. Lines may contain untrusted text."""

    def open(self, title: str, total: int | None) -> ProgressBar:
        """Open a bar."""

    def close(self, bar: ProgressBar) -> None:
        """Close a bar."""

    def say(self, line: str) -> None:
        """Show a line."""

    def end_stage(self, state: StageState, seconds: float) -> None:
        """Show that a stage is done."""


@dataclass
class StageState:
    """The running stage of a build."""

    stage: str = ""
    number: int = 0
    of: int = 0
    work: str = ""
    """Title of the open bar."""
    done: int = 0
    total: int | None = None
    """Number of steps of the open bar."""
    answers: int = 0
    """Answers of this stage."""
    usable: int = 0
    """Answers of this stage that could be read."""
    cost_usd: float | None = None

    @property
    def coverage(self) -> float | None:
        """`usable` of all answers, or `None` before the first one."""
        return self.usable / self.answers if self.answers else None


class _Silent:
    def advance(self, steps: int = 1) -> None:
        return None

    def open(self, title: str, total: int | None) -> ProgressBar:
        return self

    def close(self, bar: ProgressBar) -> None:
        return None

    def say(self, line: str) -> None:
        return None

    def end_stage(self, state: StageState, seconds: float) -> None:
        return None


_sink: Sink = _Silent()


def show_on(sink: Sink) -> None:
    """Show progress on a sink from now on."""
    global _sink
    _sink = sink


class StageProgress:
    """The stages of a build, in order. `enter` begins the next one."""

    def __init__(self, run_dir: Path, stages: Sequence[str], cost_usd: Callable[[], float]) -> None:
        self.state = StageState(of=len(stages))
        self._stages = list(stages)
        self._cost_usd = cost_usd
        self._file = run_dir / PROGRESS
        self._written = 0.0
        self._began = monotonic()
        self._lock = Lock()

    def enter(self, stage: str) -> None:
        """Begin a stage, and end the one before it."""
        self.leave()
        number = self._stages.index(stage) + 1
        with self._lock:
            self.state = StageState(stage, number, len(self._stages), cost_usd=self._cost_usd())
            self._began = monotonic()
        self.write()

    def leave(self) -> None:
        """End the running stage, if there is one."""
        if self.state.stage:
            self.state.cost_usd = self._cost_usd()
            _sink.end_stage(self.state, monotonic() - self._began)

    def update(self, **changes: Any) -> None:
        """Change the state, and write it if the last time is a while ago."""
        with self._lock:
            for name, value in changes.items():
                setattr(self.state, name, value)
            due = monotonic() - self._written > WRITE_EVERY_S
        if due:
            self.state.cost_usd = self._cost_usd()
            self.write()

    def write(self) -> None:
        """Write the state to the file. A full disk is no reason to stop the build."""
        self._written = monotonic()
        state = {**asdict(self.state), "coverage": self.state.coverage}
        with suppress(OSError):
            temporary = self._file.with_suffix(".tmp")
            temporary.write_text(json.dumps(state), encoding="utf-8")
            os.replace(temporary, self._file)


_stages: StageProgress | None = None


@contextmanager
def follow_stages(
    run_dir: Path, stages: Sequence[str], cost_usd: Callable[[], float]
) -> Iterator[Callable[[str], None]]:
    """Follow the stages of a build while the block runs.

    Args:
        run_dir: Directory of the run, for the file that `show` reads.
        stages: Names of all stages in order.
        cost_usd: Returns the spending so far.

    Yields:
        A function that begins a stage by its name.
    """
    global _stages
    _stages = StageProgress(run_dir, stages, cost_usd)
    try:
        yield _stages.enter
        _stages.leave()
    finally:
        _stages = None
        with suppress(OSError):
            (run_dir / PROGRESS).unlink(missing_ok=True)


def current_stage() -> StageState | None:
    """Return the running stage of the build of this process, or `None` outside a build."""
    return _stages.state if _stages is not None and _stages.state.stage else None


def read_stage(run_dir: Path) -> StageState | None:
    """Return the stage that was last written for a run, or `None` if none is running or it is unreadable."""
    try:
        content = json.loads((run_dir / PROGRESS).read_text(encoding="utf-8"))
        content.pop("coverage", None)
        return StageState(**content)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def count_answers(usable: int, answers: int = 1) -> None:
    """Count answers of the running stage, and those that could be used."""
    if _stages is not None:
        state = _stages.state
        _stages.update(answers=state.answers + answers, usable=state.usable + usable)


class _Followed:
    """A bar of the sink that also updates the running stage."""

    def __init__(self, bar: ProgressBar) -> None:
        self.bar = bar

    def advance(self, steps: int = 1) -> None:
        """Advance the bar and the state."""
        self.bar.advance(steps)
        if _stages is not None:
            _stages.update(done=_stages.state.done + steps)


@contextmanager
def track(title: str, total: int | None) -> Iterator[ProgressBar]:
    """Show a bar while the block runs.

    Args:
        title: Title of the bar.
        total: Number of steps, or None if it is unknown.
    """
    sink = _sink
    if _stages is not None:
        _stages.update(work=title, done=0, total=total)
    bar = sink.open(title, total)
    try:
        yield _Followed(bar)
    finally:
        sink.close(bar)


def say(line: str) -> None:
    """Show one line, such as the reason for a pause."""
    _sink.say(line)
