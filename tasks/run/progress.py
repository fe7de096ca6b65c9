"""Progress of long work. Silent unless a person's terminal (or another sink) listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class ProgressBar(Protocol):
    """Something that can be moved on."""

    def advance(self, steps: int = 1) -> None: ...


class Sink(Protocol):
    """Something that can show bars and lines: the terminal, a log, nothing. Lines may hold others' words."""

    def open(self, title: str, total: int | None) -> ProgressBar: ...

    def close(self, bar: ProgressBar) -> None: ...

    def say(self, line: str) -> None: ...


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
    """From now on show progress there."""
    global _sink
    _sink = sink


@contextmanager
def track(title: str, total: int | None) -> Iterator[ProgressBar]:
    """A bar for the length of the block: `with track("asking", 200) as bar: bar.advance()`."""
    sink = _sink
    bar = sink.open(title, total)
    try:
        yield bar
    finally:
        sink.close(bar)


def say(line: str) -> None:
    """One line for whoever watches: why nothing moves."""
    _sink.say(line)
