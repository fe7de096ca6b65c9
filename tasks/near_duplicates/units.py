"""Duplicates among units: a unit is one text, or a whole group of texts that is kept or dropped as one.

Two units are duplicates where their guards are equal (same slot columns, same attribute, …) and their
normalised texts are the same, or alike by rapidfuzz's `ratio`, or (where that is asked for) their embeddings
are. The best unit of a cluster stays.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tasks.near_duplicates.pairs import Each, TextFiles, in_turn
from tasks.near_duplicates.search import Indices, Matches, Then, lost_to, thin_out
from tasks.text.normalize import normalise_for_match

Kind = Literal["exact_duplicate", "near_duplicate", "semantic_duplicate"]
KINDS: tuple[Kind, ...] = get_args(Kind)


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


@dataclass(frozen=True)
class UnitOutcomes:
    """What became of units that stand best first, by their numbers; earlier ones before all others."""

    winner: Indices
    """What each unit lost to, shape (n,); itself where it stays."""
    similarity: NDArray[np.float64]
    """How similar it is to that one, 0 to 100."""
    kind: NDArray[np.int8]
    """As what it goes, by its place in KINDS."""
    pairs_verified: int
    near_misses: Matches
    """Pairs just below the threshold of which both stay, most similar first."""
    earlier: int = 0

    @property
    def lost(self) -> Indices:
        """The units that go; the earlier ones all stay."""
        lost = np.flatnonzero(self.winner != np.arange(len(self.winner)))
        return lost[lost >= self.earlier]

    def least_similar(self, n: int) -> Indices:
        """Of the units that go, those least similar to what they lost to."""
        return self.lost[np.argsort(self.similarity[self.lost], kind="stable")[:n]]


def settle(
    texts: TextFiles,
    guards: Indices,
    first: Indices,
    text_of: Indices,
    *,
    threshold: float,
    earlier: int = 0,
    among: bool = True,
    each: Each = in_turn,
    then: Then | None = None,
) -> UnitOutcomes:
    """Which of some units stay, best first; the first `earlier` all do. `texts` and `guards` are those of the
    distinct texts, `first` the unit that each of these stands in first, `text_of` the distinct text of every
    unit."""
    fixed = int(np.searchsorted(first, earlier))
    thinned = thin_out(texts, guards, threshold=threshold, fixed=fixed, among=among, each=each, then=then)
    best = np.arange(len(texts))
    similarity, kind = np.full(len(texts), 100.0), np.zeros(len(texts), np.int8)
    for number, matches in ((2, thinned.by_meaning), (1, thinned.matches)):
        lost = lost_to(thinned.stays, matches, fixed=fixed)
        best[lost.worse], similarity[lost.worse], kind[lost.worse] = lost.better, lost.similarity, number
    misses = thinned.near_misses
    nearest = misses.where(np.lexsort((misses.worse, misses.better, -misses.similarity)))
    return UnitOutcomes(
        winner=first[best[text_of]],
        similarity=similarity[text_of],
        kind=kind[text_of],
        pairs_verified=thinned.pairs_verified,
        near_misses=Matches(first[nearest.better], first[nearest.worse], nearest.similarity),
        earlier=earlier,
    )


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A unit that goes: what it lost to, and how similar they are (0 to 100)."""

    unit: Unit
    because_of: Unit
    similarity: float
    kind: Kind

    @property
    def reason(self) -> str:
        return reason_of(self.kind, self.because_of.source)


def reason_of(kind: Kind, source: str | None) -> str:
    """Why a unit goes that lost to one of that source."""
    return kind if source is None else f"overlaps:{source}"


@dataclass(frozen=True, slots=True)
class KeptPair:
    """Two units that both stay, and nearly did not."""

    unit: Unit
    other: Unit
    similarity: float


@dataclass(frozen=True)
class Deduplication:
    """What stays, what goes and why; best first."""

    kept: tuple[Unit, ...]
    dropped: tuple[Duplicate, ...]
    pairs_verified: int
    """Pairs whose `ratio` was computed."""
    near_misses: tuple[KeptPair, ...]
    """Pairs just below the threshold, most similar first."""

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

    def least_similar(self, n: int = 10) -> tuple[Duplicate, ...]:
        """The drops to look at first."""
        return tuple(sorted(self.dropped, key=lambda d: (d.similarity, d.unit.id))[:n])


def find_duplicates(
    units: Sequence[Unit],
    *,
    threshold: float = 90.0,
    earlier: Iterable[Unit] = (),
    among: bool = True,
    each: Each = in_turn,
    room: Path | None = None,
    then: Then | None = None,
) -> Deduplication:
    """Keep the best of every cluster of units, and none that matches an earlier one. Where not `among`, units
    are near-duplicates of earlier ones only. `each` does the parts of the work, with files in a folder that
    is made in `room` and removed again."""
    known = sorted(earlier, key=lambda u: (u.source or "", u.id, u.text))
    ranked = [*known, *sorted(units, key=lambda u: (u.order, u.id, u.text))]
    texts = [normalise_for_match(unit.text) for unit in ranked]
    guards = _numbers(unit.guard for unit in ranked)
    first, text_of = _distinct(texts, guards)
    with TemporaryDirectory(prefix=".duplicates-", dir=room) as folder:
        files = TextFiles(Path(folder))
        files.write(texts[i] for i in first)
        settled = settle(
            files,
            np.array([guards[i] for i in first], dtype=np.int64),
            np.array(first, np.int64),
            np.array(text_of, np.int64),
            threshold=threshold,
            earlier=len(known),
            among=among,
            each=each,
            then=then,
        )
    rows = zip(settled.winner.tolist(), settled.similarity.tolist(), settled.kind.tolist(), strict=True)
    verdicts = list(enumerate(rows))[len(known) :]
    misses = settled.near_misses
    near = zip(misses.better.tolist(), misses.worse.tolist(), misses.similarity.tolist(), strict=True)
    return Deduplication(
        kept=tuple(ranked[i] for i, (best, _, _) in verdicts if best == i),
        dropped=tuple(
            Duplicate(ranked[i], ranked[best], similarity, KINDS[kind])
            for i, (best, similarity, kind) in verdicts
            if best != i
        ),
        pairs_verified=settled.pairs_verified,
        near_misses=tuple(KeptPair(ranked[a], ranked[b], similarity) for a, b, similarity in near),
    )


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
