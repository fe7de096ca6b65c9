"""Which of many texts stay, when some pairs of them are the same thing said twice.

Texts are numbered best first. A text stays unless a better one that stays is its match: no two that stay
match each other, and each that goes has a match that stays. (Chains do not pull in what is not alike: of
A ~ B ~ C with A and C unlike, B goes and both A and C stay.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.near_duplicates.pairs import (
    Each,
    SearchRange,
    Sketching,
    TextFiles,
    even_spans,
    in_turn,
    key_file,
    look_in_bands,
    look_in_windows,
    make_array,
    position_in_run,
    read_array,
    read_sketches,
    spans,
    united,
    windows,
    write_keys,
    write_sketches,
)
from tasks.near_duplicates.sketches import scale_of, sketch_texts
from tasks.text.similarity import paired_ratios

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """Pairs of texts that match: `better` < `worse`, and how similar they are (0 to 100). No pair stands
    twice."""

    better: Indices
    worse: Indices
    similarity: NDArray[np.float64]

    @staticmethod
    def none() -> Matches:
        return Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    def __len__(self) -> int:
        return len(self.better)

    @staticmethod
    def all_of(parts: Sequence[Matches]) -> Matches:
        """Several sets of matches that share no pair as one."""
        return Matches(
            np.concatenate([part.better for part in parts]),
            np.concatenate([part.worse for part in parts]),
            np.concatenate([part.similarity for part in parts]),
        )

    def where(self, some: NDArray[Any] | slice) -> Matches:
        """Some of the pairs."""
        return Matches(self.better[some], self.worse[some], self.similarity[some])

    def write(self, path: Path) -> None:
        np.savez(path, **vars(self))

    @staticmethod
    def read(path: Path) -> Matches:
        with np.load(path) as arrays:
            return Matches(**arrays)


def keep_best(count: int, matches: Matches) -> NDArray[np.bool_]:
    """Which of `count` texts stay."""
    stays = [True] * count
    order = np.argsort(matches.worse, kind="stable")
    for better, worse in zip(matches.better[order].tolist(), matches.worse[order].tolist(), strict=True):
        if stays[better]:
            stays[worse] = False
    return np.array(stays, dtype=np.bool_)


def lost_to(stays: NDArray[np.bool_], matches: Matches, *, fixed: int = 0) -> Matches:
    """For each text that goes, its match that stays: one of the first `fixed` texts if there is any, of
    these the most similar, of equally similar ones the best."""
    valid = np.flatnonzero(stays[matches.better] & ~stays[matches.worse])
    better, worse, similarity = matches.better[valid], matches.worse[valid], matches.similarity[valid]
    order = np.lexsort((better, -similarity, better >= fixed, worse))
    _, first = np.unique(worse[order], return_index=True)
    chosen = order[first]
    return Matches(better[chosen], worse[chosen], similarity[chosen])


# Near-duplicates among many texts: every pair that is found is verified with `ratio`.
#
# Up to about twenty thousand texts (or any number in small guarded groups) every pair is looked at through
# bounds that never refuse a match: nothing is missed. Beyond that, pairs are looked at that share a band of
# MinHash values; what that misses is measured in benchmarks/deduplicate.py.
#
# The texts and all that is known of them are on disk, so that memory is bounded and any process may do a part
# of the work (`parts`). How the work is cut depends on the texts alone, not on who does it.


EXHAUSTIVE_PAIRS = 100_000_000
"""Pairs of like length and equal guard up to which all are looked at (about a second and a half)."""
VERIFYING_SECONDS = 10.0
"""CPU seconds of verifying up to which all pairs are looked at: the bounds refuse little where texts are
long, or the threshold low."""
SAMPLED = 4
SCALE_SAMPLE = 2_048
TEXTS_PER_PART = 250_000
WINDOW_PAIRS_PER_PART = 50_000_000
BANDS_PER_PART = 8
PAIRS_PER_PART = 1_000_000
VERIFIED_AT_ONCE = 100_000
BANDS = 64
CROWDED = 8
"""Partners a text and band, on average, from which large families are thinned out first."""
PARTNERS = 4096
PARTNERS_IF_CROWDED = 4
"""With how many others a text is paired at first; 16 times as many in each pass where that was too few."""
MARGIN = 3.0
"""How far below the threshold a pair still is a near miss."""
NEAR_MISSES = 100


@dataclass(frozen=True)
class Thinned:
    """Which texts stay, the matches that were found on the way, and how many pairs were verified."""

    stays: NDArray[np.bool_]
    matches: Matches
    by_meaning: Matches
    """Matches of the second search."""
    pairs_verified: int
    near_misses: Matches
    """The most similar pairs below the threshold of which both texts stay, as far as they were seen."""


class MatchSearch(Protocol):
    """Looks for matches among the texts that stay."""

    def __call__(self, stays: NDArray[np.bool_]) -> tuple[Matches, bool]:
        """Matches that were not found before, and whether these are all that can be found."""
        ...


class Then(Protocol):
    """Makes a second search, for what the first one leaves. Its arguments are those of `thin_out`."""

    def __call__(
        self, texts: TextFiles, guards: Indices, fixed: int, among: bool, each: Each, /
    ) -> MatchSearch: ...


def thin_out(
    texts: TextFiles,
    guards: Indices,
    *,
    threshold: float,
    fixed: int = 0,
    among: bool = True,
    each: Each = in_turn,
    then: Then | None = None,
) -> Thinned:
    """Keep the best of texts with `ratio` ≥ `threshold`. The texts stand best first and are all different
    within a guard; only texts of one guard (a number each) are compared; the first `fixed` texts all stay,
    and where not `among`, the others are compared with these alone.

    Pairs are looked for among those that stay until all have been seen and nobody has come back because
    the one that it had lost to is gone. So a large family is thinned out by a few of its pairs. `then` makes
    another search, for what the first one leaves.
    """
    stays = np.ones(len(texts), np.bool_)
    if not len(texts):
        return Thinned(stays, Matches.none(), Matches.none(), 0, Matches.none())
    np.save(texts.folder / "guards.npy", guards)
    near = _NearSearch(texts, guards, threshold, fixed, among, each)
    searches: list[MatchSearch] = [near, *([then(texts, guards, fixed, among, each)] if then else [])]
    found = [Matches.none(), Matches.none()]
    settled = False
    while not settled:
        for i, search in enumerate(searches):
            more, complete = search(stays)
            found[i] = Matches.all_of([found[i], more])
            before, stays = stays, keep_best(len(texts), Matches.all_of(found))
            settled = complete and not (stays & ~before).any()
            if not settled:
                break
    stay = stays[near.near_misses.better] & stays[near.near_misses.worse]
    return Thinned(stays, found[0], found[1], len(near.verified), near.near_misses.where(stay))


def values_per_band(count: int) -> int:
    """MinHash values that make one key: the more texts, the more a chance pair must have in common."""
    return 3 if count <= 250_000 else 4 if count <= 2_500_000 else 5


class _NearSearch:
    """Looks for pairs among texts that stand best first. A pair is one number: better * n + worse."""

    def __init__(
        self, texts: TextFiles, guards: Indices, threshold: float, fixed: int, among: bool, each: Each
    ) -> None:
        self.texts, self.guards, self.threshold = texts, guards, threshold
        self.fixed, self.among, self.each = fixed, among, each
        self.folder, self.count = texts.folder, len(texts)
        self.slack = 1 - threshold / 100
        self.verified: Indices = np.empty(0, np.int64)
        self.near_misses = Matches.none()
        self._sketch()
        self.exhaustive = self._can_look_at_all()
        if not self.exhaustive:
            self._make_keys()
        self.partners = self._first_partners()

    def __call__(self, stays: NDArray[np.bool_]) -> tuple[Matches, bool]:
        stay = np.flatnonzero(stays)
        pairs, complete = self._in_windows(stay) if self.exhaustive else self._in_bands(stay)
        self.partners *= 1 if complete else 16
        return self._verify(pairs), complete

    def _sketch(self) -> None:
        some = np.arange(0, self.count, max(1, self.count // SCALE_SAMPLE))
        scale = scale_of(self.texts.read(some))
        for name, like in vars(sketch_texts([""], scale)).items():
            make_array(self.folder / f"{name}.npy", (self.count, *like.shape[1:]), like.dtype)
        parts = [Sketching(self.folder, a, b, scale=scale) for a, b in spans(self.count, TEXTS_PER_PART)]
        self.each(write_sketches, parts)
        self.sketches = read_sketches(self.folder)

    def _make_keys(self) -> None:
        for band in range(BANDS):
            make_array(key_file(self.folder, band), (self.count,), np.uint32)
        rows = values_per_band(self.count)
        stretches = spans(self.count, TEXTS_PER_PART)
        self.each(write_keys, [Sketching(self.folder, a, b, bands=BANDS, rows=rows) for a, b in stretches])

    def _first_partners(self) -> int:
        if self.exhaustive:
            return PARTNERS_IF_CROWDED
        some = (np.sort(read_array(key_file(self.folder, band))) for band in range(CROWDED))
        crowd = np.mean([position_in_run(keys).mean() for keys in some])
        return PARTNERS_IF_CROWDED if crowd > CROWDED else PARTNERS

    def _can_look_at_all(self) -> bool:
        """Whether looking at all pairs of like length, and verifying what the bounds let through, costs
        little. The share that they let through is estimated from every nth pair of a sorted order."""
        order, until = self._by_length(np.arange(self.count))
        partners = until - np.arange(len(order)) - 1
        pairs = int(partners.sum())
        if pairs > EXHAUSTIVE_PAIRS:
            return False
        left = np.repeat(np.arange(len(order)), np.minimum(partners, SAMPLED))
        nth = np.arange(len(left)) - np.searchsorted(left, left)
        right = left + 1 + nth * np.maximum(partners // SAMPLED, 1)[left]
        share = self.sketches.may_match(order[left], order[right], self.slack).mean() if len(left) else 0.0
        seconds = 1e-6 + 1e-11 * float((self.sketches.lengths.astype(np.float64) ** 2).mean())
        return bool(share * pairs * seconds <= VERIFYING_SECONDS)

    def _by_length(self, stay: Indices) -> tuple[Indices, Indices]:
        """Those that stay by guard and length, and where the ones end that each could match."""
        order = stay[np.lexsort((self.sketches.lengths[stay], self.guards[stay]))]
        return order, windows(self.sketches.lengths[order], self.guards[order], self.slack)

    def _in_windows(self, stay: Indices) -> tuple[Indices, bool]:
        order, until = self._by_length(stay)
        np.save(self.folder / "order.npy", order)
        np.save(self.folder / "until.npy", until)
        totals = np.cumsum(until - np.arange(len(order)))
        return self._look(look_in_windows, even_spans(totals, WINDOW_PAIRS_PER_PART))

    def _in_bands(self, stay: Indices) -> tuple[Indices, bool]:
        np.save(self.folder / "stay.npy", stay)
        return self._look(look_in_bands, spans(BANDS, BANDS_PER_PART))

    def _look(
        self, job: Callable[[SearchRange], bool], stretches: Sequence[tuple[int, int]]
    ) -> tuple[Indices, bool]:
        how = (self.partners, self.slack, self.fixed, self.among)
        looks = [SearchRange(self.folder, a, b, *how) for a, b in stretches]
        complete = self.each(job, looks)
        found: Indices = np.empty(0, np.int64)
        for look in looks:
            found = united(found, np.load(look.found))
        return found, all(complete)

    def _verify(self, pairs: Indices) -> Matches:
        """The pairs that were not verified before and do match."""
        pairs = _missing_from(self.verified, pairs)
        self.verified = united(self.verified, pairs)
        np.save(self.folder / "pairs.npy", pairs)
        parts = [Verifying(self.folder, a, b, self.threshold) for a, b in spans(len(pairs), PAIRS_PER_PART)]
        self.each(verify_pairs, parts)
        found = Matches.all_of([Matches.none(), *(Matches.read(part.found) for part in parts)])
        self.near_misses = Matches.all_of([self.near_misses, found.where(found.similarity < self.threshold)])
        return found.where(found.similarity >= self.threshold)


@dataclass(frozen=True)
class Verifying:
    """Pairs `start` to `stop` of `pairs.npy`, to be verified."""

    folder: Path
    start: int
    stop: int
    threshold: float

    @property
    def found(self) -> Path:
        """Where the matches go, and the nearest misses."""
        return self.folder / f"verified-{self.start:012}.npz"


def verify_pairs(part: Verifying) -> None:
    """Compute the `ratio` of every pair; keep those that match, and the nearest misses."""
    texts = TextFiles(part.folder)
    count = len(texts)
    pairs = read_array(part.folder / "pairs.npy")[part.start : part.stop]
    found = [Matches.none()]
    for start in range(0, len(pairs), VERIFIED_AT_ONCE):
        better, worse = np.divmod(pairs[start : start + VERIFIED_AT_ONCE], count)
        cutoff = max(0.0, part.threshold - MARGIN)
        similarity = paired_ratios(texts.read(better), texts.read(worse), cutoff=cutoff)
        hit = similarity > 0
        found.append(Matches(better[hit], worse[hit], similarity[hit]))
    all_found = Matches.all_of(found)
    short = np.flatnonzero(all_found.similarity < part.threshold)
    nearest = short[np.argsort(-all_found.similarity[short], kind="stable")[:NEAR_MISSES]]
    hits = np.flatnonzero(all_found.similarity >= part.threshold)
    all_found.where(np.concatenate([hits, nearest])).write(part.found)


def _missing_from(known: Indices, some: Indices) -> Indices:
    """Those of some numbers that are not among the known ones, which are sorted."""
    if not len(known):
        return some
    nearest = known[np.minimum(np.searchsorted(known, some), len(known) - 1)]
    return np.asarray(some[nearest != some])
