"""Select texts so that no two of them are near-duplicates.

Texts are numbered best first. A text is kept unless it matches a better text that is kept. So no two kept
texts match, and every dropped text has a match that is kept. Matches are not transitive: if A ~ B and B ~ C,
but A and C differ, B is dropped and both A and C are kept.

Every pair is verified with `ratio`. Up to about twenty thousand texts, or any number in small guarded groups,
all pairs are screened by bounds that never reject a match, so recall is 1. Beyond that, or if the bounds
reject too few pairs, only pairs that share a band of MinHash values are verified. Texts that share a frame
have most bands in common. Then a few of these pairs are verified, and the search continues with bands of rare
grams. If these are crowded too, all pairs are compared. benchmarks/deduplicate.py measures cost and recall.

All arrays are on disk (`tasks.near_duplicates.parts`), so memory is bounded and any process can run a part.
The division into parts depends on the texts only, so the result does not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.near_duplicates.pairs import (
    SearchCoverage,
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
    write_gram_counts,
    write_sketches,
)
from tasks.near_duplicates.parts import (
    Indices,
    TextFiles,
    create_array,
    read_array,
    split_by_cost,
    split_range,
)
from tasks.near_duplicates.sketches import fit_scale, gram_counters, gram_weights, sketch_texts
from tasks.run.parts import PartRunner, run_sequentially
from tasks.text.similarity import paired_ratios, ratio_matrix

EXHAUSTIVE_PAIRS = 100_000_000
"""Maximum number of pairs of similar length and equal guard for an exhaustive search (about 1.5 seconds)."""
MAX_SECONDS = 0.2
"""Maximum estimated CPU time of verification for an exhaustive search. The bounds reject few pairs if the
texts share a frame, are long, or the threshold is low."""
MAX_VERIFYING_SECONDS = 10.0
"""The same below `BANDED_THRESHOLD`."""
BANDED_THRESHOLD = 85.0
"""Threshold from which on bands miss very few matches."""
SCREENING_SECONDS = 1.5e-8
"""CPU seconds per pair that is screened by its bag."""
PAIRING_SECONDS = 4e-7
"""CPU seconds to write and read a candidate pair, in addition to its comparison."""
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
RARE_BANDS = 128
"""Bands of the search by rare grams, with longer keys."""
PROBED_BANDS = 8
"""Bands of the first pass over crowded keys, and of the estimates."""
MIN_YIELD = 0.005
"""Minimum share of matches among the pairs of crowded keys. If it is lower, the keys are a shared frame."""
CROWDED = 3
"""Mean number of partners per text and band above which the first pass is limited to `INITIAL_PARTNERS`."""
MAX_PARTNERS = 4096
INITIAL_PARTNERS = 4
"""Partners per text in the first pass. Each pass that does not cover all pairs allows 16 times as many."""
RARE_PARTNERS = 64
"""`INITIAL_PARTNERS` of the search by rare grams."""
BLOCK_PAIRS_PER_PART = 20_000_000
BLOCK_CELLS = 4_000_000
MAX_BLOCK_ROWS = 256
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
    """The most similar verified pairs of kept texts below the threshold."""


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
    if not len(texts) or not (fixed or mutual):  # no two texts are compared
        return GreedySelection(kept, Matches.empty(), Matches.empty(), 0, Matches.empty())
    np.save(texts.folder / "guards.npy", guards)
    by_ratio = _RatioSearch(texts, guards, threshold, fixed, mutual, run_parts)
    searches: list[tuple[int, MatchSearch]] = [(0, by_ratio), (0, _RareSearch(by_ratio))]
    if second_search:
        searches.append((1, second_search(texts, guards, fixed, mutual, run_parts)))
    found = [Matches.empty(), Matches.empty()]
    done = False
    while not done:
        for kind, search in searches:
            new, complete = search(kept)
            found[kind] = Matches.concat([found[kind], new])
            before, kept = kept, select_greedily(len(texts), Matches.concat(found))
            done = complete and not (kept & ~before).any()
            if not done:
                break
    misses = by_ratio.near_misses
    both_kept = kept[misses.better] & kept[misses.worse]
    return GreedySelection(kept, found[0], found[1], by_ratio.pairs_verified, misses.select(both_kept))


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


def values_per_band(count: int, *, rare: bool = False) -> int:
    """Return the MinHash values per band key. More texts need longer keys to avoid chance collisions."""
    if rare:
        return 2 if count <= 8_000 else 3 if count <= 500_000 else 4
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
        self.compared_in_blocks = 0
        self.near_misses = Matches.empty()
        self._sketch()
        self.cheapest = self._choose_search()
        self.partners = INITIAL_PARTNERS
        self.crowded = False
        if self.cheapest == "bands":
            self._write_keys(rare=False)
            self.crowded = self._mean_partners(rare=False) > CROWDED
            self.partners = INITIAL_PARTNERS if self.crowded else MAX_PARTNERS
        self.searched = np.zeros(self.count, np.bool_)
        """Texts among which the search is finished."""
        self.probed = False

    @property
    def pairs_verified(self) -> int:
        """Number of computed ratios."""
        return len(self.verified) + self.compared_in_blocks

    def __call__(self, kept: NDArray[np.bool_]) -> tuple[Matches, bool]:
        if not (kept & ~self.searched).any():
            return Matches.empty(), True
        numbers = np.flatnonzero(kept)
        if self.cheapest == "blocks":
            return self.finish(kept, self.compare_blocks(numbers)), True
        if self.cheapest == "windows":
            pairs, coverage = self._search_windows(numbers)
        elif self.crowded and not self.probed:
            self.probed = True
            pairs, coverage = self.search_bands(numbers, self.partners, bands=PROBED_BANDS)
        else:
            pairs, coverage = self.search_bands(numbers, self.partners)
        matches = self.verify(pairs)
        if self.cheapest == "bands" and not coverage.complete:
            if len(matches) < MIN_YIELD * coverage.pairs:
                # The rare keys find the rest.
                return self.finish(kept, matches), True
            if not self.is_affordable(self.partners * 16, numbers):
                self.cheapest = "blocks"
        if coverage.complete and coverage.bands in (0, BANDS):
            return self.finish(kept, matches), True
        if coverage.bands != PROBED_BANDS:
            self.partners *= 16
        return matches, False

    def finish(self, kept: NDArray[np.bool_], matches: Matches) -> Matches:
        """Remember that no more matches can be found among these texts."""
        self.searched = kept.copy()
        return matches

    def _sketch(self) -> None:
        sample = np.arange(0, self.count, max(1, self.count // SCALE_SAMPLE))
        scale = fit_scale(self.texts.read(sample))
        for name, like in vars(sketch_texts([""], scale)).items():
            create_array(self.folder / f"{name}.npy", (self.count, *like.shape[1:]), like.dtype)
        ranges = split_range(self.count, TEXTS_PER_PART)
        list(self.run_parts(write_sketches, [SketchPart(self.folder, a, b, scale=scale) for a, b in ranges]))
        self.sketches = read_sketches(self.folder)

    def _write_keys(self, *, rare: bool) -> None:
        bands = RARE_BANDS if rare else BANDS
        for band in range(bands):
            create_array(band_key_file(self.folder, band, rare=rare), (self.count,), np.uint32)
        rows = values_per_band(self.count, rare=rare)
        ranges = split_range(self.count, TEXTS_PER_PART)
        parts = [SketchPart(self.folder, a, b, bands=bands, rows=rows, rare=rare) for a, b in ranges]
        list(self.run_parts(write_band_keys, parts))

    def write_rare_keys(self) -> None:
        """Write the band keys that weight grams by rarity."""
        ranges = split_range(self.count, TEXTS_PER_PART)
        parts = [SketchPart(self.folder, a, b) for a, b in ranges]
        list(self.run_parts(write_gram_counts, parts))
        counts = np.zeros(gram_counters(self.count), np.uint32)
        for part in parts:
            counts += np.load(part.counts)
        np.save(self.folder / "weights.npy", gram_weights(counts, self.count))
        self._write_keys(rare=True)

    def _mean_partners(self, *, rare: bool) -> float:
        """Return the mean number of texts before each text in the run of its key."""
        files = (band_key_file(self.folder, band, rare=rare) for band in range(PROBED_BANDS))
        return float(np.mean([position_in_run(np.sort(read_array(file))).mean() for file in files]))

    def _choose_search(self) -> Literal["windows", "blocks", "bands"]:
        """Return the cheapest search that misses no match, or `bands` if none is cheap.

        The share of pairs to verify is estimated from a regular sample of the pairs sorted by length.
        """
        order, until = self._sort_by_length(np.arange(self.count))
        partners = until - np.arange(len(order)) - 1
        pairs = int(partners.sum())
        if pairs > EXHAUSTIVE_PAIRS:
            return "bands"
        left = np.repeat(np.arange(len(order)), np.minimum(partners, SAMPLED_PARTNERS))
        nth = np.arange(len(left)) - np.searchsorted(left, left)
        right = left + 1 + nth * np.maximum(partners // SAMPLED_PARTNERS, 1)[left]
        share = self.sketches.may_match(order[left], order[right], self.slack).mean() if len(left) else 0.0
        in_blocks = self._block_seconds(pairs)
        in_windows = pairs * SCREENING_SECONDS + share * (pairs * PAIRING_SECONDS + in_blocks)
        budget = MAX_VERIFYING_SECONDS if self.threshold < BANDED_THRESHOLD else MAX_SECONDS
        if min(in_blocks, in_windows - pairs * SCREENING_SECONDS) > budget:
            return "bands"
        return "blocks" if in_blocks < in_windows else "windows"

    def _block_seconds(self, pairs: int) -> float:
        """Estimate the CPU seconds that `ratio_matrix` takes for this number of pairs."""
        squares = float((self.sketches.lengths.astype(np.float64) ** 2).mean())
        return pairs * (2e-8 + 1.1e-11 * squares)

    def is_affordable(self, partners: int, numbers: Indices, *, rare: bool = False) -> bool:
        """Return whether a pass over the bands costs less than the comparison of all pairs."""
        considered = 0.0
        for band in range(PROBED_BANDS):
            keys = read_array(band_key_file(self.folder, band, rare=rare))[numbers]
            considered += float(np.minimum(position_in_run(np.sort(keys)), partners).sum())
        order, until = self._sort_by_length(numbers)
        pairs = int((until - np.arange(len(order)) - 1).sum())
        bands = RARE_BANDS if rare else BANDS
        return considered * bands / PROBED_BANDS * PAIRING_SECONDS < self._block_seconds(pairs)

    def _sort_by_length(self, numbers: Indices) -> tuple[Indices, Indices]:
        """Sort texts by guard and length, and return for each the end of its window of possible matches."""
        order = numbers[np.lexsort((self.sketches.lengths[numbers], self.guards[numbers]))]
        return order, window_ends(self.sketches.lengths[order], self.guards[order], self.slack)

    def _write_windows(self, numbers: Indices) -> Indices:
        """Write `order.npy` and `until.npy`, and return the cumulative number of pairs."""
        order, until = self._sort_by_length(numbers)
        np.save(self.folder / "order.npy", order)
        np.save(self.folder / "until.npy", until)
        return np.cumsum(until - np.arange(len(order)))

    def _search_windows(self, numbers: Indices) -> tuple[Indices, SearchCoverage]:
        totals = self._write_windows(numbers)
        parts = self._parts(split_by_cost(totals, WINDOW_PAIRS_PER_PART), self.partners)
        return self._search(search_windows, parts)

    def search_bands(
        self, numbers: Indices, partners: int, *, bands: int = BANDS, rare: bool = False
    ) -> tuple[Indices, SearchCoverage]:
        """Return the candidate pairs among these texts."""
        np.save(self.folder / "kept.npy", numbers)
        parts = self._parts(split_range(bands, BANDS_PER_PART), partners, rare=rare)
        pairs, coverage = self._search(search_bands, parts)
        return pairs, replace(coverage, bands=bands)

    def compare_blocks(self, numbers: Indices) -> Matches:
        """Compare all pairs of similar length among these texts."""
        totals = self._write_windows(numbers)
        parts = [
            BlockPart(part, self.threshold)
            for part in self._parts(split_by_cost(totals, BLOCK_PAIRS_PER_PART), self.partners)
        ]
        self.compared_in_blocks += sum(self.run_parts(compare_blocks, parts))
        return self._split_near_misses([part.output for part in parts], new_only=True)

    def _parts(
        self, ranges: Sequence[tuple[int, int]], partners: int, *, rare: bool = False
    ) -> list[SearchPart]:
        options = (partners, self.slack, self.fixed, self.mutual, rare)
        return [SearchPart(self.folder, a, b, *options) for a, b in ranges]

    def _search(
        self, job: Callable[[SearchPart], SearchCoverage], parts: Sequence[SearchPart]
    ) -> tuple[Indices, SearchCoverage]:
        coverages = list(self.run_parts(job, parts))
        pairs: Indices = np.empty(0, np.int64)
        for part in parts:
            pairs = union_sorted(pairs, np.load(part.output))
        complete = all(coverage.complete for coverage in coverages)
        return pairs, SearchCoverage(complete, sum(coverage.pairs for coverage in coverages))

    def verify(self, pairs: Indices) -> Matches:
        """Return the pairs that match and were not verified before."""
        pairs = _difference_sorted(pairs, self.verified)
        self.verified = union_sorted(self.verified, pairs)
        np.save(self.folder / "pairs.npy", pairs)
        ranges = split_range(len(pairs), PAIRS_PER_PART)
        parts = [VerifyPart(self.folder, a, b, self.threshold) for a, b in ranges]
        list(self.run_parts(verify_pairs, parts))
        return self._split_near_misses([part.output for part in parts])

    def _split_near_misses(self, files: Sequence[Path], *, new_only: bool = False) -> Matches:
        """Read compared pairs, keep the near misses, and return the matches."""
        found = Matches.concat([Matches.empty(), *(Matches.read(file) for file in files)])
        if new_only:
            found = found.select(~np.isin(found.better * self.count + found.worse, self.verified))
        below = found.select(found.similarity < self.threshold)
        self.near_misses = Matches.concat([self.near_misses, below])
        return found.select(found.similarity >= self.threshold)


class _RareSearch:
    """Searches by rare grams if texts that are no duplicates share too many keys of a `_RatioSearch`.

    The matches come in passes like those of the first search. If the rare keys are crowded too, all pairs
    are compared in blocks.
    """

    def __init__(self, by_ratio: _RatioSearch) -> None:
        self.by_ratio = by_ratio
        self.partners = 0
        self.searched = np.zeros(by_ratio.count, np.bool_)

    def __call__(self, kept: NDArray[np.bool_]) -> tuple[Matches, bool]:
        search, numbers = self.by_ratio, np.flatnonzero(kept)
        if search.cheapest != "bands" or not search.crowded or not (kept & ~self.searched).any():
            return Matches.empty(), True
        if not self.partners:
            search.write_rare_keys()
            self.partners = RARE_PARTNERS
        if not search.is_affordable(self.partners, numbers, rare=True):
            search.cheapest = "blocks"
            return search.finish(kept, search.compare_blocks(numbers)), True
        pairs, coverage = search.search_bands(numbers, self.partners, bands=RARE_BANDS, rare=True)
        if coverage.complete:
            self.searched = kept.copy()
        else:
            self.partners *= 16
        return search.verify(pairs), coverage.complete


@dataclass(frozen=True)
class BlockPart:
    """Texts of the order by length that are compared with all texts of their windows."""

    part: SearchPart
    threshold: float

    @property
    def output(self) -> Path:
        """File of the matches and the near misses."""
        return self.part.folder / f"compared-{self.part.start:09}.npz"


def compare_blocks(block: BlockPart) -> int:
    """Compute the `ratio` of all pairs of a part, and write the matches and the near misses.

    Return the number of pairs.
    """
    part, texts = block.part, TextFiles(block.part.folder)
    order, until = read_array(part.folder / "order.npy"), read_array(part.folder / "until.npy")
    cutoff = max(0.0, block.threshold - MARGIN)
    chunks, count, begin = [Matches.empty()], 0, part.start
    while begin < part.stop:
        rows = max(1, min(MAX_BLOCK_ROWS, BLOCK_CELLS // int(until[begin] - begin)))
        stop = min(begin + rows, part.stop)
        end = int(until[stop - 1])
        columns = texts.read(order[begin:end])
        similarity = ratio_matrix(columns[: stop - begin], columns, cutoff=cutoff)
        row, column = np.nonzero(similarity)
        inside = (column > row) & (column + begin < until[begin + row])
        row, column = row[inside], column[inside]
        left, right = order[begin + row], order[begin + column]
        better, worse = np.minimum(left, right), np.maximum(left, right)
        comparable = (worse >= part.fixed) & ((better < part.fixed) | part.mutual)
        found = Matches(better, worse, similarity[row, column]).select(comparable)
        chunks.append(_keep_nearest(found, block.threshold))
        count += int((until[begin:stop] - np.arange(begin, stop) - 1).sum())
        begin = stop
    _keep_nearest(Matches.concat(chunks), block.threshold).write(block.output)
    return count


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
        numbers, position = np.unique(np.concatenate([better, worse]), return_inverse=True)
        contents = texts.read(numbers)
        left, right = ([contents[i] for i in half.tolist()] for half in np.split(position, 2))
        similarity = paired_ratios(left, right, cutoff=cutoff)
        hit = similarity > 0
        chunks.append(Matches(better[hit], worse[hit], similarity[hit]))
    _keep_nearest(Matches.concat(chunks), part.threshold).write(part.output)


def _keep_nearest(found: Matches, threshold: float) -> Matches:
    """Return the matches, followed by the most similar of the pairs below the threshold."""
    below = np.flatnonzero(found.similarity < threshold)
    nearest = below[np.argsort(-found.similarity[below], kind="stable")[:NEAR_MISSES]]
    matching = np.flatnonzero(found.similarity >= threshold)
    return found.select(np.concatenate([matching, nearest]))


def _difference_sorted(numbers: Indices, known: Indices) -> Indices:
    """Return the numbers that are not in `known`, which is sorted."""
    if not len(known):
        return numbers
    nearest = known[np.minimum(np.searchsorted(known, numbers), len(known) - 1)]
    return np.asarray(numbers[nearest != numbers])
