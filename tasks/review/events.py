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
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from schemas.errors import InputError
from schemas.labels import KEEPING, UNDECIDED, Act, PassageVerdict, QuestionVerdict, ReviewEvent
from schemas.release import PeopleReview
from schemas.tables import Row, content_hash, content_id, derived_seed
from tasks.run.store import sync_directory
from tasks.stats.agreement import nominal_alpha, nominal_kappa
from tasks.stats.resampling import Interval

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


# What stands: reviewers' last words on every subject, and what they come to when all are taken together.
#
# A reviewer says keep, drop, or another text; of a passage, whether it answers. What more than half of those
# who decide say is settled. Where no side has more than half it is contested, and changes nothing.


Decision = Literal["keep", "drop", "edit", "answers", "helps", "does_not_answer", "contested", "undecided"]
Words = Mapping[Subject, Mapping[str, ReviewEvent]]
"""By subject and reviewer: the verdict or edit that stands."""

OPEN: tuple[Decision, ...] = ("contested", "undecided")
"""Decisions that change nothing."""
_ORDER = (*get_args(QuestionVerdict), *get_args(PassageVerdict))
_SIDES: dict[str, Decision] = {
    **{v: "keep" if v in KEEPING else "drop" for v in get_args(QuestionVerdict) if v not in UNDECIDED},
    "answers": "answers",
    "helps": "helps",
    "does_not_answer": "does_not_answer",
}
"""What a verdict decides; those that are not here decide nothing."""


class Settlement(Row):
    """What people's words on one subject come to."""

    subject: Literal["question", "passage"]
    subject_id: str
    query_id: str
    decision: Decision
    verdict: str | None
    """The commonest verdict of those who decided it, where they gave one."""
    template: str | None
    """Of an edit: the question's new text."""

    @property
    def settled(self) -> bool:
        """Whether it keeps, drops or changes anything."""
        return self.decision not in OPEN


def standing_words(events: Mapping[str, Iterable[ReviewEvent]]) -> dict[Subject, dict[str, ReviewEvent]]:
    """Last words by subject and reviewer, both in order. `events`: each reviewer's, oldest first."""
    found: dict[Subject, dict[str, ReviewEvent]] = {}
    for reviewer in sorted(events):
        for subject, event in last_words(events[reviewer]).items():
            found.setdefault(subject, {})[reviewer] = event
    return dict(sorted(found.items()))


def settle(words: Words) -> tuple[Settlement, ...]:
    """One settlement for every subject that anybody said anything of."""
    return tuple(_settle(subject, list(said.values())) for subject, said in sorted(words.items()))


def side_of(event: ReviewEvent) -> tuple[Decision, str | None] | None:
    """What a word decides, and for an edit the text that it wants; `None` where it decides nothing."""
    if event.action == "edit":
        return "edit", event.template
    side = _SIDES.get(event.verdict or "")
    return (side, None) if side else None


def _settle(subject: Subject, said: list[ReviewEvent]) -> Settlement:
    sides = [side for event in said if (side := side_of(event)) is not None]
    decision: Decision = "contested" if sides else "undecided"
    template = verdict = None
    if sides:
        (leading, votes), *_ = Counter(sides).most_common()
        if 2 * votes > len(sides):
            decision, template = leading
            verdict = _commonest(e.verdict for e in said if side_of(e) == leading)
    kind, subject_id, query_id = subject
    return Settlement(
        subject="passage" if kind == "passage" else "question",
        subject_id=subject_id,
        query_id=query_id,
        decision=decision,
        verdict=verdict,
        template=template,
    )


def _commonest(verdicts: Iterable[str | None]) -> str | None:
    """Of equally common ones the first in the order in which verdicts are listed."""
    count = Counter(v for v in verdicts if v is not None)
    return min(count, key=lambda v: (-count[v], _ORDER.index(v)), default=None)


# How far reviewers agree on what more than one of them saw.


class Figure(Row):
    """A coefficient with its 95 % interval; nothing where it is not defined."""

    value: float
    low: float | None
    high: float | None
    n: int
    """Subjects that it rests on."""


class ReviewerPair(Row):
    """Two reviewers, and what both saw."""

    first: str
    second: str
    shared: int
    kappa_labels: Figure | None
    """Cohen's kappa on the labels as they were given."""
    kappa_decisions: Figure | None
    """Cohen's kappa on keep, drop and edit (of passages: on what they are)."""


class ReviewerAgreement(Row):
    """All reviewers together, and two by two."""

    shared: int
    """Subjects that two or more reviewers said something of."""
    alpha_labels: Figure | None
    alpha_decisions: Figure | None
    """Krippendorff's alpha, nominal."""
    pairs: tuple[ReviewerPair, ...]


def agreement(words: Words) -> ReviewerAgreement:
    """Agreement over all subjects of `words`; give it those of one kind."""
    shared = {subject: said for subject, said in sorted(words.items()) if len(said) > 1}
    labels = [[_label(event) for event in said.values()] for said in shared.values()]
    decisions = [[d for e in said.values() if (d := _decision(e))] for said in shared.values()]
    reviewers = sorted({name for said in shared.values() for name in said})
    pairs = (_pair(a, b, shared) for a, b in combinations(reviewers, 2))
    seed = derived_seed(0, "review_agreement", len(shared))
    return ReviewerAgreement(
        shared=len(shared),
        alpha_labels=_figure(nominal_alpha(labels, seed)),
        alpha_decisions=_figure(nominal_alpha(decisions, seed)),
        pairs=tuple(pair for pair in pairs if pair.shared),
    )


def _pair(first: str, second: str, shared: Mapping[Subject, Mapping[str, ReviewEvent]]) -> ReviewerPair:
    both = [(said[first], said[second]) for said in shared.values() if first in said and second in said]
    labels = [(_label(a), _label(b)) for a, b in both]
    decisions = [(_decision(a), _decision(b)) for a, b in both]
    return ReviewerPair(
        first=first,
        second=second,
        shared=len(both),
        kappa_labels=_figure(nominal_kappa(labels)),
        kappa_decisions=_figure(nominal_kappa([(a, b) for a, b in decisions if a and b])),
    )


def _label(event: ReviewEvent) -> str:
    return "edit" if event.action == "edit" else event.verdict or ""


def _decision(event: ReviewEvent) -> str | None:
    side = side_of(event)
    return side[0] if side else None


def _figure(found: Interval | None) -> Figure | None:
    if found is None:
        return None
    rounded = [None if v is None else round(v, 4) for v in (found.low, found.high)]
    return Figure(value=round(found.value, 4), low=rounded[0], high=rounded[1], n=found.n)


# What a release tells of its reviewers: how many they were, what they decided, how far they agree.


def summarise(
    words: Words, questions: Collection[str], passages: Collection[tuple[str, str]]
) -> PeopleReview | None:
    """Reviews of those questions (ids) and passages (query id, passage id); `None` where there is none."""
    of_questions = {s: said for s, said in words.items() if s[0] == "question" and s[1] in questions}
    of_passages = {s: said for s, said in words.items() if s[0] == "passage" and (s[2], s[1]) in passages}
    people = {name for said in [*of_questions.values(), *of_passages.values()] for name in said}
    if not people:
        return None
    decided = Counter(settlement.decision for settlement in settle(of_questions))
    found = agreement(of_questions)
    alpha = found.alpha_decisions
    return PeopleReview(
        people=len(people),
        questions=len(of_questions),
        passages=len(of_passages),
        kept=decided["keep"],
        dropped=decided["drop"],
        edited=decided["edit"],
        contested=decided["contested"],
        undecided=decided["undecided"],
        shared=found.shared,
        alpha=alpha.value if alpha else None,
        alpha_low=alpha.low if alpha else None,
        alpha_high=alpha.high if alpha else None,
    )
