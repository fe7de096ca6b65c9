"""Permutation tests on two levels: answers within a question, and questions pooled over a slice.

Within a question the labels of its answers are exchanged, exactly where there are few ways to do so. Over
a slice every question keeps to its own exchanges (a stratified test), and the mean over questions is
compared. The observed arrangement always counts among the null, so no p is ever 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from math import factorial, prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.ids import derived_seed
from tasks.stats.steady import row_sums

Floats = NDArray[np.float64]
Tail = Literal["greater", "both"]

EXACT_UP_TO = 10_000
DRAWS = 4_999

_TOLERANCE = 1e-12


@lru_cache(maxsize=64)
def arrangements(sizes: tuple[int, ...]) -> NDArray[np.int8]:
    """Ways to deal n answers to values that get `sizes` of them: array (ways, n) of value indices.

    Row 0 is the observed one (the first `sizes[0]` answers to value 0, …). Values of equal size are not
    told apart, so two values of 3 give 10 ways. Beyond 10,000 ways, 4,999 are drawn with a fixed seed.
    """
    observed = np.repeat(np.arange(len(sizes)), sizes).astype(np.int8)
    if count_arrangements(sizes) <= EXACT_UP_TO:
        rows = sorted(_partitions(tuple(range(sum(sizes))), tuple(sorted(enumerate(sizes)))))
        found = np.array(rows, dtype=np.int8)
        first = int(np.flatnonzero((found == observed).all(axis=1))[0])
        found[[0, first]] = found[[first, 0]]
    else:
        generator = np.random.default_rng(derived_seed("arrangements", list(sizes)))
        drawn = [generator.permutation(observed) for _ in range(DRAWS)]
        found = np.vstack([observed, *drawn])
    found.setflags(write=False)
    return found


def count_arrangements(sizes: Sequence[int]) -> int:
    """Number of distinct ways, values of equal size not told apart."""
    ways = factorial(sum(sizes)) // prod(factorial(s) for s in sizes)
    return ways // prod(factorial(list(sizes).count(s)) for s in set(sizes))


def _partitions(answers: tuple[int, ...], free: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, ...]]:
    """The lowest answer goes to one value of every size; the rest of that value's answers are chosen."""
    if not answers:
        yield ()
        return
    first, rest = answers[0], answers[1:]
    for size in sorted({s for _, s in free if s}):
        value = min(v for v, s in free if s == size)
        others = tuple(f for f in free if f[0] != value)
        for chosen in combinations(rest, size - 1):
            members = {first, *chosen}
            left = tuple(a for a in rest if a not in members)
            for tail in _partitions(left, others):
                labels = iter(tail)
                yield tuple(value if a in members else next(labels) for a in answers)


def gap_null(scores: ArrayLike, size: int) -> Floats:
    """All exchanges of the mean of the first `size` scores minus the mean of the others; [0] is observed."""
    x = np.asarray(scores, dtype=float)
    sizes = (size, len(x) - size)
    first = (arrangements(sizes) == 0) / sizes[0]
    gaps = row_sums(first, x) - row_sums(arrangements(sizes) == 1, x) / sizes[1]
    # Values of equal size are not told apart, so each way stands for its mirror image as well.
    mirrored = sizes[0] == sizes[1] and count_arrangements(sizes) <= EXACT_UP_TO
    return np.concatenate([gaps, -gaps]) if mirrored else gaps


def p_value(null: ArrayLike, tail: Tail = "greater") -> float:
    """Share of the null that is at least as far out as its first entry, the observed one."""
    values = np.asarray(null, dtype=float)
    if tail == "both":
        values = np.abs(values)
    return float(np.mean(values >= values[0] - _TOLERANCE))


def pooled_p_value(nulls: Sequence[Floats], seed: int, tail: Tail = "greater") -> float:
    """p of the mean over questions, each with its own null (first entry observed): a stratified test.

    Exact where there are at most 10,000 combinations. Raises `ValueError` without any question.
    """
    if not nulls:
        raise ValueError("no questions to pool")
    if prod(len(null) for null in nulls) <= EXACT_UP_TO:
        total = np.zeros(1)
        for null in nulls:
            total = np.add.outer(total, null).ravel()
        return p_value(total, tail)
    generator = np.random.default_rng(seed)
    sums = np.zeros(DRAWS + 1)
    for null in nulls:
        sums[0] += null[0]
        sums[1:] += null[generator.integers(len(null), size=DRAWS)]
    return p_value(sums, tail)


def sign_flip_p_value(gaps: ArrayLike, seed: int) -> float:
    """Two-sided p that the mean of one gap per question is 0, by flipping signs; exact up to 14 questions."""
    values = np.asarray(gaps, dtype=float)
    return pooled_p_value([np.array([g, -g]) for g in values], seed, "both")
