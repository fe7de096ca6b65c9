"""Small summaries of texts that say, without reading the texts again, which pairs cannot be alike.

An edit is one character put in or taken out; two texts match where `ratio` ≥ t, that is where the edits
between them are at most (1 - t/100) · (|a| + |b|). Two bounds on the number of edits cost a few machine
words a pair and never refuse a match:

- bag: an edit changes the count of one character by one;
- grams: an edit changes at most 2q - 1 of the q-grams (Ukkonen 1992, doi:10.1016/0304-3975(92)90143-4).

Band keys find likely pairs without looking at all of them: texts that share a key share several MinHash
values of their 4-grams. The values are those of a fast similarity sketch (arXiv:1704.04370).
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
FILTER_Q = 3
BAND_Q = 4
ROUNDS = 4
CHARACTERS = 32
"""Characters are counted by the last five bits of their code point, which keeps a to z apart."""


@dataclass(frozen=True)
class SketchScale:
    """What the sketches of all texts have in common. It decides how much they tell; the bounds hold for
    any."""

    bins: int
    """Into which 3-grams are hashed."""
    low: tuple[int, ...]
    high: tuple[int, ...]
    """Between which counts of each character most texts lie; only that range is written out."""


@dataclass(frozen=True)
class Sketches:
    """Sketches of n texts, in their order."""

    lengths: Indices
    """Characters, shape (n,)."""
    bags: Words
    """Character counts in unary, shape (n, words)."""
    grams: Words
    """Which bins of hashed 3-grams are used once and twice, shape (n, bins · GRAM_LEVELS / 64)."""

    def may_match(self, left: Indices, right: Indices, slack: float) -> NDArray[np.bool_]:
        """False only for pairs with more than `slack` · (|a| + |b|) edits between them. Shape of `left`."""
        edits = slack * (self.lengths[left] + self.lengths[right]) + 1e-6
        alike: NDArray[np.bool_] = np.abs(self.lengths[left] - self.lengths[right]) <= edits
        for words, weight in ((self.bags, 1), (self.grams, 2 * FILTER_Q - 1)):
            at = np.flatnonzero(alike)
            for i in range(0, len(at), CHUNK):
                some = at[i : i + CHUNK]
                differing = np.bitwise_count(words[left[some]] ^ words[right[some]]).sum(1, dtype=np.int64)
                alike[some] = differing <= weight * edits[some]
        return alike


def scale_of(texts: Sequence[str]) -> SketchScale:
    """The scale that suits these texts, of which some hundreds tell enough. At least three bins a character
    of the longer ones: fuller bins would tell little."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    longer = float(np.quantile(lengths, 0.95)) if len(texts) else 0.0
    bins = int(np.clip(1 << math.ceil(math.log2(max(longer, 1) * 3)), 256, 16384))
    counts = [_counts(*points) for points in _code_points(texts, lengths, FILTER_Q)]
    low, high = np.quantile(np.concatenate(counts), (0.005, 0.995), axis=0).astype(int).tolist()
    return SketchScale(bins, tuple(low), tuple(high))


def sketch_texts(texts: Sequence[str], scale: SketchScale) -> Sketches:
    """Lengths, bags and 3-grams of every text."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    bags, grams = [], []
    for chunk in _code_points(texts, lengths, FILTER_Q):
        bags.append(_unary(_counts(*chunk), scale))
        _, points, owner, size = chunk
        bin_of = _mixed(_gram_hashes(points, FILTER_Q)) % np.uint32(scale.bins)
        found = np.bincount(owner * scale.bins + bin_of, minlength=size * scale.bins)
        found = found.reshape(size, scale.bins)
        levels = np.concatenate([found > level for level in range(GRAM_LEVELS)], axis=1)
        grams.append(np.packbits(levels, axis=1).view(np.uint64))
    return Sketches(lengths, np.concatenate(bags), np.concatenate(grams))


def band_keys(texts: Sequence[str], guards: Indices, *, bands: int, rows: int) -> NDArray[np.uint32]:
    """One key a band and text, shape (bands, n), from `rows` MinHash values and the text's guard."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    keys = np.empty((bands, len(texts)), np.uint32)
    for start, points, owner, size in _code_points(texts, lengths, BAND_Q):
        minima = _fast_similarity_sketch(_gram_hashes(points, BAND_Q), owner, size, bands * rows)
        mixed = np.repeat(_mixed(guards[start : start + size].astype(np.uint32))[:, None], bands, axis=1)
        for row in range(rows):
            mixed = _mixed(mixed * np.uint32(31) + minima[:, row * bands : (row + 1) * bands])
        keys[:, start : start + size] = mixed.T
    return keys


def _code_points(
    texts: Sequence[str], lengths: Indices, q: int
) -> Iterator[tuple[int, NDArray[np.uint32], Indices, int]]:
    """Chunks of texts: first index, code points with q - 1 zeros around each text, the text that the q-gram
    at each position belongs to (counted from the first), how many texts."""
    pad = "\0" * (q - 1)
    for start in range(0, len(texts), CHUNK):
        some = texts[start : start + CHUNK]
        joined = pad + pad.join(some) + pad
        points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        owner = np.repeat(np.arange(len(some)), lengths[start : start + CHUNK] + q - 1)
        yield start, points, owner, len(some)


def _gram_hashes(points: NDArray[np.uint32], q: int) -> NDArray[np.uint32]:
    """A number for the q code points from each position on."""
    width = len(points) - q + 1
    hashes = np.zeros(width, np.uint32)
    for i in range(q):
        hashes = hashes * np.uint32(0x01000193) + points[i : i + width]
    return hashes


def _mixed(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Every bit of the result depends on every bit of the value (the finaliser of MurmurHash3)."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))


def _counts(start: int, points: NDArray[np.uint32], owner: Indices, size: int) -> NDArray[np.uint8]:
    """How often each character stands in each of a chunk's texts, shape (size, CHARACTERS)."""
    real = points[: len(owner)] > 0
    slots = owner[real] * CHARACTERS + (points[: len(owner)][real] & np.uint32(CHARACTERS - 1))
    found = np.bincount(slots, minlength=size * CHARACTERS).reshape(size, CHARACTERS)
    return np.minimum(found, 255).astype(np.uint8)


def _unary(counts: NDArray[np.uint8], scale: SketchScale) -> Words:
    """Counts as runs of ones, so that differing bits add up to (at most) the difference of the counts."""
    low, high = np.array(scale.low), np.array(scale.high)
    columns = np.repeat(np.arange(CHARACTERS), high - low)
    levels = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
    bits = np.zeros((len(counts), (len(levels) // 64 + 1) * 64), np.bool_)
    bits[:, : len(levels)] = counts[:, columns] > levels
    return np.packbits(bits, axis=1).view(np.uint64)


def _fast_similarity_sketch(
    hashes: NDArray[np.uint32], owner: Indices, size: int, bins: int
) -> NDArray[np.uint32]:
    """For every text and bin the least value that a gram throws there, earlier rounds first; a bin that is
    still empty borrows from the last one before it that is not. Shape (size, bins)."""
    least = np.full(size * bins, 0xFFFFFFFF, np.uint32)
    for turn in range(ROUNDS):
        thrown = _mixed(hashes + np.uint32(0x9E3779B9 * (turn + 1) & 0xFFFFFFFF))
        where = (thrown.astype(np.uint64) * np.uint64(bins) >> np.uint64(32)).astype(np.int64)
        values = (_mixed(thrown) >> np.uint32(4)) | np.uint32(turn << 28)
        np.minimum.at(least, owner * bins + where, values)
    minima = least.reshape(size, bins)
    short = np.flatnonzero((minima == 0xFFFFFFFF).any(axis=1))
    minima[short] = _borrowed(minima[short])
    return minima


def _borrowed(minima: NDArray[np.uint32]) -> NDArray[np.uint32]:
    bins = np.arange(minima.shape[1])
    filled = minima != 0xFFFFFFFF
    twice = np.concatenate([np.where(filled, bins, -1), np.where(filled, bins + len(bins), -1)], axis=1)
    source = np.maximum.accumulate(twice, axis=1)[:, len(bins) :]
    distance = (bins + len(bins) - source).astype(np.uint32)
    return np.take_along_axis(minima, source % len(bins), axis=1) + distance * np.uint32(0x9E3779B9)
