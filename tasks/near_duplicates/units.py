"""Find duplicates among units. A unit is one text, or a group of texts that is kept or dropped together.

Two units are duplicates if their guards are equal (the same slot columns, the same attribute, …) and their
normalised texts are equal, have a high `ratio`, or, with a second search, have similar embeddings. The best
unit of each cluster is kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tasks.near_duplicates.parts import Indices, TextFiles, work_folder
from tasks.near_duplicates.search import Matches, SearchFactory, assign_winners, select_distinct
from tasks.run.parts import PartRunner, run_sequentially
from tasks.text.normalize import normalise_for_match

Kind = Literal["exact_duplicate", "near_duplicate", "semantic_duplicate"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Unit:
    """A text, or a group of texts, that is kept or dropped as a whole."""

    id: str
    text: str
    guard: Hashable = ()
    """Units with different guards are never duplicates of each other."""
    order: tuple[Any, ...] = ()
    """Rank of the unit. Smaller is better. Ties are broken by id, never by input order."""
    rows: tuple[int, ...] = ()
    """Row numbers in the input."""
    source: str | None = None
    """Name of the earlier file or release that contains the unit. Such a unit is always kept."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A dropped unit."""

    unit: Unit
    because_of: Unit
    """The kept unit that it lost to."""
    similarity: float
    """From 0 to 100."""
    kind: Kind

    @property
    def reason(self) -> str:
        """The reason code of the drop."""
        return duplicate_reason(self.kind, self.because_of.source)


def duplicate_reason(kind: Kind, source: str | None) -> str:
    """Return the reason code of a unit that lost to a unit of `source`."""
    return kind if source is None else f"overlaps:{source}"


@dataclass(frozen=True, slots=True)
class NearMissPair:
    """Two kept units with a similarity just below the threshold."""

    unit: Unit
    other: Unit
    similarity: float


@dataclass(frozen=True)
class Deduplication:
    """The result of a deduplication."""

    kept: tuple[Unit, ...]
    """Best first."""
    dropped: tuple[Duplicate, ...]
    """Best first."""
    pairs_verified: int
    """Number of computed ratios."""
    near_misses: tuple[NearMissPair, ...]
    """Most similar first."""

    @property
    def duplicate_ratio(self) -> float:
        """Share of the units that were dropped. 0 if there were no units."""
        return len(self.dropped) / max(1, len(self.kept) + len(self.dropped))

    @cached_property
    def clusters(self) -> tuple[tuple[Unit, ...], ...]:
        """Each unit that has duplicates, followed by them."""
        members: dict[Unit, list[Unit]] = {}
        for duplicate in self.dropped:
            members.setdefault(duplicate.because_of, []).append(duplicate.unit)
        return tuple((best, *duplicates) for best, duplicates in members.items())

    def least_similar(self, n: int = 10) -> tuple[Duplicate, ...]:
        """Return the `n` drops with the lowest similarity."""
        return tuple(sorted(self.dropped, key=lambda d: (d.similarity, d.unit.id))[:n])


def find_duplicates(
    units: Sequence[Unit],
    *,
    threshold: float = 90.0,
    earlier: Iterable[Unit] = (),
    mutual: bool = True,
    run_parts: PartRunner = run_sequentially,
    work_dir: Path | None = None,
    second_search: SearchFactory | None = None,
) -> Deduplication:
    """Keep the best unit of every cluster, and no unit that matches an earlier one.

    Args:
        units: In any order.
        threshold: Minimum `ratio` of near-duplicates, from 0 to 100.
        earlier: Units of earlier files or releases, which are always kept.
        mutual: Whether units are compared with each other, and not only with earlier ones. Units with equal
        normalised
            texts are duplicates in either case.
        run_parts: Runs the parts of each job.
        work_dir: Where to create the temporary folder of the parts.
        second_search: Creates a second search for matches among the units that the first one leaves.
    """
    known = sorted(earlier, key=lambda u: (u.source or "", u.id, u.text))
    ranked = [*known, *sorted(units, key=lambda u: (u.order, u.id, u.text))]
    texts = [normalise_for_match(unit.text) for unit in ranked]
    guards = _number_guards(unit.guard for unit in ranked)
    first, text_of = _find_distinct(texts, guards)
    with work_folder("duplicates", work_dir) as folder:
        files = TextFiles(folder)
        files.write(texts[i] for i in first)
        outcomes = resolve_duplicates(
            files,
            np.array([guards[i] for i in first], dtype=np.int64),
            np.array(first, np.int64),
            np.array(text_of, np.int64),
            threshold=threshold,
            earlier=len(known),
            mutual=mutual,
            run_parts=run_parts,
            second_search=second_search,
        )
    return _to_deduplication(ranked, outcomes)


def _to_deduplication(ranked: Sequence[Unit], outcomes: UnitOutcomes) -> Deduplication:
    rows = zip(outcomes.winner.tolist(), outcomes.similarity.tolist(), outcomes.kind.tolist(), strict=True)
    verdicts = list(enumerate(rows))[outcomes.earlier :]
    misses = outcomes.near_misses
    near = zip(misses.better.tolist(), misses.worse.tolist(), misses.similarity.tolist(), strict=True)
    return Deduplication(
        kept=tuple(ranked[i] for i, (best, _, _) in verdicts if best == i),
        dropped=tuple(
            Duplicate(ranked[i], ranked[best], similarity, KINDS[kind])
            for i, (best, similarity, kind) in verdicts
            if best != i
        ),
        pairs_verified=outcomes.pairs_verified,
        near_misses=tuple(NearMissPair(ranked[a], ranked[b], similarity) for a, b, similarity in near),
    )


@dataclass(frozen=True)
class UnitOutcomes:
    """The outcome of every unit. Units are numbered best first, earlier ones before all others."""

    winner: Indices
    """Shape (n,). The unit that each unit lost to, or its own number if it is kept."""
    similarity: NDArray[np.float64]
    """Shape (n,). Similarity to the winner, from 0 to 100."""
    kind: NDArray[np.int8]
    """Shape (n,). Reason each unit is dropped (index into `KINDS`)."""
    pairs_verified: int
    near_misses: Matches
    """Most similar first."""
    earlier: int = 0
    """Number of earlier units."""

    @property
    def dropped(self) -> Indices:
        """Numbers of the dropped units."""
        lost = np.flatnonzero(self.winner != np.arange(len(self.winner)))
        return lost[lost >= self.earlier]

    def least_similar(self, n: int) -> Indices:
        """Return the `n` dropped units that are least similar to their winners."""
        return self.dropped[np.argsort(self.similarity[self.dropped], kind="stable")[:n]]


def resolve_duplicates(
    texts: TextFiles,
    guards: Indices,
    first: Indices,
    text_of: Indices,
    *,
    threshold: float,
    earlier: int = 0,
    mutual: bool = True,
    run_parts: PartRunner = run_sequentially,
    second_search: SearchFactory | None = None,
) -> UnitOutcomes:
    """Choose which units to keep. Units are sorted best first; the first `earlier` are always kept.

    Args:
        texts: The distinct normalised texts.
        guards: Shape (texts,). Guard of each distinct text.
        first: Shape (texts,). First unit with each distinct text.
        text_of: Shape (units,). Distinct text of each unit.
        threshold: Minimum `ratio` of near-duplicates, from 0 to 100.
        earlier: Number of earlier units.
        mutual: See `find_duplicates`.
        run_parts: See `find_duplicates`.
        second_search: See `find_duplicates`.
    """
    fixed = int(np.searchsorted(first, earlier))
    selection = select_distinct(
        texts,
        guards,
        threshold=threshold,
        fixed=fixed,
        mutual=mutual,
        run_parts=run_parts,
        second_search=second_search,
    )
    best = np.arange(len(texts))
    similarity, kind = np.full(len(texts), 100.0), np.zeros(len(texts), np.int8)
    for number, matches in ((2, selection.semantic_matches), (1, selection.matches)):
        lost = assign_winners(selection.kept, matches, fixed=fixed)
        best[lost.worse], similarity[lost.worse], kind[lost.worse] = lost.better, lost.similarity, number
    misses = selection.near_misses
    nearest = misses.select(np.lexsort((misses.worse, misses.better, -misses.similarity)))
    return UnitOutcomes(
        winner=first[best[text_of]],
        similarity=similarity[text_of],
        kind=kind[text_of],
        pairs_verified=selection.pairs_verified,
        near_misses=Matches(first[nearest.better], first[nearest.worse], nearest.similarity),
        earlier=earlier,
    )


def _number_guards(guards: Iterable[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(guard, len(numbers)) for guard in guards]


def _find_distinct(texts: Sequence[str], guards: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the first index of each distinct text within its guard, and the distinct text of every text."""
    seen: dict[tuple[int, str], int] = {}
    first: list[int] = []
    text_of = []
    for i, key in enumerate(zip(guards, texts, strict=True)):
        number = seen.setdefault(key, len(first))
        if number == len(first):
            first.append(i)
        text_of.append(number)
    return first, text_of
