"""Everything that can be reviewed as the queue knows it: one line for each group and each passage."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Literal, get_args

from pydantic import Field, field_validator

from schemas.errors import InputError
from schemas.labels import Act, PassageVerdict, QuestionVerdict, ReviewEvent
from schemas.tables import Row, derived_seed
from tasks.review import Wording, reword
from tasks.review.events import ReviewLog, Subject, last_words, reviewer_name, side_of, subject_of
from tasks.review.subjects import Kind, ReviewMaterial

NOT_IN_QUESTION: frozenset[Kind] = frozenset({"control", "reviewed_out"})
"""Shown to those who ask for them, and in nobody's queue."""


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A group or a passage as the queue knows it."""

    subject: Subject
    kind: Kind
    family: str
    attribute: str
    domain: str
    """`superdomain/domain`; empty of a passage."""
    text: str
    fitness: float | None
    disagreement: float | None
    new: bool
    lot: int
    """Place in an order drawn by content: the same for everybody, and no one's favourite first."""


def list_entries(material: ReviewMaterial) -> list[QueueEntry]:
    """Every subject once, by lot."""
    entries = [_of_question(material, question_id) for question_id in material.questions]
    entries += [_of_passage(material, key) for key in material.passages]
    return sorted(entries, key=lambda e: (e.lot, e.subject))


def _of_question(material: ReviewMaterial, question_id: str) -> QueueEntry:
    question = material.questions[question_id]
    return QueueEntry(
        subject=("question", question_id, ""),
        kind=material.kinds[question_id],
        family=question.family,
        attribute=question.attribute,
        domain=f"{question.superdomain}/{question.domain}",
        text=question.template,
        fitness=question.fitness,
        disagreement=material.disagreement.get(question_id),
        new=question_id in material.new,
        lot=derived_seed(material.benchmark, "queue", question_id),
    )


def _of_passage(material: ReviewMaterial, key: tuple[str, str]) -> QueueEntry:
    query_id, passage_id = key
    case = material.passages[key]
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
        lot=derived_seed(material.benchmark, "queue", *key),
    )


# Whose turn it is: every reviewer's queue, what it is filtered by, and where reviewers are of two minds.


State = Literal["to_do", "done", "discuss", "disagreed", "all"]
STATES: tuple[State, ...] = ("to_do", "done", "discuss", "disagreed", "all")
Said = Mapping[str, Mapping[Subject, ReviewEvent]]
"""By reviewer: the last word on every subject."""


class Filters(Row):
    """What a reviewer wants to see. Everything open is the default."""

    state: State = "to_do"
    scope: Literal["mine", "everyone"] = "mine"
    kind: Kind | Literal["open", ""] = ""
    """Empty: what is in question; `open`: of that the groups. Controls, and what an earlier review dropped,
    are shown to those who ask for them."""
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
        """As a form sends a field that nobody filled in."""
        return None if value == "" else value

    def changed(self) -> dict[str, str]:
        """What differs from the defaults, as it stands in an address."""
        return {k: str(v) for k, v in self.model_dump(exclude_defaults=True).items()}


def assigned_to(subject: Subject, reviewers: tuple[str, ...], overlap: float) -> tuple[str, ...]:
    """Who gets a subject: everybody with probability `overlap`, else one of them; drawn by content.

    A reviewer who joins takes their share from the others and moves nothing else (the highest of all draws
    wins; Thaler and Ravishankar 1998). With one reviewer, or none, all goes to everybody.
    """
    if len(reviewers) < 2 or derived_seed("overlap", *subject) < overlap * 2**31:
        return reviewers
    return (max(reviewers, key=lambda name: (derived_seed("reviewer", name, *subject), name)),)


def subjects_in_doubt(said: Said) -> tuple[set[Subject], set[Subject]]:
    """Subjects that somebody wants to discuss, and those on which reviewers point different ways."""
    discuss: set[Subject] = set()
    pointed: dict[Subject, set[tuple[str, str | None]]] = {}
    for words in said.values():
        for subject, event in words.items():
            side = side_of(event)
            if side is None:
                discuss.add(subject)
            else:
                pointed.setdefault(subject, set()).add(side)
    return discuss, {subject for subject, sides in pointed.items() if len(sides) > 1}


@dataclass(frozen=True)
class ReviewerQueue:
    """One reviewer among the others: what stands in their queue, and whose words count for it."""

    reviewer: str
    reviewers: tuple[str, ...]
    said: Said
    entries: Sequence[QueueEntry]
    """Everything there is, by lot."""
    shares: Sequence[tuple[str, ...]]
    """Whose each of them is (`assigned_to`)."""

    @cached_property
    def mine(self) -> list[QueueEntry]:
        """The reviewer's queue, done or not, by lot: their share. What one of several reviewers has taken up
        stays theirs, even if somebody joins later."""
        taken = {subject for name, words in self.said.items() if name != self.reviewer for subject in words}
        own, words, everybody = (self.reviewer,), self.words, len(self.reviewers)
        return [
            e
            for e, share in zip(self.entries, self.shares, strict=True)
            if len(share) == everybody or e.subject in words or (share == own and e.subject not in taken)
        ]

    @cached_property
    def undecided(self) -> list[QueueEntry]:
        """What of it the reviewer has yet to decide."""
        words = self.words
        return [e for e in self.mine if e.subject not in words]

    @cached_property
    def words(self) -> Mapping[Subject, ReviewEvent]:
        """What the reviewer has said."""
        return self.said.get(self.reviewer, {})

    @cached_property
    def in_doubt(self) -> tuple[set[Subject], set[Subject]]:
        return subjects_in_doubt(self.said)

    @property
    def progress(self) -> tuple[int, int]:
        """How much of what is in question for the reviewer is done, and how much there is."""
        total, left = (
            sum(e.kind not in NOT_IN_QUESTION for e in entries) for entries in (self.mine, self.undecided)
        )
        return total - left, total

    def select(self, filters: Filters) -> list[QueueEntry]:
        """What passes the filters, in the order that they ask for."""
        found = self._of_state(filters)
        for fits in _conditions(filters):
            found = filter(fits, found)
        return sorted(found, key=place_in(filters)) if filters.order != "drawn" else list(found)

    def _of_state(self, filters: Filters) -> Iterable[QueueEntry]:
        state, words = filters.state, self.words
        if state in ("discuss", "disagreed"):
            among = self.in_doubt[state == "disagreed"]
            return [e for e in self.entries if e.subject in among]
        if state == "to_do" and filters.scope == "mine":
            return self.undecided
        found = self.mine if filters.scope == "mine" else self.entries
        return found if state == "all" else [e for e in found if (e.subject in words) == (state == "done")]


def _conditions(f: Filters) -> Iterator[Callable[[QueueEntry], bool]]:
    """What an entry must fulfil, the conditions that are wanted only."""
    low, high, apart = f.fitness_from, f.fitness_to, f.disagreement_from
    if f.kind in ("", "open"):
        left_out = NOT_IN_QUESTION if f.kind == "" else NOT_IN_QUESTION | {"passage"}
        yield lambda e: e.kind not in left_out
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
    if apart is not None:
        yield lambda e: (e.disagreement or 0.0) >= apart
    if f.new:
        yield lambda e: e.new


def place_in(filters: Filters) -> Callable[[QueueEntry], tuple[float, int, Subject]]:
    """Sorts the highest first, what has no number last, equals by lot."""

    def place(e: QueueEntry) -> tuple[float, int, Subject]:
        number = None if filters.order == "drawn" else getattr(e, filters.order)
        return -(number or 0.0), e.lot, e.subject

    return place


def neighbours(
    selected: Sequence[QueueEntry], at: QueueEntry, filters: Filters
) -> tuple[QueueEntry | None, QueueEntry | None]:
    """The selected entries before and after one that need not be selected itself (any longer)."""
    place = place_in(filters)
    before = bisect_left(selected, place(at), key=place)
    after = bisect_right(selected, place(at), key=place)
    return (
        selected[before - 1] if before else None,
        selected[after] if after < len(selected) else None,
    )


# The desk that reviewers sit at: the material, everybody's words so far, and the one way to add to them.


VERDICTS: dict[str, tuple[str, ...]] = {
    "question": get_args(QuestionVerdict),
    "passage": get_args(PassageVerdict),
}


class Submission(Row):
    """What the page sends when a reviewer acts."""

    reviewer: str = Field(max_length=200)
    action: Literal["verdict", "edit", "undo"]
    subject: Literal["question", "passage"]
    subject_id: str = Field(max_length=2_000)
    query_id: str = Field(default="", max_length=2_000)
    verdict: QuestionVerdict | PassageVerdict | None = None
    note: str = Field(default="", max_length=20_000)
    template: str | None = None
    undoes: str | None = None
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class ReviewSession:
    """Safe to use from several threads; other processes may write to the same reviews meanwhile."""

    def __init__(
        self, material: ReviewMaterial, reviews: Path, data_dir: Path, named: tuple[str, ...] = ()
    ) -> None:
        self.material = material
        self.data_dir = data_dir
        self.named = tuple(reviewer_name(name) for name in named)
        self.entries = list_entries(material)
        self.by_subject = {entry.subject: entry for entry in self.entries}
        self.attributes = sorted({entry.attribute for entry in self.entries} - {""})
        self.domains = sorted({entry.domain for entry in self.entries} - {""})
        self._log = ReviewLog(reviews)
        self.torn = tuple(self._log.torn)
        """Files whose last line a crash had torn when the desk was opened."""
        self._lock = RLock()
        self._shares: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        self._words: dict[str, tuple[int, dict[Subject, ReviewEvent]]] = {}

    def turn(self, reviewer: str) -> ReviewerQueue:
        """That reviewer's turn, as things stand on disk now."""
        with self._lock:
            self._log.refresh()
            said = {name: self._last_words(name, events) for name, events in self._log.events.items()}
            names = tuple(sorted({*self.named, *said, reviewer}))
            if names not in self._shares:
                overlap = self.material.overlap
                self._shares[names] = [assigned_to(e.subject, names, overlap) for e in self.entries]
        return ReviewerQueue(reviewer, names, said, self.entries, self._shares[names])

    def known_reviewers(self) -> tuple[str, ...]:
        with self._lock:
            self._log.refresh()
            return tuple(sorted({*self.named, *self._log.events}))

    def latest(self, reviewer: str) -> ReviewEvent | None:
        """What an undo would take back: the last verdict or edit on anything here that was not undone."""
        with self._lock:
            events = self._log.events.get(reviewer, [])
        undone = {event.undoes for event in events if event.action == "undo"}
        acts = (e for e in reversed(events) if e.action != "undo" and e.id not in undone)
        return next((e for e in acts if subject_of(e) in self.by_subject), None)

    def check(self, question_id: str, text: str) -> Wording:
        """What a new wording of a question comes to."""
        question = self.material.questions.get(question_id)
        if question is None:
            raise InputError(f"there is no question {question_id!r} here")
        return reword(question, text, known=self.material.questions, data_dir=self.data_dir)

    def record(self, submission: Submission) -> ReviewEvent:
        """Store what a reviewer did: on disk when this returns. `InputError` where it makes no sense."""
        act = self._act_of(submission)
        with self._lock:
            return self._log.append(submission.reviewer, [act])[0]

    def _act_of(self, s: Submission) -> Act:
        subject = (s.subject, s.subject_id, s.query_id)
        if subject not in self.by_subject:
            raise InputError(f"there is no {s.subject} {s.subject_id!r} here")
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
            raise InputError(f"{s.verdict!r} is no verdict on a {s.subject}")
        return Act.model_validate({**shared, "verdict": s.verdict})

    def _wording_of(self, s: Submission) -> Wording:
        if s.subject != "question":
            raise InputError("only a question's text can be changed")
        wording = self.check(s.subject_id, s.template or "")
        if wording.fault:
            raise InputError(wording.fault, hint=wording.hint)
        return wording

    def _check_undo(self, s: Submission, subject: Subject) -> None:
        with self._lock:
            self._log.refresh()
            events = self._log.events.get(reviewer_name(s.reviewer), [])
        if not any(e.id == s.undoes and e.action != "undo" and subject_of(e) == subject for e in events):
            raise InputError("there is nothing of yours to take back")

    def _last_words(self, name: str, events: list[ReviewEvent]) -> dict[Subject, ReviewEvent]:
        length, words = self._words.get(name, (-1, {}))
        if length != len(events):
            words = last_words(events)
            self._words[name] = (len(events), words)
        return words

    def entry(self, subject: Subject) -> QueueEntry:
        """Raises `InputError` for a subject that is not here."""
        found = self.by_subject.get(subject)
        if found is None:
            raise InputError(f"there is no {subject[0]} {subject[1]!r} here")
        return found
