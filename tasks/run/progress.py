"""Progress of long work. Nothing is shown until a sink, such as the terminal, is set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class ProgressBar(Protocol):
    """A progress bar."""

    def advance(self, steps: int = 1) -> None:
        """Advance the bar."""


class Sink(Protocol):
    """Shows bars and lines: a terminal or a log. Lines may contain untrusted text."""

    def open(self, title: str, total: int | None) -> ProgressBar:
        """Open a bar."""

    def close(self, bar: ProgressBar) -> None:
        """Close a bar."""

    def say(self, line: str) -> None:
        """Show a line."""


class _Silent:
    def advance(self, steps: int = 1) -> None:
        return None

    def open(self, title: str, total: int | None) -> ProgressBar:
        return self

    def close(self, bar: ProgressBar) -> None:
        return None

    def say(self, line: str) -> None:
        return None


_sink: Sink = _Silent()


def show_on(sink: Sink) -> None:
    """Show progress on a sink from now on."""
    global _sink
    _sink = sink


@contextmanager
def track(title: str, total: int | None) -> Iterator[ProgressBar]:
    """Show a bar while the block runs.

    Args:
        title: Title of the bar.
        total: Number of steps, or None if it is unknown.
    """
    sink = _sink
    bar = sink.open(title, total)
    try:
        yield bar
    finally:
        sink.close(bar)


def say(line: str) -> None:
    """Show one line, such as the reason for a pause."""
    _sink.say(line)
