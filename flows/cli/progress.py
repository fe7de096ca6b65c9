"""Show progress on stderr: one line per bar on a terminal, and a line every 30 seconds in a log."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flows.cli.plain import plain
from tasks.run.progress import StageState, current_stage, show_on
from tasks.text.model_names import short_name

LOG_EVERY_S = 30.0
"""Seconds between two lines in a log."""


def shorten(title: str) -> str:
    """Return the title of a bar with the short name of its model."""
    first, space, rest = title.partition(" ")
    return f"{short_name(first)}{space}{rest}" if ":" in first else title


def describe_stage(state: StageState | None) -> str:
    """Return the place of a stage in the build, such as `stage 4 of 13: search`."""
    return "" if state is None else f"stage {state.number} of {state.of}: {state.stage}"


def describe_figures(state: StageState | None) -> str:
    """Return coverage and cost so far, if they are known."""
    if state is None:
        return ""
    parts = [] if state.coverage is None else [f"coverage {100 * state.coverage:.0f} %"]
    parts += [] if state.cost_usd is None else [f"${state.cost_usd:.2f}"]
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Return a duration as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class TerminalBar:
    """A bar, and the count that a log shows."""

    def __init__(self, terminal: TerminalProgress, task: TaskID, title: str, total: int | None) -> None:
        self.terminal, self.task = terminal, task
        self.title, self.total = title, total
        self.done, self.began = 0, monotonic()

    def advance(self, steps: int = 1) -> None:
        """Advance the bar."""
        self.done += steps
        figures = describe_figures(current_stage())
        self.terminal.progress.update(self.task, advance=steps, figures=figures)

    def remaining_s(self) -> float | None:
        """Return the expected time until the bar ends, or `None` if it is not known."""
        if not self.total or not self.done:
            return None
        return (monotonic() - self.began) * (self.total - self.done) / self.done


class TerminalProgress:
    """Show bars on a terminal. Write plain lines if stderr is not a terminal."""

    def __init__(self, console: Console, *, log_every_s: float = LOG_EVERY_S) -> None:
        self.console = console
        self.is_animated = console.is_terminal and not console.is_dumb_terminal
        """Whether lines can be replaced. If not, lines are written as in a log."""
        self.log_every_s = log_every_s
        self.began = monotonic()
        self.bars: list[TerminalBar] = []
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not self.is_animated,
        )
        self._stop: threading.Event | None = None
        self._last = ""
        self._announced: set[str] = set()
        """Titles of bars that the log names."""

    def open(self, title: str, total: int | None) -> TerminalBar:
        """Open a bar."""
        stage, work = describe_stage(current_stage()), shorten(title)
        described = escape(f"{stage} · {work}" if stage else work)
        figures = describe_figures(current_stage())
        if not self.bars:
            self.progress.start()
            self._start_log()
        bar = TerminalBar(self, self.progress.add_task(described, total=total, figures=figures), work, total)
        self.bars.append(bar)
        is_part = len(self.bars) > 1 and work in self._announced  # one more part of the outer bar
        self._announced.add(work)
        if not (self.is_animated or is_part):
            count = f": {total:,}" if total is not None else ""
            self._log(f"{stage + ', ' if stage else ''}{work}{count}")
        return bar

    def close(self, bar: Any) -> None:
        """Close a bar."""
        self.progress.stop_task(bar.task)
        self.bars.remove(bar)
        if not self.bars:
            if self._stop is not None:
                self._stop.set()
            self.progress.stop()
            for task in list(self.progress.task_ids):
                self.progress.remove_task(task)

    def say(self, line: str) -> None:
        """Show a line."""
        self.progress.console.print(plain(line), soft_wrap=not self.is_animated)

    def end_stage(self, state: StageState, seconds: float) -> None:
        """Show one line for a finished stage."""
        answers = f", {state.answers:,} answers" if state.answers else ""
        figures = describe_figures(state)
        self.say(
            f"{describe_stage(state)} done in {clock(seconds)}{answers}{', ' + figures if figures else ''}"
        )

    def _start_log(self) -> None:
        """Write a line at intervals while bars are open, if stderr is a log."""
        if self.is_animated:
            return
        self._stop = threading.Event()
        threading.Thread(target=self._write_log, args=(self._stop,), daemon=True).start()

    def _write_log(self, stop: threading.Event) -> None:
        while not stop.wait(self.log_every_s):
            with suppress(ValueError):  # the stream is closed
                self._log("; ".join(self._status()))

    def _status(self) -> Iterator[str]:
        state = current_stage()
        for bar in list(self.bars):
            count = f" {bar.done:,}" + (f" of {bar.total:,}" if bar.total is not None else "")
            left = bar.remaining_s()
            yield f"{bar.title}{count}" + (f", {clock(left)} left" if left is not None else "")
        if figures := describe_figures(state):
            yield figures

    def _log(self, line: str) -> None:
        """Write a line with the time since the start, so that no two lines are the same."""
        stamped = f"{clock(monotonic() - self.began)} {line}"
        if stamped != self._last:
            self._last = stamped
            self.console.print(plain(stamped, 500), soft_wrap=True)


def show_progress() -> None:
    """Show progress on stderr from now on."""
    from flows.cli.printing import ERR

    show_on(TerminalProgress(ERR))
