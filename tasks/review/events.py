"""Store and evaluate the verdicts of reviewers.

Each reviewer has one append-only file with one event per line:

    <workspace>/reviews/<benchmark>/<reviewer>.jsonl

An event is confirmed to the reviewer after it is on disk. A line counts once its newline is written. Text
after the last newline is the rest of a write that crashed before it was confirmed. Readers skip it with a
warning and the next writer removes it.
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
from schemas.labels import (
    KEEPING,
    UNDECIDED,
    Act,
    AnswersVerdict,
    PassageVerdict,
    QuestionVerdict,
    ReviewEvent,
)
from schemas.release import CorrectedTreatment, PeopleReview
from schemas.tables import Row, content_hash, content_id
from tasks.run.store import sync_path
from tasks.stats.agreement import nominal_alpha, nominal_kappa
from tasks.stats.resampling import Interval

Subject = tuple[str, str, str]
"""The reviewed question or passage: `subject`, `subject_id`, `query_id`."""

VERDICTS: Mapping[str, tuple[str, ...]] = {
    "question": get_args(QuestionVerdict),
    "passage": get_args(PassageVerdict),
    "answers": get_args(AnswersVerdict),
}
"""Verdicts that each kind of subject may get."""
LONGEST_NAME = 80
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")


def reviews_folder(home: Path, benchmark: str) -> Path:
    """Return the folder with the events of one benchmark, named after a recipe or release."""
    return home / "reviews" / file_name(benchmark)


def reviewer_name(name: str) -> str:
    """Normalise a reviewer's name: Unicode NFC, trimmed, single spaces.

    Raises:
        InputError: If the name is empty, too long or not printable.
    """
    kept = " ".join(unicodedata.normalize("NFC", name).split())
    if not kept or len(kept) > LONGEST_NAME or not kept.isprintable():
        raise InputError(
            f"invalid reviewer name {name[:LONGEST_NAME]!r}",
            hint=f"use 1 to {LONGEST_NAME} printable characters",
        )
    return kept


def file_name(name: str) -> str:
    """Return a file name for any name.

    Different names have different file names, also on file systems that ignore case.
    """
    if _PLAIN.fullmatch(name):
        return name
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:32]
    return f"{stem or 'name'}.{content_hash(name)[:12]}"


def subject_of(event: Act) -> Subject:
    """Return the subject of an event."""
    return event.subject, event.subject_id, event.query_id


def latest_verdicts(events: Iterable[ReviewEvent]) -> dict[Subject, ReviewEvent]:
    """Return one reviewer's current verdict or edit on each subject.

    An undo restores the previous one.

    Args:
        events: Events of one reviewer, oldest first.
    """
    by_subject: dict[Subject, list[ReviewEvent]] = {}
    for event in events:
        history = by_subject.setdefault(subject_of(event), [])
        if event.action == "undo":
            history[:] = [e for e in history if e.id != event.undoes]
        else:
            history.append(event)
    return {subject: history[-1] for subject, history in by_subject.items() if history}


def read_events(directory: Path) -> dict[str, list[ReviewEvent]]:
    """Read the events of all reviewers, sorted by name, each oldest first.

    Warns about an incomplete last line.

    Raises:
        InputError: If a complete line is not a review event.
    """
    log = ReviewLog(directory)
    for path in log.incomplete:
        warnings.warn(f"{path}: skipped an incomplete last line left by a crash", stacklevel=2)
    return log.events


def append_event(directory: Path, reviewer: str, act: Act) -> ReviewEvent:
    """Store one act. The event is on disk when this returns."""
    return append_events(directory, reviewer, [act])[0]


def append_events(directory: Path, reviewer: str, acts: Sequence[Act]) -> list[ReviewEvent]:
    """Store acts in order and return their events. All are on disk when this returns.

    An act that repeats the reviewer's current verdict is not stored again. Its event is the existing one.
    """
    return ReviewLog(directory).append(reviewer, acts)


class ReviewLog:
    """The events of one benchmark in memory. A refresh reads only the lines that were added."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.incomplete: list[Path] = []
        """Files with an incomplete last line when last read."""
        self._files: dict[Path, _File] = {}
        self.refresh()

    @property
    def events(self) -> dict[str, list[ReviewEvent]]:
        """Events by reviewer, sorted by name, each oldest first."""
        return dict(sorted((f.events[0].reviewer, f.events) for f in self._files.values() if f.events))

    def refresh(self) -> bool:
        """Read events that were added since, by any process. Return whether there were any."""
        added = [self._file(path).catch_up() for path in sorted(self.directory.glob("*.jsonl"))]
        self.incomplete = [path for path, file in sorted(self._files.items()) if file.incomplete]
        return any(added)

    def append(self, reviewer: str, acts: Sequence[Act]) -> list[ReviewEvent]:
        """Store acts as `append_events` does."""
        name = reviewer_name(reviewer)
        new = not self.directory.exists()
        self.directory.mkdir(parents=True, exist_ok=True)
        if new:
            sync_path(self.directory.parent)
        return self._file(self.directory / f"{file_name(name)}.jsonl").append(name, acts)

    def _file(self, path: Path) -> _File:
        return self._files.setdefault(path, _File(path))


class _File:
    """The file of one reviewer and the events read from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[ReviewEvent] = []
        self.incomplete = False
        self._read_to = 0

    def catch_up(self) -> bool:
        """Read the complete lines that were added. Return whether there were any."""
        if self.path.stat().st_size == self._read_to:
            self.incomplete = False
            return False
        with self.path.open("rb") as stream, _locked(stream.fileno(), fcntl.LOCK_SH):
            return self._read(stream.fileno())

    def append(self, reviewer: str, acts: Sequence[Act]) -> list[ReviewEvent]:
        new = not self.path.exists()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with _locked(handle, fcntl.LOCK_EX):
                self._read(handle)
                self._cut_incomplete_line(handle)
                stored, added = self._to_events(reviewer, acts)
                if added:
                    self._write(handle, added)
        finally:
            os.close(handle)
        if new:
            sync_path(self.path.parent)
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
        self.incomplete = len(whole) < len(added)
        return bool(whole)

    def _event(self, line: bytes, index: int) -> ReviewEvent:
        try:
            return ReviewEvent.model_validate_json(line)
        except ValidationError as error:
            raise InputError(
                "the line is not a valid review event",
                place=f"{self.path}:{index + 1}",
                hint="correct or delete the line",
            ) from error

    def _cut_incomplete_line(self, handle: int) -> None:
        if self.incomplete:
            os.ftruncate(handle, self._read_to)
            self.incomplete = False

    def _to_events(self, reviewer: str, acts: Sequence[Act]) -> tuple[list[ReviewEvent], list[ReviewEvent]]:
        """Return the event of every act, and the events among them that are new."""
        current = latest_verdicts(self.events)
        undone = {e.undoes: e for e in self.events if e.action == "undo"}
        stored: list[ReviewEvent] = []
        added: list[ReviewEvent] = []
        for act in acts:
            event = undone.get(act.undoes) if act.action == "undo" else current.get(subject_of(act))
            if event is None or not _same_act(event, act):
                event = _event_of(reviewer, act, number=len(self.events) + len(added))
                added.append(event)
                current = latest_verdicts([*self.events, *added]) if act.action == "undo" else current
                current[subject_of(act)] = event
            stored.append(event)
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


def _same_act(event: ReviewEvent, act: Act) -> bool:
    """Return whether an event is equal to an act, apart from the viewing time."""
    return event.model_dump(include=_COMPARED_FIELDS) == act.model_dump(include=_COMPARED_FIELDS)


_COMPARED_FIELDS = set(Act.model_fields) - {"seconds"}


def _event_of(reviewer: str, act: Act, *, number: int) -> ReviewEvent:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = {**act.model_dump(), "reviewer": reviewer, "number": number, "at": at}
    return ReviewEvent(id=content_id("r", parts), **parts)


@contextmanager
def _locked(handle: int, mode: int) -> Iterator[None]:
    """Lock a file against other processes, threads and browser tabs."""
    fcntl.flock(handle, mode)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


# Current verdicts and the majority decision on each subject.
#
# A reviewer decides to keep, drop or edit a question, or whether a passage answers its query. The decision of
# more than half of those who decide is settled. Without such a majority the subject is contested and nothing
# changes.


Decision = Literal[
    "keep",
    "drop",
    "edit",
    "answers",
    "helps",
    "does_not_answer",
    "same",
    "worse",
    "contested",
    "undecided",
]
CurrentVerdicts = Mapping[Subject, Mapping[str, ReviewEvent]]
"""By subject and reviewer: the current verdict or edit."""

OPEN: tuple[Decision, ...] = ("contested", "undecided")
"""Decisions that change nothing."""
_ORDER = tuple(dict.fromkeys(verdict for verdicts in VERDICTS.values() for verdict in verdicts))
_VOTES: dict[str, Decision] = {
    **{v: "keep" if v in KEEPING else "drop" for v in VERDICTS["question"] if v not in UNDECIDED},
    "answers": "answers",
    "helps": "helps",
    "does_not_answer": "does_not_answer",
    "same": "same",
    "worse": "worse",
}
"""The decision that a verdict votes for. Verdicts that are missing here decide nothing."""


class Settlement(Row):
    """The joint decision of all reviewers on one subject."""

    subject: Literal["question", "passage", "answers"]
    subject_id: str
    query_id: str
    decision: Decision
    verdict: str | None
    """Most frequent verdict among the reviewers of the majority. `None` if the decision is an edit or is
    open."""
    template: str | None
    """The new text of an edited question."""

    @property
    def settled(self) -> bool:
        """Whether the decision keeps, drops or changes anything."""
        return self.decision not in OPEN


def current_verdicts(events: Mapping[str, Iterable[ReviewEvent]]) -> dict[Subject, dict[str, ReviewEvent]]:
    """Return the current verdicts by subject and reviewer, both sorted.

    Args:
        events: Events by reviewer, oldest first.
    """
    by_subject: dict[Subject, dict[str, ReviewEvent]] = {}
    for reviewer in sorted(events):
        for subject, event in latest_verdicts(events[reviewer]).items():
            by_subject.setdefault(subject, {})[reviewer] = event
    return dict(sorted(by_subject.items()))


def settle_verdicts(verdicts: CurrentVerdicts) -> tuple[Settlement, ...]:
    """Return one settlement for every subject that has a verdict."""
    return tuple(
        _settle(subject, list(by_reviewer.values())) for subject, by_reviewer in sorted(verdicts.items())
    )


def vote_of(event: ReviewEvent) -> tuple[Decision, str | None] | None:
    """Return the decision that an event votes for, with the new text of an edit.

    Returns `None` if the event decides nothing (`discuss`, `other`).
    """
    if event.action == "edit":
        return "edit", event.template
    decision = _VOTES.get(event.verdict or "")
    return (decision, None) if decision else None


def _settle(subject: Subject, events: list[ReviewEvent]) -> Settlement:
    votes = [vote for event in events if (vote := vote_of(event)) is not None]
    decision: Decision = "contested" if votes else "undecided"
    template = verdict = None
    if votes:
        (leading, count), *_ = Counter(votes).most_common()
        if 2 * count > len(votes):
            decision, template = leading
            verdict = _most_frequent(e.verdict for e in events if vote_of(e) == leading)
    kind, subject_id, query_id = subject
    return Settlement(
        subject="passage" if kind == "passage" else "answers" if kind == "answers" else "question",
        subject_id=subject_id,
        query_id=query_id,
        decision=decision,
        verdict=verdict,
        template=template,
    )


def _most_frequent(verdicts: Iterable[str | None]) -> str | None:
    """Return the most frequent verdict. Ties are resolved by the order in which verdicts are declared."""
    count = Counter(v for v in verdicts if v is not None)
    return min(count, key=lambda v: (-count[v], _ORDER.index(v)), default=None)


# Agreement between reviewers on subjects with two or more verdicts.


class AgreementCoefficient(Row):
    """A coefficient with its 95 % interval. The bounds are `None` if they are not defined."""

    value: float
    low: float | None
    high: float | None
    n: int
    """Number of subjects."""


class ReviewerPair(Row):
    """Agreement of two reviewers on the subjects that both reviewed."""

    first: str
    second: str
    shared: int
    kappa_labels: AgreementCoefficient | None
    """Cohen's kappa of the verdicts."""
    kappa_decisions: AgreementCoefficient | None
    """Cohen's kappa of the decisions: keep, drop or edit for questions, the label for passages."""


class ReviewerAgreement(Row):
    """Agreement of all reviewers, and of each pair."""

    shared: int
    """Number of subjects with verdicts of two or more reviewers."""
    alpha_labels: AgreementCoefficient | None
    alpha_decisions: AgreementCoefficient | None
    """Krippendorff's alpha for nominal data."""
    pairs: tuple[ReviewerPair, ...]


def reviewer_agreement(verdicts: CurrentVerdicts) -> ReviewerAgreement:
    """Measure the agreement on all given subjects, which should be of one kind.

    References:
        Krippendorff (2004), Content Analysis, chapter 11. Cohen (1960), doi:10.1177/001316446002000104.
    """
    shared = {subject: given for subject, given in sorted(verdicts.items()) if len(given) > 1}
    labels = [[_label(event) for event in given.values()] for given in shared.values()]
    decisions = [[d for e in given.values() if (d := _decision(e))] for given in shared.values()]
    reviewers = sorted({name for given in shared.values() for name in given})
    pairs = (_pair(a, b, shared) for a, b in combinations(reviewers, 2))
    return ReviewerAgreement(
        shared=len(shared),
        alpha_labels=_coefficient(nominal_alpha(labels)),
        alpha_decisions=_coefficient(nominal_alpha(decisions)),
        pairs=tuple(pair for pair in pairs if pair.shared),
    )


def _pair(first: str, second: str, shared: Mapping[Subject, Mapping[str, ReviewEvent]]) -> ReviewerPair:
    both = [(given[first], given[second]) for given in shared.values() if first in given and second in given]
    labels = [(_label(a), _label(b)) for a, b in both]
    decisions = [(_decision(a), _decision(b)) for a, b in both]
    return ReviewerPair(
        first=first,
        second=second,
        shared=len(both),
        kappa_labels=_coefficient(nominal_kappa(labels)),
        kappa_decisions=_coefficient(nominal_kappa([(a, b) for a, b in decisions if a and b])),
    )


def _label(event: ReviewEvent) -> str:
    return "edit" if event.action == "edit" else event.verdict or ""


def _decision(event: ReviewEvent) -> str | None:
    vote = vote_of(event)
    return vote[0] if vote else None


def _coefficient(interval: Interval | None) -> AgreementCoefficient | None:
    if interval is None:
        return None
    low, high = (None if v is None else round(v, 4) for v in (interval.low, interval.high))
    return AgreementCoefficient(value=round(interval.value, 4), low=low, high=high, n=interval.n)


# Summary of the reviews in a release: counts and agreement, without names.


def summarise_reviews(
    verdicts: CurrentVerdicts,
    questions: Collection[str],
    passages: Collection[tuple[str, str]],
    treatment: Sequence[CorrectedTreatment] = (),
) -> PeopleReview | None:
    """Summarise the reviews of given questions and passages, and of the answers to these questions.

    Args:
        verdicts: Current verdicts.
        questions: Ids of questions.
        passages: Pairs of query id and passage id.
        treatment: How values are treated, corrected with the reviews of answers.

    Returns:
        The summary, or `None` if none of them was reviewed.
    """
    of_questions = {s: given for s, given in verdicts.items() if s[0] == "question" and s[1] in questions}
    of_passages = {
        s: given for s, given in verdicts.items() if s[0] == "passage" and (s[2], s[1]) in passages
    }
    of_answers = {
        s: given for s, given in verdicts.items() if treatment and s[0] == "answers" and s[1] in questions
    }
    reviewed = [*of_questions.values(), *of_passages.values(), *of_answers.values()]
    people = {name for given in reviewed for name in given}
    if not people:
        return None
    decided = Counter(settlement.decision for settlement in settle_verdicts(of_questions))
    agreement = reviewer_agreement(of_questions)
    alpha = agreement.alpha_decisions
    return PeopleReview(
        people=len(people),
        questions=len(of_questions),
        passages=len(of_passages),
        kept=decided["keep"],
        dropped=decided["drop"],
        edited=decided["edit"],
        contested=decided["contested"],
        undecided=decided["undecided"],
        shared=agreement.shared,
        alpha=alpha.value if alpha else None,
        alpha_low=alpha.low if alpha else None,
        alpha_high=alpha.high if alpha else None,
        answers=len(of_answers),
        treatment=tuple(treatment),
    )
