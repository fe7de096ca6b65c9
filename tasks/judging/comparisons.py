"""What a judge is shown at once, and in which order: all variants of a group, or two of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from schemas.ids import derived_seed
from tasks.judging.groups import AnswerGroup

How = Literal["all_at_once", "pairwise"]

ALL_PAIRS_UP_TO = 6
"""Values of which every two are compared."""
STEPS = (1, 2)
"""Beyond that, each value is compared with those one and two places further on a ring: four in all."""


@dataclass(frozen=True)
class Comparison:
    """One look at a group."""

    group: AnswerGroup
    order: tuple[int, ...]
    """Variant indices as the judge sees them."""
    pair: tuple[int, ...] = ()
    """The two variants compared, the lower index first; empty where all are shown."""
    repeat: int = 0

    def turned(self) -> Comparison:
        """The same in the reverse order."""
        return replace(self, order=self.order[::-1], repeat=self.repeat + 1)


def plan_comparisons(group: AnswerGroup, how: How, seed: int) -> list[Comparison]:
    """The first looks at a group, each in an order drawn by seed."""
    if how == "all_at_once":
        return [Comparison(group, first_order(group, seed))]
    return [
        Comparison(group, _drawn(pair, seed, "order", group.question.id, group.target, *pair), pair)
        for pair in pairs_to_compare(len(group.answers), seed, group.question.id)
    ]


def first_order(group: AnswerGroup, seed: int) -> tuple[int, ...]:
    """All variant indices in the order drawn for a group."""
    return _drawn(range(len(group.answers)), seed, "order", group.question.id, group.target)


def pairs_to_compare(values: int, seed: int, question_id: str) -> list[tuple[int, int]]:
    """Every two of up to six values. Of more, a sparse design whose size grows with the number of values and
    not with its square: the values on a ring drawn by seed, each with its neighbours at both distances, so
    that all take part equally often and all are connected."""
    if values <= ALL_PAIRS_UP_TO:
        return list(combinations(range(values), 2))
    ring = _drawn(range(values), seed, "ring", question_id)
    around = ((ring[place], ring[(place + step) % values]) for place in range(values) for step in STEPS)
    return sorted({(min(pair), max(pair)) for pair in around})


def count_comparisons(values: int, how: How) -> int:
    """First looks at a group of so many values."""
    if how == "all_at_once":
        return 1
    return values * (values - 1) // 2 if values <= ALL_PAIRS_UP_TO else len(STEPS) * values


def _drawn(indices: Iterable[int], *parts: object) -> tuple[int, ...]:
    return tuple(sorted(indices, key=lambda index: derived_seed(*parts, index)))
