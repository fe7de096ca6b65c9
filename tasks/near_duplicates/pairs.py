"""Search for candidate pairs of near-duplicates, part by part.

The sketches of the texts are on disk, best text first. There are three ways to search. Windows over texts
sorted by length miss no match. Bands of MinHash keys miss very few and avoid looking at all pairs. Blocks
compare all pairs of similar length at once and are the cheapest if the sketches reject few pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.near_duplicates.parts import Indices, TextFiles, read_array, write_array_rows
from tasks.near_duplicates.sketches import (
    Sketches,
    SketchScale,
    band_keys,
    count_grams,
    gram_counters,
    sketch_texts,
)

BLOCK = 16
"""Texts of a window that are compared in one operation."""
TEXTS_AT_ONCE = 8_192
PAIRS_PER_BATCH = 100_000
RUN_PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class SketchPart:
    """Texts `start` to `stop`, to be sketched on a scale or hashed to `bands` keys of `rows` values each."""

    folder: Path
    start: int
    stop: int
    scale: SketchScale | None = None
    bands: int = 0
    rows: int = 0
    rare: bool = False
    """Whether the keys weight grams by rarity (`weights.npy`)."""

    @property
    def counts(self) -> Path:
        """File of the 4-gram counts of the part."""
        return self.folder / f"counts-{self.start:09}.npy"


def write_sketches(part: SketchPart) -> None:
    """Sketch the texts of a part and write the arrays that `read_sketches` reads."""
    assert part.scale is not None
    for start, texts in TextFiles(part.folder).chunks(part.start, part.stop, TEXTS_AT_ONCE):
        sketches = sketch_texts(texts, part.scale)
        for name in ("lengths", "bags", "grams"):
            write_array_rows(part.folder / f"{name}.npy", start, getattr(sketches, name))


def write_gram_counts(part: SketchPart) -> None:
    """Count the 4-grams of the texts of a part."""
    files = TextFiles(part.folder)
    counters = gram_counters(len(files))
    counts = np.zeros(counters, np.uint32)
    for _, texts in files.chunks(part.start, part.stop, TEXTS_AT_ONCE):
        counts += count_grams(texts, counters)
    np.save(part.counts, counts)


def write_band_keys(part: SketchPart) -> None:
    """Write the band keys of the texts of a part, one array per band."""
    guards = read_array(part.folder / "guards.npy")
    weights = read_array(part.folder / "weights.npy") if part.rare else None
    for start, texts in TextFiles(part.folder).chunks(part.start, part.stop, TEXTS_AT_ONCE):
        own = guards[start : start + len(texts)]
        keys = band_keys(texts, own, bands=part.bands, rows=part.rows, weights=weights)
        for band, row in enumerate(keys):
            write_array_rows(band_key_file(part.folder, band, rare=part.rare), start, row)


def band_key_file(folder: Path, band: int, *, rare: bool = False) -> Path:
    """Return the path of the keys of a band."""
    return folder / f"{'rare-' if rare else ''}keys-{band:03}.npy"


def read_sketches(folder: Path) -> Sketches:
    """Open the sketches of all texts."""
    return Sketches(*(read_array(folder / f"{name}.npy") for name in ("lengths", "bags", "grams")))


@dataclass(frozen=True)
class SearchPart:
    """A range in which to search for pairs of kept texts.

    For `search_windows`, it is a range of the order by length (`order.npy`). For `search_bands`, it is a
    range of bands, and `kept.npy` holds the kept texts.
    """

    folder: Path
    start: int
    stop: int
    partners: int
    """Maximum number of other texts that a text is paired with."""
    slack: float
    """Maximum edits of a match as a share of the total length."""
    fixed: int
    """Number of texts at the start that are not compared with each other."""
    mutual: bool
    """Whether the other texts are compared with each other."""
    rare: bool = False
    """Whether `search_bands` reads the keys that weight grams by rarity."""

    @property
    def output(self) -> Path:
        """File of the candidate pairs: better * n + worse, sorted and distinct."""
        return self.folder / f"found-{self.start:09}.npy"

    def encode_candidates(self, sketches: Sketches, left: Indices, right: Indices) -> Indices:
        """Encode the pairs that have to be compared and may match."""
        better, worse = np.minimum(left, right), np.maximum(left, right)
        comparable = (worse >= self.fixed) & ((better < self.fixed) | self.mutual)
        better, worse = better[comparable], worse[comparable]
        possible = sketches.may_match(better, worse, self.slack)
        return better[possible] * len(sketches.lengths) + worse[possible]


@dataclass(frozen=True)
class SearchCoverage:
    """How far a part was searched."""

    complete: bool
    """Whether all of its pairs were considered."""
    pairs: int
    """Number of pairs considered, with repetitions."""
    bands: int = 0
    """Number of bands searched."""


def search_windows(part: SearchPart) -> SearchCoverage:
    """Search all pairs of similar length, up to the limit of `partners`."""
    sketches = read_sketches(part.folder)
    pairs, count, complete = [np.empty(0, np.int64)], 0, True
    for left, right in _merge_batches(_window_pairs(part, sketches)):
        pairs.append(part.encode_candidates(sketches, left, right))
        count += len(pairs[-1])
        if count > part.partners * BLOCK * (part.stop - part.start):
            complete = False
            break
    np.save(part.output, np.sort(np.concatenate(pairs)))
    return SearchCoverage(complete, count)


def search_bands(part: SearchPart) -> SearchCoverage:
    """Pair each text with the best `partners` of its band key. The search is complete if no text has more."""
    sketches = read_sketches(part.folder)
    kept = read_array(part.folder / "kept.npy")
    pairs, complete, count = np.empty(0, np.int64), True, 0
    for band in range(part.start, part.stop):
        keys = read_array(band_key_file(part.folder, band, rare=part.rare))[kept]
        order = np.argsort(keys, kind="stable")
        position = position_in_run(keys[order])
        complete &= bool((position <= part.partners).all())
        for left, right in _run_pairs(kept[order], position, part.partners):
            pairs = union_sorted(pairs, part.encode_candidates(sketches, left, right))
            count += len(left)
    np.save(part.output, pairs)
    return SearchCoverage(complete, count)


def window_ends(lengths: Indices, guards: Indices, slack: float) -> Indices:
    """Return for each text the end of its window of possible matches.

    The texts are sorted by guard and length. The window holds the following texts with the same guard that
    are short enough to match.
    """
    longest = int(lengths.max(initial=0))
    reach = np.floor(lengths * (1 + slack) / max(1 - slack, 1e-9) + 1e-6)
    limit = guards * (longest + 1) + np.minimum(reach, longest).astype(np.int64)
    return np.asarray(np.searchsorted(guards * (longest + 1) + lengths, limit, side="right"))


def _window_pairs(part: SearchPart, sketches: Sketches) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs of equal guard that may match by length and bag, for the longest text of each block."""
    order, until = read_array(part.folder / "order.npy"), read_array(part.folder / "until.npy")
    reach = int(until[part.stop - 1])
    texts = order[part.start : reach]
    lengths = sketches.lengths[texts]
    bags = np.ascontiguousarray(sketches.bags[texts].T)
    for begin in range(part.start, part.stop, BLOCK):
        stop = min(begin + BLOCK, part.stop)
        first, last, end = begin - part.start, stop - part.start, int(until[stop - 1]) - part.start
        edits = np.zeros((last - first, end - first), np.uint16)
        for word in bags:
            edits += np.bitwise_count(word[first:last, None] ^ word[None, first:end])
        allowed = part.slack * (lengths[first:last].max() + lengths[first:end]) + 1e-6
        row, column = np.nonzero(edits <= np.minimum(allowed, 65_535).astype(np.uint16))
        in_window = (column > row) & (column + begin < until[begin + row])
        yield texts[first + row[in_window]], texts[first + column[in_window]]


def position_in_run(keys: NDArray[np.uint32]) -> Indices:
    """Return for each of the sorted keys how many equal keys precede it."""
    at = np.arange(len(keys))
    starts = np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]
    return at - np.maximum.accumulate(np.where(starts, at, 0))


def _run_pairs(texts: Indices, position: Indices, max_partners: int) -> Iterator[tuple[Indices, Indices]]:
    """Pair each text with the first `max_partners` texts of its run before it, in batches."""
    partners = np.minimum(position, max_partners)
    total = np.cumsum(partners)
    start = 0
    while start < len(texts):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + RUN_PAIRS_AT_ONCE, side="right")))
        count = partners[start:stop]
        worse = np.repeat(np.arange(start, stop), count)
        nth = np.arange(len(worse)) - np.repeat(np.cumsum(count) - count, count)
        yield texts[worse - position[worse] + nth], texts[worse]
        start = stop


def union_sorted(left: Indices, right: Indices) -> Indices:
    """Return the sorted distinct numbers of both arrays."""
    # `np.unique` takes minutes for regular numbers.
    both: Indices = np.sort(np.concatenate([left, right]))
    return np.asarray(both[np.concatenate([[True], both[1:] != both[:-1]])[: len(both)]])


def _merge_batches(pairs: Iterable[tuple[Indices, Indices]]) -> Iterator[tuple[Indices, Indices]]:
    """Yield the same pairs in larger arrays."""
    pending: list[tuple[Indices, Indices]] = []
    count = 0
    for pair in pairs:
        pending.append(pair)
        count += len(pair[0])
        if count >= PAIRS_PER_BATCH:
            yield np.concatenate([a for a, _ in pending]), np.concatenate([b for _, b in pending])
            pending, count = [], 0
    if pending:
        yield np.concatenate([a for a, _ in pending]), np.concatenate([b for _, b in pending])
