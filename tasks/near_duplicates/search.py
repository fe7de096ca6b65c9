"""Select texts so that no two of them are near-duplicates.

Texts are numbered best first. A text is kept unless it matches a better text that is kept. So no two kept
texts match, and every dropped text has a match that is kept. Matches are not transitive: if A ~ B and B ~ C,
but A and C differ, B is dropped and both A and C are kept.

Every pair is verified with `ratio`. Up to about twenty thousand texts, or any number in small guarded groups,
all pairs are screened by bounds that never reject a match, so recall is 1. Beyond that, only pairs that share
a band of MinHash values are verified. benchmarks/deduplicate.py measures the recall.

All arrays are on disk (`tasks.near_duplicates.parts`), so memory is bounded and any process can run a part.
The division into parts depends on the texts only, so the result does not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.near_duplicates.pairs import (
    SearchPart,
    SketchPart,
    band_key_file,
    position_in_run,
    read_sketches,
    search_bands,
    search_windows,
    union_sorted,
    window_ends,
    write_band_keys,
    write_sketches,
)
from tasks.near_duplicates.parts import (
    Indices,
    PartRunner,
    TextFiles,
    create_array,
    read_array,
    run_sequentially,
    split_by_cost,
    split_range,
)
from tasks.near_duplicates.sketches import fit_scale, sketch_texts
from tasks.text.similarity import paired_ratios

EXHAUSTIVE_PAIRS = 100_000_000
"""Maximum number of pairs of similar length and equal guard for an exhaustive search (about 1.5 seconds)."""
MAX_VERIFYING_SECONDS = 10.0
"""Maximum estimated CPU time of verification for an exhaustive search. The bounds reject few pairs if the
texts are long or the threshold is low."""
SAMPLED_PARTNERS = 4
"""Pairs per text that estimate the share of pairs to verify."""
SCALE_SAMPLE = 2_048
"""Number of texts from which the scale of the sketches is fitted."""
TEXTS_PER_PART = 250_000
WINDOW_PAIRS_PER_PART = 50_000_000
BANDS_PER_PART = 8
PAIRS_PER_PART = 1_000_000
VERIFIED_AT_ONCE = 100_000
BANDS = 64
CROWDED = 8
"""Mean number of partners per text and band above which the first pass is limited to `INITIAL_PARTNERS`."""
MAX_PARTNERS = 4096
INITIAL_PARTNERS = 4
"""Partners per text in the first pass. Each pass that does not cover all pairs allows 16 times as many."""
MARGIN = 3.0
"""Maximum distance of a near miss below the threshold."""
NEAR_MISSES = 100
"""Number of near misses that each part returns."""


@dataclass(frozen=True)
class Matches:
    """Distinct pairs of matching texts. All arrays have shape (n,)."""

    better: Indices
    worse: Indices
    """Greater than `better`."""
    similarity: NDArray[np.float64]
    """From 0 to 100."""

    @staticmethod
    def empty() -> Matches:
        """Return no matches."""
        return Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    @staticmethod
    def concat(parts: Sequence[Matches]) -> Matches:
        """Concatenate matches that have no pair in common."""
        return Matches(
            np.concatenate([part.better for part in parts]),
            np.concatenate([part.worse for part in parts]),
            np.concatenate([part.similarity for part in parts]),
        )

    @staticmethod
    def read(path: Path) -> Matches:
        """Read matches from an `.npz` file."""
        with np.load(path) as arrays:
            return Matches(**arrays)

    def write(self, path: Path) -> None:
        """Write the matches to an `.npz` file."""
        np.savez(path, **vars(self))

    def select(self, pairs: NDArray[Any] | slice) -> Matches:
        """Return the pairs at these indices, or under this mask or slice."""
        return Matches(self.better[pairs], self.worse[pairs], self.similarity[pairs])

    def __len__(self) -> int:
        return len(self.better)


@dataclass(frozen=True)
class GreedySelection:
    """The kept texts and the pairs that were compared."""

    kept: NDArray[np.bool_]
    """Shape (texts,)."""
    matches: Matches
    semantic_matches: Matches
    """Matches of the second search."""
    pairs_verified: int
    near_misses: Matches
    """The most similar verified pairs below the threshold whose texts are both kept."""


class MatchSearch(Protocol):
    """Searches for matches among the kept texts."""

    def __call__(self, kept: NDArray[np.bool_]) -> tuple[Matches, bool]:
        """Return new matches, and whether no more can be found."""
        ...


class SearchFactory(Protocol):
    """Creates a second search. The arguments are those of `select_distinct`."""

    def __call__(
        self, texts: TextFiles, guards: Indices, fixed: int, mutual: bool, run_parts: PartRunner, /
    ) -> MatchSearch:
        """Return a search among these texts."""
        ...


def select_distinct(
    texts: TextFiles,
    guards: Indices,
    *,
    threshold: float,
    fixed: int = 0,
    mutual: bool = True,
    run_parts: PartRunner = run_sequentially,
    second_search: SearchFactory | None = None,
) -> GreedySelection:
    """Keep the best text of every set of matching texts.

    The search is repeated among the kept texts until all pairs were considered and no text has returned
    because its winner was dropped. So a large family of duplicates is reduced by a few of its pairs.

    Args:
        texts: Best first, all different within a guard.
        guards: Shape (texts,). Only texts with equal guards are compared.
        threshold: Minimum `ratio` of a match, from 0 to 100.
        fixed: Number of texts at the start that are always kept.
        mutual: Whether the other texts are compared with each other, and not only with the fixed ones.
        run_parts: Runs the parts of each job.
        second_search: Creates a second search for matches among the texts that the first one leaves.
    """
    kept = np.ones(len(texts), np.bool_)
    if not len(texts):
        return GreedySelection(kept, Matches.empty(), Matches.empty(), 0, Matches.empty())
    np.save(texts.folder / "guards.npy", guards)
    by_ratio = _RatioSearch(texts, guards, threshold, fixed, mutual, run_parts)
    searches: list[MatchSearch] = [by_ratio]
    if second_search:
        searches.append(second_search(texts, guards, fixed, mutual, run_parts))
    found = [Matches.empty(), Matches.empty()]
    done = False
    while not done:
        for i, search in enumerate(searches):
            new, complete = search(kept)
            found[i] = Matches.concat([found[i], new])
            before, kept = kept, select_greedily(len(texts), Matches.concat(found))
            done = complete and not (kept & ~before).any()
            if not done:
                break
    misses = by_ratio.near_misses
    both_kept = kept[misses.better] & kept[misses.worse]
    return GreedySelection(kept, found[0], found[1], len(by_ratio.verified), misses.select(both_kept))


def select_greedily(count: int, matches: Matches) -> NDArray[np.bool_]:
    """Return which of `count` texts are kept."""
    kept = [True] * count
    order = np.argsort(matches.worse, kind="stable")
    for better, worse in zip(matches.better[order].tolist(), matches.worse[order].tolist(), strict=True):
        if kept[better]:
            kept[worse] = False
    return np.array(kept, dtype=np.bool_)


def assign_winners(kept: NDArray[np.bool_], matches: Matches, *, fixed: int = 0) -> Matches:
    """Return one match per dropped text: the kept text that it lost to.

    The first `fixed` texts take precedence, then the most similar, then the best.
    """
    valid = np.flatnonzero(kept[matches.better] & ~kept[matches.worse])
    better, worse, similarity = matches.better[valid], matches.worse[valid], matches.similarity[valid]
    order = np.lexsort((better, -similarity, better >= fixed, worse))
    _, first = np.unique(worse[order], return_index=True)
    chosen = order[first]
    return Matches(better[chosen], worse[chosen], similarity[chosen])


def values_per_band(count: int) -> int:
    """Return the MinHash values per band key. More texts need longer keys to avoid chance collisions."""
    return 3 if count <= 250_000 else 4 if count <= 2_500_000 else 5


class _RatioSearch:
    """Searches for pairs by `ratio`. A pair is encoded as one number: better * n + worse."""

    def __init__(
        self,
        texts: TextFiles,
        guards: Indices,
        threshold: float,
        fixed: int,
        mutual: bool,
        run_parts: PartRunner,
    ) -> None:
        self.texts, self.guards, self.threshold = texts, guards, threshold
        self.fixed, self.mutual, self.run_parts = fixed, mutual, run_parts
        self.folder, self.count = texts.folder, len(texts)
        self.slack = 1 - threshold / 100
        self.verified: Indices = np.empty(0, np.int64)
        self.near_misses = Matches.empty()
        self._sketch()
        self.exhaustive = self._can_be_exhaustive()
        if not self.exhaustive:
            self._write_keys()
        self.partners = self._initial_partners()

    def __call__(self, kept: NDArray[np.bool_]) -> tuple[Matches, bool]:
        numbers = np.flatnonzero(kept)
        pairs, complete = self._search_windows(numbers) if self.exhaustive else self._search_bands(numbers)
        self.partners *= 1 if complete else 16
        return self._verify(pairs), complete

    def _sketch(self) -> None:
        sample = np.arange(0, self.count, max(1, self.count // SCALE_SAMPLE))
        scale = fit_scale(self.texts.read(sample))
        for name, like in vars(sketch_texts([""], scale)).items():
            create_array(self.folder / f"{name}.npy", (self.count, *like.shape[1:]), like.dtype)
        ranges = split_range(self.count, TEXTS_PER_PART)
        self.run_parts(write_sketches, [SketchPart(self.folder, a, b, scale=scale) for a, b in ranges])
        self.sketches = read_sketches(self.folder)

    def _write_keys(self) -> None:
        for band in range(BANDS):
            create_array(band_key_file(self.folder, band), (self.count,), np.uint32)
        rows = values_per_band(self.count)
        ranges = split_range(self.count, TEXTS_PER_PART)
        parts = [SketchPart(self.folder, a, b, bands=BANDS, rows=rows) for a, b in ranges]
        self.run_parts(write_band_keys, parts)

    def _initial_partners(self) -> int:
        if self.exhaustive:
            return INITIAL_PARTNERS
        sorted_keys = (np.sort(read_array(band_key_file(self.folder, band))) for band in range(CROWDED))
        crowding = np.mean([position_in_run(keys).mean() for keys in sorted_keys])
        return INITIAL_PARTNERS if crowding > CROWDED else MAX_PARTNERS

    def _can_be_exhaustive(self) -> bool:
        """Return whether screening all pairs of similar length and verifying the rest is cheap.

        The share of pairs to verify is estimated from a regular sample of the pairs sorted by length.
        """
        order, until = self._sort_by_length(np.arange(self.count))
        partners = until - np.arange(len(order)) - 1
        pairs = int(partners.sum())
        if pairs > EXHAUSTIVE_PAIRS:
            return False
        left = np.repeat(np.arange(len(order)), np.minimum(partners, SAMPLED_PARTNERS))
        nth = np.arange(len(left)) - np.searchsorted(left, left)
        right = left + 1 + nth * np.maximum(partners // SAMPLED_PARTNERS, 1)[left]
        share = self.sketches.may_match(order[left], order[right], self.slack).mean() if len(left) else 0.0
        # `ratio` takes about 1 µs per pair plus 10 ps per pair of characters.
        seconds = 1e-6 + 1e-11 * float((self.sketches.lengths.astype(np.float64) ** 2).mean())
        return bool(share * pairs * seconds <= MAX_VERIFYING_SECONDS)

    def _sort_by_length(self, numbers: Indices) -> tuple[Indices, Indices]:
        """Sort texts by guard and length, and return for each the end of its window of possible matches."""
        order = numbers[np.lexsort((self.sketches.lengths[numbers], self.guards[numbers]))]
        return order, window_ends(self.sketches.lengths[order], self.guards[order], self.slack)

    def _search_windows(self, numbers: Indices) -> tuple[Indices, bool]:
        order, until = self._sort_by_length(numbers)
        np.save(self.folder / "order.npy", order)
        np.save(self.folder / "until.npy", until)
        totals = np.cumsum(until - np.arange(len(order)))
        return self._search(search_windows, split_by_cost(totals, WINDOW_PAIRS_PER_PART))

    def _search_bands(self, numbers: Indices) -> tuple[Indices, bool]:
        np.save(self.folder / "kept.npy", numbers)
        return self._search(search_bands, split_range(BANDS, BANDS_PER_PART))

    def _search(
        self, job: Callable[[SearchPart], bool], ranges: Sequence[tuple[int, int]]
    ) -> tuple[Indices, bool]:
        options = (self.partners, self.slack, self.fixed, self.mutual)
        parts = [SearchPart(self.folder, a, b, *options) for a, b in ranges]
        complete = self.run_parts(job, parts)
        pairs: Indices = np.empty(0, np.int64)
        for part in parts:
            pairs = union_sorted(pairs, np.load(part.output))
        return pairs, all(complete)

    def _verify(self, pairs: Indices) -> Matches:
        """Return the pairs that match and were not verified before."""
        pairs = _difference_sorted(pairs, self.verified)
        self.verified = union_sorted(self.verified, pairs)
        np.save(self.folder / "pairs.npy", pairs)
        ranges = split_range(len(pairs), PAIRS_PER_PART)
        parts = [VerifyPart(self.folder, a, b, self.threshold) for a, b in ranges]
        self.run_parts(verify_pairs, parts)
        found = Matches.concat([Matches.empty(), *(Matches.read(part.output) for part in parts)])
        below = found.select(found.similarity < self.threshold)
        self.near_misses = Matches.concat([self.near_misses, below])
        return found.select(found.similarity >= self.threshold)


@dataclass(frozen=True)
class VerifyPart:
    """Pairs `start` to `stop` of `pairs.npy`, to be verified."""

    folder: Path
    start: int
    stop: int
    threshold: float

    @property
    def output(self) -> Path:
        """File of the matches and the near misses."""
        return self.folder / f"verified-{self.start:012}.npz"


def verify_pairs(part: VerifyPart) -> None:
    """Compute the `ratio` of every pair, and write the matches and the near misses."""
    texts = TextFiles(part.folder)
    count = len(texts)
    pairs = read_array(part.folder / "pairs.npy")[part.start : part.stop]
    cutoff = max(0.0, part.threshold - MARGIN)
    chunks = [Matches.empty()]
    for start in range(0, len(pairs), VERIFIED_AT_ONCE):
        better, worse = np.divmod(pairs[start : start + VERIFIED_AT_ONCE], count)
        similarity = paired_ratios(texts.read(better), texts.read(worse), cutoff=cutoff)
        hit = similarity > 0
        chunks.append(Matches(better[hit], worse[hit], similarity[hit]))
    found = Matches.concat(chunks)
    below = np.flatnonzero(found.similarity < part.threshold)
    nearest = below[np.argsort(-found.similarity[below], kind="stable")[:NEAR_MISSES]]
    matching = np.flatnonzero(found.similarity >= part.threshold)
    found.select(np.concatenate([matching, nearest])).write(part.output)


def _difference_sorted(numbers: Indices, known: Indices) -> Indices:
    """Return the numbers that are not in `known`, which is sorted."""
    if not len(known):
        return numbers
    nearest = known[np.minimum(np.searchsorted(known, numbers), len(known) - 1)]
    return np.asarray(numbers[nearest != numbers])
