"""The review queue: assignment and order of groups for each reviewer, and recording of their actions."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Literal

from pydantic import Field, field_validator

from schemas.errors import InputError
from schemas.labels import Act, AnswersVerdict, PassageVerdict, QuestionVerdict, ReviewEvent
from schemas.tables import Row, derived_seed
from tasks.review import Wording, propose_wording
from tasks.review.answer_sample import GroupKey, check_scores
from tasks.review.events import (
    VERDICTS,
    ReviewLog,
    Subject,
    latest_verdicts,
    reviewer_name,
    subject_of,
    vote_of,
)
from tasks.review.subjects import Kind, ReviewSubjects

NOT_QUEUED: frozenset[Kind] = frozenset({"control", "reviewed_out"})
"""Shown only if the filter selects them."""


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One question or passage in the queue."""

    subject: Subject
    kind: Kind
    family: str
    attribute: str
    domain: str
    """`superdomain/domain`. Empty for a passage."""
    text: str
    fitness: float | None
    disagreement: float | None
    new: bool
    draw: int
    """Pseudo-random sort key derived from the content. It is the same for all reviewers and does not
    depend on fitness."""


def list_entries(subjects: ReviewSubjects) -> list[QueueEntry]:
    """Return all subjects in queue order."""
    entries = [_question_entry(subjects, question_id) for question_id in subjects.questions]
    entries += [_passage_entry(subjects, key) for key in subjects.passages]
    entries += [_answers_entry(subjects, key) for key, group in subjects.answers.items() if group.sampled]
    return sorted(entries, key=lambda e: (e.draw, e.subject))


def _question_entry(subjects: ReviewSubjects, question_id: str) -> QueueEntry:
    question = subjects.questions[question_id]
    return QueueEntry(
        subject=("question", question_id, ""),
        kind=subjects.kinds[question_id],
        family=question.family,
        attribute=question.attribute,
        domain=f"{question.superdomain}/{question.domain}",
        text=question.template,
        fitness=question.fitness,
        disagreement=subjects.disagreement.get(question_id),
        new=question_id in subjects.new,
        draw=derived_seed(subjects.benchmark, "queue", question_id),
    )


def _passage_entry(subjects: ReviewSubjects, key: tuple[str, str]) -> QueueEntry:
    query_id, passage_id = key
    case = subjects.passages[key]
    return QueueEntry(
        subject=("passage", passage_id, query_id),
        kind="passage",
        family="",
        attribute="",
        domain="",
        text=case.query,
        fitness=None,
        disagreement=None,
        new=False,
        draw=derived_seed(subjects.benchmark, "queue", *key),
    )


def _answers_entry(subjects: ReviewSubjects, key: GroupKey) -> QueueEntry:
    model, question_id = key
    question = subjects.questions[question_id]
    return QueueEntry(
        subject=("answers", question_id, model),
        kind="answers",
        family=question.family,
        attribute=question.attribute,
        domain=f"{question.superdomain}/{question.domain}",
        text=question.template,
        fitness=None,  # the judges' score is hidden, because people correct it
        disagreement=None,
        new=question_id in subjects.new,
        draw=derived_seed(subjects.benchmark, "queue", "answers", *key),
    )


# The queue of each reviewer, its filters, and the subjects on which reviewers disagree.


State = Literal["to_do", "done", "discuss", "disagreed", "all"]
STATES: tuple[State, ...] = ("to_do", "done", "discuss", "disagreed", "all")
VerdictsByReviewer = Mapping[str, Mapping[Subject, ReviewEvent]]
"""By reviewer: the current verdict on every subject."""


class Filters(Row):
    """The filters of the queue, as URL parameters. The default shows all open subjects."""

    state: State = "to_do"
    scope: Literal["mine", "everyone"] = "mine"
    kind: Kind | Literal["open", ""] = ""
    """Empty: everything except controls and questions dropped by an earlier review. `open`: the same
    without passages."""
    attribute: str = ""
    domain: str = ""
    fitness_from: float | None = Field(default=None, allow_inf_nan=False)
    fitness_to: float | None = Field(default=None, allow_inf_nan=False)
    disagreement_from: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    new: bool = False
    order: Literal["drawn", "fitness", "disagreement"] = "drawn"

    @field_validator("fitness_from", "fitness_to", "disagreement_from", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        """Browsers send an empty string for an empty field."""
        return None if value == "" else value

    def changed(self) -> dict[str, str]:
        """Return the parameters that differ from the defaults."""
        return {k: str(v) for k, v in self.model_dump(exclude_defaults=True).items()}


def assign_reviewers(subject: Subject, reviewers: tuple[str, ...], overlap: float) -> tuple[str, ...]:
    """Return the reviewers of a subject: all with probability `overlap`, otherwise one.

    The assignment is derived from the content by rendezvous hashing. A new reviewer takes a share from each
    of the others and moves no subject between them. A single reviewer gets everything.

    References:
        Thaler and Ravishankar (1998), doi:10.1109/90.663936.
    """
    if len(reviewers) < 2 or derived_seed("overlap", *subject) < overlap * 2**31:
        return reviewers
    return (max(reviewers, key=lambda name: (derived_seed("reviewer", name, *subject), name)),)


def find_disputed(verdicts: VerdictsByReviewer) -> tuple[set[Subject], set[Subject]]:
    """Return the subjects that a reviewer wants to discuss, and the subjects with conflicting verdicts."""
    discuss: set[Subject] = set()
    votes: dict[Subject, set[tuple[str, str | None]]] = {}
    for given in verdicts.values():
        for subject, event in given.items():
            vote = vote_of(event)
            if vote is None:
                discuss.add(subject)
            else:
                votes.setdefault(subject, set()).add(vote)
    return discuss, {subject for subject, distinct in votes.items() if len(distinct) > 1}


@dataclass(frozen=True)
class ReviewerQueue:
    """The queue of one reviewer."""

    reviewer: str
    reviewers: tuple[str, ...]
    all_verdicts: VerdictsByReviewer
    entries: Sequence[QueueEntry]
    """All subjects, in queue order."""
    assigned: Sequence[tuple[str, ...]]
    """Assigned reviewers of each entry (see `assign_reviewers`)."""

    @cached_property
    def mine(self) -> list[QueueEntry]:
        """The entries assigned to this reviewer, reviewed or not, in queue order.

        An entry that one of several reviewers has already reviewed stays with that reviewer if others join
        later.
        """
        taken = {
            subject for name, given in self.all_verdicts.items() if name != self.reviewer for subject in given
        }
        own, everybody = (self.reviewer,), len(self.reviewers)
        return [
            e
            for e, reviewers in zip(self.entries, self.assigned, strict=True)
            if len(reviewers) == everybody
            or e.subject in self.verdicts
            or (reviewers == own and e.subject not in taken)
        ]

    @cached_property
    def undecided(self) -> list[QueueEntry]:
        """The assigned entries without a verdict of this reviewer."""
        return [e for e in self.mine if e.subject not in self.verdicts]

    @cached_property
    def verdicts(self) -> Mapping[Subject, ReviewEvent]:
        """Current verdicts of this reviewer."""
        return self.all_verdicts.get(self.reviewer, {})

    @cached_property
    def disputed(self) -> tuple[set[Subject], set[Subject]]:
        """Subjects to discuss and subjects with conflicting verdicts."""
        return find_disputed(self.all_verdicts)

    @property
    def progress(self) -> tuple[int, int]:
        """Number of reviewed entries and number of assigned entries, without those that are not queued."""
        total, remaining = (
            sum(e.kind not in NOT_QUEUED for e in entries) for entries in (self.mine, self.undecided)
        )
        return total - remaining, total

    def select(self, filters: Filters) -> list[QueueEntry]:
        """Return the entries that pass the filters, in the requested order."""
        selected = self._in_state(filters)
        for condition in _conditions(filters):
            selected = filter(condition, selected)
        return sorted(selected, key=sort_key(filters)) if filters.order != "drawn" else list(selected)

    def _in_state(self, filters: Filters) -> Iterable[QueueEntry]:
        state = filters.state
        if state in ("discuss", "disagreed"):
            subjects = self.disputed[state == "disagreed"]
            return [e for e in self.entries if e.subject in subjects]
        if state == "to_do" and filters.scope == "mine":
            return self.undecided
        entries = self.mine if filters.scope == "mine" else self.entries
        if state == "all":
            return entries
        return [e for e in entries if (e.subject in self.verdicts) == (state == "done")]


def _conditions(f: Filters) -> Iterator[Callable[[QueueEntry], bool]]:
    """Yield a predicate for each active filter."""
    low, high, disagreement = f.fitness_from, f.fitness_to, f.disagreement_from
    if f.kind in ("", "open"):
        excluded = NOT_QUEUED if f.kind == "" else NOT_QUEUED | {"passage"}
        yield lambda e: e.kind not in excluded
    else:
        yield lambda e: e.kind == f.kind
    if f.attribute:
        yield lambda e: e.attribute == f.attribute
    if f.domain:
        yield lambda e: f.domain in (e.domain, e.domain.split("/")[0])
    if low is not None:
        yield lambda e: e.fitness is not None and e.fitness >= low
    if high is not None:
        yield lambda e: e.fitness is not None and e.fitness <= high
    if disagreement is not None:
        yield lambda e: (e.disagreement or 0.0) >= disagreement
    if f.new:
        yield lambda e: e.new


def sort_key(filters: Filters) -> Callable[[QueueEntry], tuple[float, int, Subject]]:
    """Return the sort key of the requested order.

    Highest values come first. Entries without a value come last. Ties are in queue order.
    """

    def key(e: QueueEntry) -> tuple[float, int, Subject]:
        value = None if filters.order == "drawn" else getattr(e, filters.order)
        return -(value or 0.0), e.draw, e.subject

    return key


def adjacent_entries(
    selected: Sequence[QueueEntry], entry: QueueEntry, filters: Filters
) -> tuple[QueueEntry | None, QueueEntry | None]:
    """Return the selected entries before and after a given entry.

    The entry itself may have left the selection, for example because it was just reviewed.
    """
    key = sort_key(filters)
    before = bisect_left(selected, key(entry), key=key)
    after = bisect_right(selected, key(entry), key=key)
    return (
        selected[before - 1] if before else None,
        selected[after] if after < len(selected) else None,
    )


# A review session: the subjects, the current verdicts, and the only way to record new ones.


class Submission(Row):
    """An action that the review page sends."""

    reviewer: str = Field(max_length=200)
    action: Literal["verdict", "edit", "undo"]
    subject: Literal["question", "passage", "answers"]
    subject_id: str = Field(max_length=2_000)
    query_id: str = Field(default="", max_length=2_000)
    verdict: QuestionVerdict | PassageVerdict | AnswersVerdict | None = None
    note: str = Field(default="", max_length=20_000)
    template: str | None = None
    undoes: str | None = None
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    scores: tuple[int, ...] = ()


class ReviewSession:
    """The state behind the review page.

    Safe for use by several threads. Other processes may append to the same reviews meanwhile.
    """

    def __init__(
        self, subjects: ReviewSubjects, folder: Path, data_dir: Path, reviewers: tuple[str, ...] = ()
    ) -> None:
        self.subjects = subjects
        self.data_dir = data_dir
        self.named_reviewers = tuple(reviewer_name(name) for name in reviewers)
        self.entries = list_entries(subjects)
        self.by_subject = {entry.subject: entry for entry in self.entries}
        self.attributes = sorted({entry.attribute for entry in self.entries} - {""})
        self.domains = sorted({entry.domain for entry in self.entries} - {""})
        self._log = ReviewLog(folder)
        self.torn_files = tuple(self._log.incomplete)
        """Files with an incomplete last line when the session was opened."""
        self._lock = RLock()
        self._assigned: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        self._verdicts: dict[str, tuple[int, dict[Subject, ReviewEvent]]] = {}

    def queue_of(self, reviewer: str) -> ReviewerQueue:
        """Return the current queue of a reviewer, after reading new events from disk."""
        with self._lock:
            self._log.refresh()
            verdicts = {name: self._latest(name, events) for name, events in self._log.events.items()}
            names = tuple(sorted({*self.named_reviewers, *verdicts, reviewer}))
            if names not in self._assigned:
                overlap = self.subjects.overlap
                self._assigned[names] = [assign_reviewers(e.subject, names, overlap) for e in self.entries]
        return ReviewerQueue(reviewer, names, verdicts, self.entries, self._assigned[names])

    def known_reviewers(self) -> tuple[str, ...]:
        """Return the names given at start and the names that have events."""
        with self._lock:
            self._log.refresh()
            return tuple(sorted({*self.named_reviewers, *self._log.events}))

    def last_action(self, reviewer: str) -> ReviewEvent | None:
        """Return the event that an undo would revert.

        This is the reviewer's last verdict or edit on any subject in this review that was not undone.
        """
        with self._lock:
            events = self._log.events.get(reviewer, [])
        undone = {event.undoes for event in events if event.action == "undo"}
        candidates = (e for e in reversed(events) if e.action != "undo" and e.id not in undone)
        return next((e for e in candidates if subject_of(e) in self.by_subject), None)

    def check_wording(self, question_id: str, text: str) -> Wording:
        """Check a new wording of a question.

        Raises:
            InputError: If the question is unknown.
        """
        question = self.subjects.questions.get(question_id)
        if question is None:
            raise InputError(f"unknown question {question_id!r}")
        return propose_wording(question, text, known=self.subjects.questions, data_dir=self.data_dir)

    def record(self, submission: Submission) -> ReviewEvent:
        """Store an action. The event is on disk when this returns.

        Raises:
            InputError: If the action is invalid.
        """
        act = self._act_of(submission)
        with self._lock:
            return self._log.append(submission.reviewer, [act])[0]

    def _act_of(self, s: Submission) -> Act:
        subject = (s.subject, s.subject_id, s.query_id)
        if subject not in self.by_subject:
            raise InputError(f"unknown {s.subject} {s.subject_id!r}")
        about = {"action": s.action, "subject": s.subject, "subject_id": s.subject_id, "query_id": s.query_id}
        shared = {**about, "note": s.note.strip(), "seconds": s.seconds}
        if s.action == "undo":
            self._check_undo(s, subject)
            return Act.model_validate({**about, "undoes": s.undoes})
        if s.action == "edit":
            wording = self._wording_of(s)
            return Act.model_validate(
                {**shared, "template": wording.template, "replaced_by": wording.question_id}
            )
        if s.verdict not in VERDICTS[s.subject]:
            raise InputError(f"{s.verdict!r} is not a valid verdict for a {s.subject}")
        scores: tuple[int, ...] = ()
        if s.subject == "answers":
            versions = len(self.subjects.questions[s.subject_id].variants)
            scores = check_scores(s.verdict or "", s.scores, versions)
        return Act.model_validate({**shared, "verdict": s.verdict, "scores": scores})

    def _wording_of(self, s: Submission) -> Wording:
        if s.subject != "question":
            raise InputError("only questions can be reworded")
        wording = self.check_wording(s.subject_id, s.template or "")
        if wording.fault:
            raise InputError(wording.fault, hint=wording.hint)
        return wording

    def _check_undo(self, s: Submission, subject: Subject) -> None:
        with self._lock:
            self._log.refresh()
            events = self._log.events.get(reviewer_name(s.reviewer), [])
        if not any(e.id == s.undoes and e.action != "undo" and subject_of(e) == subject for e in events):
            raise InputError("this reviewer has no such verdict to undo")

    def _latest(self, name: str, events: list[ReviewEvent]) -> dict[Subject, ReviewEvent]:
        """Cache the latest verdicts of a reviewer until events are added."""
        count, verdicts = self._verdicts.get(name, (-1, {}))
        if count != len(events):
            verdicts = latest_verdicts(events)
            self._verdicts[name] = (len(events), verdicts)
        return verdicts

    def entry(self, subject: Subject) -> QueueEntry:
        """Return the queue entry of a subject.

        Raises:
            InputError: If the subject is unknown.
        """
        entry = self.by_subject.get(subject)
        if entry is None:
            raise InputError(f"unknown {subject[0]} {subject[1]!r}")
        return entry
