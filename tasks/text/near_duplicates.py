"""Near-duplicates among many texts: every pair that is found is verified with `ratio`.

Up to about twenty thousand texts (or any number in small guarded groups) every pair is looked at through
bounds that never refuse a match: nothing is missed. Beyond that, pairs are looked at that share a band of
MinHash values; what that misses is measured in benchmarks/deduplicate.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.text.clusters import Indices, Matches, keep_best
from tasks.text.similarity import paired_ratios
from tasks.text.sketches import band_keys, sketch_texts

EXHAUSTIVE_PAIRS = 100_000_000
"""Pairs of like length and equal guard up to which all are looked at (about a second and a half)."""
VERIFYING_SECONDS = 10.0
"""CPU seconds of verifying up to which all pairs are looked at: the bounds refuse little where texts are
long, or the threshold low."""
SAMPLED = 4
BLOCK = 16
VERIFIED_AT_ONCE = 100_000
PAIRS_AT_ONCE = 2_000_000
BANDS = 64
CROWDED = 8
"""Partners a text and band, on average, from which large families are thinned out first."""
PARTNERS = 4096
PARTNERS_IF_CROWDED = 4
"""With how many others a text is paired at first; 16 times as many in each pass where that was too few."""


@dataclass(frozen=True)
class Thinned:
    """Which texts stay, the matches that were found on the way, and how many pairs were verified."""

    stays: NDArray[np.bool_]
    matches: Matches
    pairs_verified: int


def thin_out(texts: Sequence[str], guards: Indices, *, threshold: float, fixed: int = 0) -> Thinned:
    """Keep the best of texts with `ratio` ≥ `threshold`. The texts stand best first and are all different
    within a guard; only texts of one guard (a number each) are compared; the first `fixed` texts all stay.

    Pairs are looked for among those that stay until all have been seen and nobody has come back because
    the one that it had lost to is gone. So a large family is thinned out by a few of its pairs.
    """
    if not texts:
        return Thinned(np.ones(0, np.bool_), Matches.none(), 0)
    search = _Search(texts, guards, threshold, fixed)
    matches, stays = Matches.none(), np.ones(len(texts), np.bool_)
    partners = search.first_partners()
    while True:
        pairs, complete = search.pairs(np.flatnonzero(stays), partners)
        matches = Matches.all_of([matches, search.verify(pairs)])
        before, stays = stays, keep_best(len(texts), matches)
        if complete and not (stays & ~before).any():
            return Thinned(stays, matches, len(search.verified))
        partners *= 16


def values_per_band(count: int) -> int:
    """MinHash values that make one key: the more texts, the more a chance pair must have in common."""
    return 3 if count <= 250_000 else 4 if count <= 2_500_000 else 5


class _Search:
    """Looks for pairs among texts that stand best first. A pair is one number: better * n + worse."""

    def __init__(self, texts: Sequence[str], guards: Indices, threshold: float, fixed: int) -> None:
        self.texts, self.guards, self.threshold, self.fixed = texts, guards, threshold, fixed
        self.slack = 1 - threshold / 100
        self.sketches = sketch_texts(texts)
        self.verified: Indices = np.empty(0, np.int64)
        self.exhaustive = self._can_look_at_all()
        self.keys = np.empty((0, len(texts)), np.uint32)
        if not self.exhaustive:
            self.keys = band_keys(texts, guards, bands=BANDS, rows=values_per_band(len(texts)))

    def first_partners(self) -> int:
        """How many partners to begin with."""
        some = [_position_in_run(np.sort(keys)).mean() for keys in self.keys[:CROWDED]]
        return PARTNERS_IF_CROWDED if self.exhaustive or np.mean(some) > CROWDED else PARTNERS

    def verify(self, pairs: Indices) -> Matches:
        """The pairs that were not verified before and do match."""
        pairs = _missing_from(self.verified, pairs)
        self.verified = _union(self.verified, pairs)
        found = [Matches.none()]
        for start in range(0, len(pairs), VERIFIED_AT_ONCE):
            better, worse = np.divmod(pairs[start : start + VERIFIED_AT_ONCE], len(self.texts))
            similarity = paired_ratios(
                [self.texts[i] for i in better], [self.texts[i] for i in worse], cutoff=self.threshold
            )
            hit = similarity > 0
            found.append(Matches(better[hit], worse[hit], similarity[hit]))
        return Matches.all_of(found)

    def pairs(self, stay: Indices, partners: int) -> tuple[Indices, bool]:
        """Pairs that may match among those that stay, and whether these are all that can be found."""
        return self._in_windows(stay, partners) if self.exhaustive else self._in_bands(stay, partners)

    def _can_look_at_all(self) -> bool:
        """Whether looking at all pairs of like length, and verifying what the bounds let through, costs
        little. The share that they let through is estimated from every nth pair of a sorted order."""
        order = self._by_length(np.arange(len(self.texts)))
        partners = self._windows(order) - np.arange(len(order)) - 1
        pairs = int(partners.sum())
        if pairs > EXHAUSTIVE_PAIRS:
            return False
        left = np.repeat(np.arange(len(order)), np.minimum(partners, SAMPLED))
        nth = np.arange(len(left)) - np.searchsorted(left, left)
        right = left + 1 + nth * np.maximum(partners // SAMPLED, 1)[left]
        share = self.sketches.may_match(order[left], order[right], self.slack).mean() if len(left) else 0.0
        seconds = 1e-6 + 1e-11 * float((self.sketches.lengths.astype(np.float64) ** 2).mean())
        return bool(share * pairs * seconds <= VERIFYING_SECONDS)

    def _in_windows(self, stay: Indices, partners: int) -> tuple[Indices, bool]:
        found, count = [np.empty(0, np.int64)], 0
        for some in _gathered(self._of_like_length(stay)):
            found.append(self._possible(*some))
            count += len(found[-1])
            if count > partners * BLOCK * len(stay):
                return np.concatenate(found), False
        return np.concatenate(found), True

    def _in_bands(self, stay: Indices, partners: int) -> tuple[Indices, bool]:
        """Each text with the best `partners` of its band key at most."""
        found, complete = np.empty(0, np.int64), True
        for keys in self.keys[:, stay]:
            order = np.argsort(keys, kind="stable")
            position = _position_in_run(keys[order])
            complete &= bool((position <= partners).all())
            for some in _pairs_in_runs(stay[order], position, partners):
                found = _union(found, self._possible(*some))
        return found, complete

    def _of_like_length(self, stay: Indices) -> Iterator[tuple[Indices, Indices]]:
        """Pairs of equal guard whose lengths and bags allow a match (by the longest text of a block)."""
        order = self._by_length(stay)
        until = self._windows(order)
        lengths = self.sketches.lengths[order]
        bags = np.ascontiguousarray(self.sketches.bags[order].T)
        for start in range(0, len(order), BLOCK):
            stop = min(start + BLOCK, len(order))
            end = until[stop - 1]
            edits = np.zeros((stop - start, end - start), np.uint16)
            for word in bags:
                edits += np.bitwise_count(word[start:stop, None] ^ word[None, start:end])
            allowed = self.slack * (lengths[start:stop].max() + lengths[start:end]) + 1e-6
            row, column = np.nonzero(edits <= np.minimum(allowed, 65_535).astype(np.uint16))
            wanted = (column > row) & (column + start < until[start + row])
            yield order[start + row[wanted]], order[start + column[wanted]]

    def _by_length(self, some: Indices) -> Indices:
        return some[np.lexsort((self.sketches.lengths[some], self.guards[some]))]

    def _windows(self, order: Indices) -> Indices:
        """For each text of a sorted order the end of those behind it that have its guard and are short
        enough to match it."""
        lengths, guards = self.sketches.lengths[order], self.guards[order]
        longest = int(lengths.max(initial=0))
        reach = np.floor(lengths * (1 + self.slack) / max(1 - self.slack, 1e-9) + 1e-6)
        within = guards * (longest + 1) + np.minimum(reach, longest).astype(np.int64)
        return np.asarray(np.searchsorted(guards * (longest + 1) + lengths, within, side="right"))

    def _possible(self, left: Indices, right: Indices) -> Indices:
        """Those pairs that may match and are not of two fixed texts."""
        better, worse = np.minimum(left, right), np.maximum(left, right)
        new = worse >= self.fixed
        better, worse = better[new], worse[new]
        possible = self.sketches.may_match(better, worse, self.slack)
        return better[possible] * len(self.texts) + worse[possible]


def _position_in_run(keys: NDArray[np.uint32]) -> Indices:
    """How many equal keys stand before each one. The keys are sorted."""
    at = np.arange(len(keys))
    starts = np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]
    return at - np.maximum.accumulate(np.where(starts, at, 0))


def _pairs_in_runs(texts: Indices, position: Indices, most: int) -> Iterator[tuple[Indices, Indices]]:
    """Each text with the first `most` of its run before it, some millions of pairs at a time."""
    partners = np.minimum(position, most)
    total = np.cumsum(partners)
    start = 0
    while start < len(texts):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + PAIRS_AT_ONCE, side="right")))
        count = partners[start:stop]
        worse = np.repeat(np.arange(start, stop), count)
        nth = np.arange(len(worse)) - np.repeat(np.cumsum(count) - count, count)
        yield texts[worse - position[worse] + nth], texts[worse]
        start = stop


def _union(some: Indices, others: Indices) -> Indices:
    """All numbers of either, sorted, each once. (`np.unique` takes minutes over regular numbers.)"""
    both: Indices = np.sort(np.concatenate([some, others]))
    return np.asarray(both[np.concatenate([[True], both[1:] != both[:-1]])[: len(both)]])


def _missing_from(known: Indices, some: Indices) -> Indices:
    """Those of some numbers that are not among the known ones, which are sorted."""
    if not len(known):
        return some
    nearest = known[np.minimum(np.searchsorted(known, some), len(known) - 1)]
    return np.asarray(some[nearest != some])


def _gathered(pairs: Iterable[tuple[Indices, Indices]]) -> Iterator[tuple[Indices, Indices]]:
    """The same pairs in larger arrays."""
    held: list[tuple[Indices, Indices]] = []
    count = 0
    for pair in pairs:
        held.append(pair)
        count += len(pair[0])
        if count >= VERIFIED_AT_ONCE:
            yield np.concatenate([a for a, _ in held]), np.concatenate([b for _, b in held])
            held, count = [], 0
    if held:
        yield np.concatenate([a for a, _ in held]), np.concatenate([b for _, b in held])
