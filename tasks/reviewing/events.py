"""What reviewers did: a file each, one event a line, appended and on disk before anybody is told so.

    <workspace>/reviews/<benchmark>/<reviewer>.jsonl

A line counts once its newline is there. What follows the last newline was torn by a crash before anybody was
told that it is saved: readers leave it out and say so, the next writer cuts it off.
"""

from __future__ import annotations

import fcntl
import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import InputError
from schemas.ids import content_hash, content_id
from schemas.review import Act, ReviewEvent
from tasks.store import sync_directory

Subject = tuple[str, str, str]
"""What an event is about: `subject`, `subject_id`, `query_id`."""

LONGEST_NAME = 80
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")


def reviews_dir(home: Path, benchmark: str) -> Path:
    """Where the events of one benchmark (a recipe's or a release's name) are."""
    return home / "reviews" / file_name(benchmark)


def reviewer_name(name: str) -> str:
    """A name as it is kept: composed, trimmed, spaces single. Raises `InputError` where nothing is left."""
    kept = " ".join(unicodedata.normalize("NFC", name).split())
    if not kept or len(kept) > LONGEST_NAME or not kept.isprintable():
        raise InputError(
            f"not a reviewer's name: {name[:LONGEST_NAME]!r}",
            hint=f"1 to {LONGEST_NAME} printable characters",
        )
    return kept


def file_name(name: str) -> str:
    """A name of any kind as a file name; two names never share one, on any file system."""
    if _PLAIN.fullmatch(name):
        return name
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:32]
    return f"{stem or 'name'}.{content_hash(name)[:12]}"


def subject_of(event: Act) -> Subject:
    """What the event is about."""
    return event.subject, event.subject_id, event.query_id


def last_words(events: Iterable[ReviewEvent]) -> dict[Subject, ReviewEvent]:
    """What one reviewer says of each subject: the last verdict or edit that was not undone.

    Undoing gives back what was said before.
    """
    said: dict[Subject, list[ReviewEvent]] = {}
    for event in events:
        words = said.setdefault(subject_of(event), [])
        if event.action == "undo":
            words[:] = [e for e in words if e.id != event.undoes]
        else:
            words.append(event)
    return {subject: words[-1] for subject, words in said.items() if words}


def read_events(directory: Path) -> dict[str, list[ReviewEvent]]:
    """Every reviewer's events, oldest first; reviewers in the order of their names.

    Warns of a torn last line. Raises `InputError` with file and line where a whole line is no event.
    """
    log = ReviewLog(directory)
    for path in log.torn:
        warnings.warn(f"{path}: the last line was torn by a crash and is left out", stacklevel=2)
    return log.events


def append_event(directory: Path, reviewer: str, act: Act) -> ReviewEvent:
    """Store one act; it is on disk when this returns."""
    return append_events(directory, reviewer, [act])[0]


def append_events(directory: Path, reviewer: str, acts: Sequence[Act]) -> list[ReviewEvent]:
    """Store acts in order, all of them on disk when this returns; the events that they became.

    An act that says what the reviewer says already is not stored again: its event is the one that is there.
    """
    return ReviewLog(directory).append(reviewer, acts)


class ReviewLog:
    """The events of one benchmark in memory, kept up with the files by reading only what was added."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.torn: list[Path] = []
        """Files whose last line had no end when they were last read."""
        self._files: dict[Path, _File] = {}
        self.refresh()

    @property
    def events(self) -> dict[str, list[ReviewEvent]]:
        found = ((f.events[0].reviewer, f.events) for f in self._files.values() if f.events)
        return dict(sorted(found))

    def refresh(self) -> bool:
        """Read what was added by anybody since; whether there was anything."""
        news = [self._file(path).catch_up() for path in sorted(self.directory.glob("*.jsonl"))]
        self.torn = [path for path, file in sorted(self._files.items()) if file.torn]
        return any(news)

    def append(self, reviewer: str, acts: Sequence[Act]) -> list[ReviewEvent]:
        """Store acts as `append_events` does."""
        name = reviewer_name(reviewer)
        new = not self.directory.exists()
        self.directory.mkdir(parents=True, exist_ok=True)
        if new:
            sync_directory(self.directory.parent)
        return self._file(self.directory / f"{file_name(name)}.jsonl").append(name, acts)

    def _file(self, path: Path) -> _File:
        return self._files.setdefault(path, _File(path))


class _File:
    """One reviewer's file and what was read of it so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[ReviewEvent] = []
        self.torn = False
        self._read_to = 0

    def catch_up(self) -> bool:
        """Read the whole lines that were added."""
        if self.path.stat().st_size == self._read_to:
            self.torn = False
            return False
        with self.path.open("rb") as stream, _locked(stream.fileno(), fcntl.LOCK_SH):
            return self._read(stream.fileno())

    def append(self, reviewer: str, acts: Sequence[Act]) -> list[ReviewEvent]:
        new = not self.path.exists()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with _locked(handle, fcntl.LOCK_EX):
                self._read(handle)
                self._cut_torn_line(handle)
                stored, added = self._become_events(reviewer, acts)
                if added:
                    self._write(handle, added)
        finally:
            os.close(handle)
        if new:
            sync_directory(self.path.parent)
        return stored

    def _read(self, handle: int) -> bool:
        size = os.fstat(handle).st_size
        if size < self._read_to:
            self.events, self._read_to = [], 0
        added = os.pread(handle, size - self._read_to, self._read_to)
        whole = added[: added.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        new = [self._event(line, len(self.events) + i) for i, line in enumerate(lines)]
        self.events = [*self.events, *new]
        self._read_to += len(whole)
        self.torn = len(whole) < len(added)
        return bool(whole)

    def _event(self, line: bytes, index: int) -> ReviewEvent:
        try:
            return ReviewEvent.model_validate_json(line)
        except ValidationError as error:
            raise InputError(
                "not a review event", place=f"{self.path}:{index + 1}", hint="mend the line or take it out"
            ) from error

    def _cut_torn_line(self, handle: int) -> None:
        if self.torn:
            os.ftruncate(handle, self._read_to)
            self.torn = False

    def _become_events(
        self, reviewer: str, acts: Sequence[Act]
    ) -> tuple[list[ReviewEvent], list[ReviewEvent]]:
        """The events that the acts are now, and those of them that are new."""
        said = last_words(self.events)
        undone = {e.undoes: e for e in self.events if e.action == "undo"}
        stored: list[ReviewEvent] = []
        added: list[ReviewEvent] = []
        for act in acts:
            there = undone.get(act.undoes) if act.action == "undo" else said.get(subject_of(act))
            if there is None or not _says(there, act):
                there = _event_of(reviewer, act, number=len(self.events) + len(added))
                added.append(there)
                said = last_words([*self.events, *added]) if act.action == "undo" else said
                said[subject_of(act)] = there
            stored.append(there)
        return stored, added

    def _write(self, handle: int, added: Sequence[ReviewEvent]) -> None:
        lines = b"".join(event.model_dump_json().encode() + b"\n" for event in added)
        try:
            written = 0
            while written < len(lines):
                written += os.write(handle, lines[written:])
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, self._read_to)
            raise
        self._read_to += len(lines)
        self.events = [*self.events, *added]


def _says(event: ReviewEvent, act: Act) -> bool:
    """Whether the event says what the act would say."""
    return event.model_dump(include=_MEANING) == act.model_dump(include=_MEANING)


_MEANING = set(Act.model_fields) - {"seconds"}


def _event_of(reviewer: str, act: Act, *, number: int) -> ReviewEvent:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = {**act.model_dump(), "reviewer": reviewer, "number": number, "at": at}
    return ReviewEvent(id=content_id("r", parts), **parts)


@contextmanager
def _locked(handle: int, how: int) -> Iterator[None]:
    """Nobody else writes meanwhile: no other process, thread or browser tab."""
    fcntl.flock(handle, how)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)
