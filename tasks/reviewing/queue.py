"""Whose turn it is: every reviewer's queue, what it is filtered by, and where reviewers are of two minds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import Field, field_validator

from schemas.ids import derived_seed
from schemas.review import ReviewEvent
from schemas.tables import Row
from tasks.reviewing.entries import NOT_IN_QUESTION, Entry
from tasks.reviewing.events import Subject
from tasks.reviewing.material import Kind
from tasks.reviewing.standing import side_of

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
class Turn:
    """One reviewer among the others: what stands in their queue, and whose words count for it."""

    reviewer: str
    reviewers: tuple[str, ...]
    said: Said
    entries: Sequence[Entry]
    """Everything there is, by lot."""
    shares: Sequence[tuple[str, ...]]
    """Whose each of them is (`assigned_to`)."""

    @cached_property
    def mine(self) -> list[Entry]:
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
    def undecided(self) -> list[Entry]:
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

    def select(self, filters: Filters) -> list[Entry]:
        """What passes the filters, in the order that they ask for."""
        found = self._of_state(filters)
        for fits in _conditions(filters):
            found = filter(fits, found)
        return sorted(found, key=place_in(filters)) if filters.order != "drawn" else list(found)

    def _of_state(self, filters: Filters) -> Iterable[Entry]:
        state, words = filters.state, self.words
        if state in ("discuss", "disagreed"):
            among = self.in_doubt[state == "disagreed"]
            return [e for e in self.entries if e.subject in among]
        if state == "to_do" and filters.scope == "mine":
            return self.undecided
        found = self.mine if filters.scope == "mine" else self.entries
        return found if state == "all" else [e for e in found if (e.subject in words) == (state == "done")]


def _conditions(f: Filters) -> Iterator[Callable[[Entry], bool]]:
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


def place_in(filters: Filters) -> Callable[[Entry], tuple[float, int, Subject]]:
    """Sorts the highest first, what has no number last, equals by lot."""

    def place(e: Entry) -> tuple[float, int, Subject]:
        number = None if filters.order == "drawn" else getattr(e, filters.order)
        return -(number or 0.0), e.lot, e.subject

    return place


def neighbours(selected: Sequence[Entry], at: Entry, filters: Filters) -> tuple[Entry | None, Entry | None]:
    """The selected entries before and after one that need not be selected itself (any longer)."""
    place = place_in(filters)
    before = bisect_left(selected, place(at), key=place)
    after = bisect_right(selected, place(at), key=place)
    return (
        selected[before - 1] if before else None,
        selected[after] if after < len(selected) else None,
    )
