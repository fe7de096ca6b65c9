"""Sketch texts, so that most pairs can be rejected without reading the texts.

An edit inserts or deletes one character. Two texts match if `ratio` ≥ t, that is, if they are at most
(1 - t/100) · (|a| + |b|) edits apart. Two lower bounds on the number of edits take a few machine words per
pair and never reject a match:

- bag: an edit changes the count of one character by one.
- grams: an edit changes at most 2q - 1 q-grams.

Band keys find likely pairs without looking at all pairs. Texts with the same key share several MinHash values
of their 4-grams. Texts that share a frame, such as filled templates, have many equal keys although they are
no duplicates. Their rare keys weight each 4-gram by its rarity, so that the frame hardly counts.

References:
    Ukkonen (1992), q-grams: doi:10.1016/0304-3975(92)90143-4.
    Dahlgaard, Knudsen, Thorup (2017), fast similarity sketching: arXiv:1704.04370.
    Xiao, Wang, Lin, Yu, Wang (2011), candidates by the rarest tokens (PPJoin): doi:10.1145/2000824.2000825.
    Ioffe (2010), weighted MinHash: doi:10.1109/ICDM.2010.80.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Indices = NDArray[np.int64]

CHUNK = 1024
GRAM_LEVELS = 2
"""Counts of a q-gram that the sketch distinguishes: at least one, at least two."""
FILTER_Q = 3
"""Length of the q-grams of the sketches."""
BAND_Q = 4
"""Length of the q-grams of the band keys."""
ROUNDS = 4
"""Rounds of hashing to fill the bins of a fast similarity sketch."""
RARE_ROUNDS = 8
"""The same for a weighted sketch, in which fewer grams count."""
MAX_GRAM_COUNTERS = 1 << 22
"""Maximum number of counters of 4-grams. Grams with the same counter are counted together."""
RARE_SHARE = 0.002
"""Share of the texts that may contain a gram of full weight. The weight of other grams is inverse to their
count."""
MIN_RARE_COUNT = 8
"""Grams with at most this count have full weight, however few texts there are."""
FRAME_WEIGHT = 0.02
"""Weight below which a gram is part of a frame (it is in about a tenth of the texts)."""
ENOUGH_GRAMS = 12
"""Rare grams from which on the frame of a text is ignored."""
CHARACTERS = 32
"""Number of character classes: the last five bits of the code point, which distinguish a to z."""


@dataclass(frozen=True)
class SketchScale:
    """Parameters of the sketches of a set of texts.

    The bounds are valid for any scale. A fitted scale rejects more pairs.
    """

    bins: int
    """Number of bins that 3-grams are hashed into."""
    low: tuple[int, ...]
    """Count of each character that nearly all texts reach. Lower counts are not encoded."""
    high: tuple[int, ...]
    """Count of each character that few texts exceed. Higher counts are not encoded."""


@dataclass(frozen=True)
class Sketches:
    """Sketches of n texts, in the order of the texts."""

    lengths: Indices
    """Shape (n,). Length in characters."""
    bags: Words
    """Shape (n, words). Character counts in unary."""
    grams: Words
    """Shape (n, bins · GRAM_LEVELS / 64). Bins that at least one and at least two 3-grams hash to."""

    def may_match(self, left: Indices, right: Indices, slack: float) -> NDArray[np.bool_]:
        """Return False only for pairs that are more than `slack` · (|a| + |b|) edits apart.

        The result has the shape of `left`.
        """
        edits = slack * (self.lengths[left] + self.lengths[right]) + 1e-6
        possible: NDArray[np.bool_] = np.abs(self.lengths[left] - self.lengths[right]) <= edits
        for words, weight in ((self.bags, 1), (self.grams, 2 * FILTER_Q - 1)):
            at = np.flatnonzero(possible)
            for i in range(0, len(at), CHUNK):
                chunk = at[i : i + CHUNK]
                differing = np.bitwise_count(words[left[chunk]] ^ words[right[chunk]]).sum(1, dtype=np.int64)
                possible[chunk] = differing <= weight * edits[chunk]
        return possible


def fit_scale(texts: Sequence[str]) -> SketchScale:
    """Fit a scale to these texts. A sample of a few hundred is enough."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    longer = float(np.quantile(lengths, 0.95)) if len(texts) else 0.0
    # At least three bins per character of the longer texts, because fuller bins reject little.
    bins = int(np.clip(1 << math.ceil(math.log2(max(longer, 1) * 3)), 256, 16384))
    counts = [_count_characters(*points) for points in _code_points(texts, lengths, FILTER_Q)]
    low, high = np.quantile(np.concatenate(counts), (0.005, 0.995), axis=0).astype(int).tolist()
    return SketchScale(bins, tuple(low), tuple(high))


def sketch_texts(texts: Sequence[str], scale: SketchScale) -> Sketches:
    """Compute the length, bag and 3-grams of every text."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    bags, grams = [], []
    for chunk in _code_points(texts, lengths, FILTER_Q):
        bags.append(_encode_unary(_count_characters(*chunk), scale))
        _, points, owner, size = chunk
        bin_of = _mix_bits(_hash_grams(points, FILTER_Q)) % np.uint32(scale.bins)
        counts = np.bincount(owner * scale.bins + bin_of, minlength=size * scale.bins)
        counts = counts.reshape(size, scale.bins)
        levels = np.concatenate([counts > level for level in range(GRAM_LEVELS)], axis=1)
        grams.append(np.packbits(levels, axis=1).view(np.uint64))
    return Sketches(lengths, np.concatenate(bags), np.concatenate(grams))


def gram_counters(texts: int) -> int:
    """Return the number of counters for this number of texts, a power of two."""
    return min(1 << max(16, (64 * texts).bit_length()), MAX_GRAM_COUNTERS)


def count_grams(texts: Sequence[str], counters: int) -> NDArray[np.uint32]:
    """Count the 4-grams of these texts, shape (counters,)."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    counts = np.zeros(counters, np.uint32)
    for _, points, _, _ in _code_points(texts, lengths, BAND_Q):
        grams, repeats = np.unique(_counter_of(_hash_grams(points, BAND_Q), counters), return_counts=True)
        counts[grams] += repeats.astype(np.uint32)
    return counts


def gram_weights(counts: NDArray[np.uint32], texts: int) -> NDArray[np.float32]:
    """Weight grams by rarity, shape (counters,).

    A gram that occurs once cannot be shared, so its weight is 0.

    Args:
        counts: Sum of `count_grams` over all texts.
        texts: Number of texts.
    """
    rare = max(MIN_RARE_COUNT, texts * RARE_SHARE)
    weights = np.minimum(1.0, rare / np.maximum(counts, 1))
    weights[counts < 2] = 0.0
    return weights.astype(np.float32)


def band_keys(
    texts: Sequence[str],
    guards: Indices,
    *,
    bands: int,
    rows: int,
    weights: NDArray[np.float32] | None = None,
) -> NDArray[np.uint32]:
    """Hash `rows` MinHash values and the guard of each text to one key per band, shape (bands, n).

    Args:
        texts: The texts.
        guards: Shape (n,). Texts with different guards have different keys, up to collisions.
        bands: Number of keys per text.
        rows: Number of MinHash values per key.
        weights: Result of `gram_weights`. By default, all grams have the same weight.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    keys = np.empty((bands, len(texts)), np.uint32)
    for start, points, owner, size in _code_points(texts, lengths, BAND_Q):
        hashes = _hash_grams(points, BAND_Q)
        if weights is None:
            minima = _fast_similarity_sketch(hashes, owner, size, bands * rows)
        else:
            weight = weights[_counter_of(hashes, len(weights))]
            minima = _weighted_sketch(hashes, weight, owner, size, bands * rows)
        mixed = np.repeat(_mix_bits(guards[start : start + size].astype(np.uint32))[:, None], bands, axis=1)
        for row in range(rows):
            mixed = _mix_bits(mixed * np.uint32(31) + minima[:, row * bands : (row + 1) * bands])
        keys[:, start : start + size] = mixed.T
    return keys


def _code_points(
    texts: Sequence[str], lengths: Indices, q: int
) -> Iterator[tuple[int, NDArray[np.uint32], Indices, int]]:
    """Yield chunks of texts as code points.

    A chunk is the index of its first text, the code points with q - 1 zeros around each text, the text that
    the q-gram at each position belongs to (relative to the first), and the number of texts.
    """
    pad = "\0" * (q - 1)
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        joined = pad + pad.join(chunk) + pad
        points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        owner = np.repeat(np.arange(len(chunk)), lengths[start : start + CHUNK] + q - 1)
        yield start, points, owner, len(chunk)


def _hash_grams(points: NDArray[np.uint32], q: int) -> NDArray[np.uint32]:
    """Hash the q code points from each position on."""
    width = len(points) - q + 1
    hashes = np.zeros(width, np.uint32)
    for i in range(q):
        hashes = hashes * np.uint32(0x01000193) + points[i : i + width]
    return hashes


def _counter_of(hashes: NDArray[np.uint32], counters: int) -> NDArray[np.uint32]:
    return _mix_bits(hashes) & np.uint32(counters - 1)


def _mix_bits(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Mix the bits of each value with the finaliser of MurmurHash3."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))


def _count_characters(start: int, points: NDArray[np.uint32], owner: Indices, size: int) -> NDArray[np.uint8]:
    """Count the characters of each text of a chunk, shape (size, CHARACTERS)."""
    real = points[: len(owner)] > 0
    slots = owner[real] * CHARACTERS + (points[: len(owner)][real] & np.uint32(CHARACTERS - 1))
    counts = np.bincount(slots, minlength=size * CHARACTERS).reshape(size, CHARACTERS)
    return np.minimum(counts, 255).astype(np.uint8)


def _encode_unary(counts: NDArray[np.uint8], scale: SketchScale) -> Words:
    """Encode counts in unary. At most as many bits differ as the counts differ by."""
    low, high = np.array(scale.low), np.array(scale.high)
    columns = np.repeat(np.arange(CHARACTERS), high - low)
    levels = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
    bits = np.zeros((len(counts), (len(levels) // 64 + 1) * 64), np.bool_)
    bits[:, : len(levels)] = counts[:, columns] > levels
    return np.packbits(bits, axis=1).view(np.uint64)


def _fast_similarity_sketch(
    hashes: NDArray[np.uint32], owner: Indices, size: int, bins: int
) -> NDArray[np.uint32]:
    """Return the minimum hash of every text and bin, shape (size, bins).

    In each round, every q-gram is hashed to one bin. Values of earlier rounds are smaller. Bins that are
    still empty after all rounds copy the nearest filled bin before them.
    """
    least = np.full(size * bins, 0xFFFFFFFF, np.uint32)
    for turn in range(ROUNDS):
        mixed = _mix_bits(hashes + np.uint32(0x9E3779B9 * (turn + 1) & 0xFFFFFFFF))
        bin_of = (mixed.astype(np.uint64) * np.uint64(bins) >> np.uint64(32)).astype(np.int64)
        values = (_mix_bits(mixed) >> np.uint32(4)) | np.uint32(turn << 28)
        np.minimum.at(least, owner * bins + bin_of, values)
    minima = least.reshape(size, bins)
    incomplete = np.flatnonzero((minima == 0xFFFFFFFF).any(axis=1))
    minima[incomplete] = _fill_empty_bins(minima[incomplete])
    return minima


def _weighted_sketch(
    hashes: NDArray[np.uint32], weights: NDArray[np.float32], owner: Indices, size: int, bins: int
) -> NDArray[np.uint32]:
    """Return the minimum of -log(u) / weight of every text and bin, shape (size, bins).

    u is a hash of the gram in (0, 1). Two texts have equal values with a probability of about the weight of
    the grams that they share over the weight of all their grams. Empty bins are filled as in
    `_fast_similarity_sketch`. A text without any weighted gram gets values of its own.
    """
    least = np.full(size * bins, 0xFFFFFFFF, np.uint32)
    totals = np.bincount(owner, weights=hashes, minlength=size).astype(np.int64).astype(np.uint32)
    rare = weights >= FRAME_WEIGHT
    has_rare = np.bincount(owner, weights=rare, minlength=size) >= ENOUGH_GRAMS
    # A bin without a rare gram would hold the frame, so texts with enough rare grams do without the frame.
    counted = np.flatnonzero(rare | ((weights > 0) & ~has_rare[owner]))
    hashes, weights, owner = hashes[counted], weights[counted], owner[counted]
    for turn in range(RARE_ROUNDS):
        mixed = _mix_bits(hashes + np.uint32(0x9E3779B9 * (turn + 1) & 0xFFFFFFFF))
        bin_of = (mixed.astype(np.uint64) * np.uint64(bins) >> np.uint64(32)).astype(np.int64)
        share = ((_mix_bits(mixed) >> np.uint32(8)).astype(np.float32) + 0.5) * np.float32(2**-24)
        # Positive floats are ordered like their bits.
        values = (-np.log(share) / weights).astype(np.float32).view(np.uint32)
        np.minimum.at(least, owner * bins + bin_of, values)
    minima = least.reshape(size, bins)
    blank = np.flatnonzero((minima == 0xFFFFFFFF).all(axis=1))
    minima[blank, 0] = _mix_bits(totals[blank])
    incomplete = np.flatnonzero((minima == 0xFFFFFFFF).any(axis=1))
    minima[incomplete] = _fill_empty_bins(minima[incomplete])
    return minima


def _fill_empty_bins(minima: NDArray[np.uint32]) -> NDArray[np.uint32]:
    bins = np.arange(minima.shape[1])
    filled = minima != 0xFFFFFFFF
    twice = np.concatenate([np.where(filled, bins, -1), np.where(filled, bins + len(bins), -1)], axis=1)
    source = np.maximum.accumulate(twice, axis=1)[:, len(bins) :]
    distance = (bins + len(bins) - source).astype(np.uint32)
    return np.take_along_axis(minima, source % len(bins), axis=1) + distance * np.uint32(0x9E3779B9)
