"""How far reviewers agree on what more than one of them saw."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from schemas.ids import derived_seed
from schemas.review import ReviewEvent
from schemas.tables import Row
from tasks.reviewing.events import Subject
from tasks.reviewing.standing import Words, side_of
from tasks.stats.bootstrap import Interval
from tasks.stats.nominal_agreement import nominal_alpha, nominal_kappa


class Figure(Row):
    """A coefficient with its 95 % interval; nothing where it is not defined."""

    value: float
    low: float | None
    high: float | None
    n: int
    """Subjects that it rests on."""


class Pair(Row):
    """Two reviewers, and what both saw."""

    first: str
    second: str
    shared: int
    kappa_labels: Figure | None
    """Cohen's kappa on the labels as they were given."""
    kappa_decisions: Figure | None
    """Cohen's kappa on keep, drop and edit (of passages: on what they are)."""


class Agreement(Row):
    """All reviewers together, and two by two."""

    shared: int
    """Subjects that two or more reviewers said something of."""
    alpha_labels: Figure | None
    alpha_decisions: Figure | None
    """Krippendorff's alpha, nominal."""
    pairs: tuple[Pair, ...]


def agreement(words: Words) -> Agreement:
    """Agreement over all subjects of `words`; give it those of one kind."""
    shared = {subject: said for subject, said in sorted(words.items()) if len(said) > 1}
    labels = [[_label(event) for event in said.values()] for said in shared.values()]
    decisions = [[d for e in said.values() if (d := _decision(e))] for said in shared.values()]
    reviewers = sorted({name for said in shared.values() for name in said})
    pairs = (_pair(a, b, shared) for a, b in combinations(reviewers, 2))
    seed = derived_seed(0, "review_agreement", len(shared))
    return Agreement(
        shared=len(shared),
        alpha_labels=_figure(nominal_alpha(labels, seed)),
        alpha_decisions=_figure(nominal_alpha(decisions, seed)),
        pairs=tuple(pair for pair in pairs if pair.shared),
    )


def _pair(first: str, second: str, shared: Mapping[Subject, Mapping[str, ReviewEvent]]) -> Pair:
    both = [(said[first], said[second]) for said in shared.values() if first in said and second in said]
    labels = [(_label(a), _label(b)) for a, b in both]
    decisions = [(_decision(a), _decision(b)) for a, b in both]
    return Pair(
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
