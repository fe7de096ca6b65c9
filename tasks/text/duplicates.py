"""Duplicates among units: a unit is one text, or a whole group of texts that is kept or dropped as one.

Two units are duplicates where their guards are equal (same slot columns, same attribute, …) and their
normalised texts are the same, or alike by rapidfuzz's `ratio`. The best unit of a cluster stays.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from tasks.text.clusters import lost_to
from tasks.text.near_duplicates import thin_out
from tasks.text.normalize import normalise_for_match

Kind = Literal["exact_duplicate", "near_duplicate"]


@dataclass(frozen=True, slots=True)
class Unit:
    """What is kept or dropped."""

    id: str
    text: str
    guard: Hashable = ()
    """Units of different guards are never duplicates of each other."""
    order: tuple[Any, ...] = ()
    """Smaller is better; units of one order go by id, never by their place in the input."""
    rows: tuple[int, ...] = ()
    """Where it stands in the input, for whoever has to find it again."""
    source: str | None = None
    """Name of the earlier file or release that it stands in; such a unit always stays."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A unit that goes: what it lost to, and how similar they are (0 to 100)."""

    unit: Unit
    because_of: Unit
    similarity: float
    kind: Kind

    @property
    def reason(self) -> str:
        source = self.because_of.source
        return self.kind if source is None else f"overlaps:{source}"


@dataclass(frozen=True)
class Deduplication:
    """What stays, what goes and why; best first."""

    kept: tuple[Unit, ...]
    dropped: tuple[Duplicate, ...]
    pairs_verified: int
    """Pairs whose `ratio` was computed."""

    @property
    def duplicate_ratio(self) -> float:
        """Share of the units that go; 0 where there are none."""
        return len(self.dropped) / max(1, len(self.kept) + len(self.dropped))

    @cached_property
    def clusters(self) -> tuple[tuple[Unit, ...], ...]:
        """Every unit that has duplicates, each with these."""
        members: dict[Unit, list[Unit]] = {}
        for duplicate in self.dropped:
            members.setdefault(duplicate.because_of, []).append(duplicate.unit)
        return tuple((best, *lost) for best, lost in members.items())

    def least_similar_merges(self, n: int = 10) -> tuple[Duplicate, ...]:
        """The drops to look at first."""
        return tuple(sorted(self.dropped, key=lambda d: (d.similarity, d.unit.id))[:n])


def find_duplicates(
    units: Sequence[Unit], *, threshold: float = 90.0, earlier: Iterable[Unit] = ()
) -> Deduplication:
    """Keep the best of every cluster of units, and none that matches an earlier one."""
    known = sorted(earlier, key=lambda u: (u.source or "", u.id, u.text))
    ranked = [*known, *sorted(units, key=lambda u: (u.order, u.id, u.text))]
    texts = [normalise_for_match(unit.text) for unit in ranked]
    guards = _numbers(unit.guard for unit in ranked)
    first, text_of = _distinct(texts, guards)
    fixed = int(np.searchsorted(first, len(known)))
    thinned = thin_out(
        [texts[i] for i in first],
        np.array([guards[i] for i in first], dtype=np.int64),
        threshold=threshold,
        fixed=fixed,
    )
    lost = lost_to(thinned.stays, thinned.matches, fixed=fixed)
    winners = zip(lost.better.tolist(), lost.similarity.tolist(), strict=True)
    near = dict(zip(lost.worse.tolist(), winners, strict=True))
    kept, dropped = [], []
    for i in range(len(known), len(ranked)):
        best, similarity = near.get(text_of[i], (text_of[i], 100.0))
        if first[best] == i:
            kept.append(ranked[i])
        else:
            kind: Kind = "near_duplicate" if text_of[i] in near else "exact_duplicate"
            dropped.append(Duplicate(ranked[i], ranked[first[best]], similarity, kind))
    return Deduplication(tuple(kept), tuple(dropped), thinned.pairs_verified)


def _numbers(guards: Iterable[Hashable]) -> list[int]:
    """A number for each guard, equal for equal ones."""
    seen: dict[Hashable, int] = {}
    return [seen.setdefault(guard, len(seen)) for guard in guards]


def _distinct(texts: Sequence[str], guards: Sequence[int]) -> tuple[list[int], list[int]]:
    """Where each distinct text (within its guard) stands first, and for every text the number of its
    distinct text."""
    seen: dict[tuple[int, str], int] = {}
    first: list[int] = []
    same_as = []
    for i, key in enumerate(zip(guards, texts, strict=True)):
        number = seen.setdefault(key, len(first))
        if number == len(first):
            first.append(i)
        same_as.append(number)
    return first, same_as
