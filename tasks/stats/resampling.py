"""Products of arrays whose last bit does not depend on the run.

A matrix product goes to BLAS, whose order of summation depends on threads and on where in memory the
operands happen to lie, so that the same numbers give results that differ by 1e-16 from run to run. Releases
are compared by their bytes: here products are summed by NumPy's own pairwise summation, in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import factorial, prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.tables import derived_seed

Floats = NDArray[np.float64]

CELLS = 2_000_000
"""Products that are held at a time."""


def row_sums(rows: ArrayLike, weights: ArrayLike) -> Floats:
    """`rows @ weights` for an array (n, m) and a vector (m,)."""
    matrix, vector = np.asarray(rows), np.asarray(weights, dtype=float)
    block = max(1, CELLS // max(1, vector.size))
    parts = [(matrix[start : start + block] * vector).sum(axis=1) for start in range(0, len(matrix), block)]
    return np.concatenate(parts) if parts else np.zeros(0)


def column_totals(rows: ArrayLike, columns: ArrayLike) -> Floats:
    """`rows @ columns` for arrays (n, m) and (m, k)."""
    matrix = np.asarray(columns, dtype=float)
    return np.stack([row_sums(rows, matrix[:, k]) for k in range(matrix.shape[1])], axis=-1)


# Intervals by resampling whole clusters (questions, scenarios, templates), never single rows.


REPLICATES = 2000
EXACT_UP_TO = 5
"""So many clusters or fewer: all n^n resamples are enumerated instead of drawn."""

_BLOCK_CELLS = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A statistic with its percentile interval; `low` and `high` are `None` for fewer than two clusters."""

    value: float
    low: float | None
    high: float | None
    n: int


def cluster_bootstrap(
    totals: ArrayLike,
    statistic: Callable[[Floats], Floats],
    seed: int,
    *,
    replicates: int = REPLICATES,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a statistic of totals over clusters.

    `totals`: array (clusters, m), what each cluster adds (sums, counts); `statistic` maps summed totals
    (…, m) to values (…). The same seed and the same clusters in the same order give the same interval.
    Raises `ValueError` without any cluster.
    """
    clusters = np.asarray(totals, dtype=float)
    if clusters.ndim != 2 or not len(clusters):
        raise ValueError("no clusters to resample")
    value = float(statistic(clusters.sum(axis=0)))
    if len(clusters) < 2:
        return Interval(value, None, None, len(clusters))
    draws = [
        statistic(column_totals(weights, clusters)) for weights in _weights(len(clusters), seed, replicates)
    ]
    low, high = _percentiles(np.concatenate(draws), level)
    if low is not None and high is not None and high - low <= 1e-12 * max(1.0, abs(value)):
        low = high = value
    return Interval(value, low, high, len(clusters))


def mean_with_interval(values: ArrayLike, seed: int, *, weights: ArrayLike | None = None) -> Interval:
    """The mean over clusters of one value each; `weights` (rows behind each) make it a ratio of sums."""
    x = np.asarray(values, dtype=float)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=float)
    return cluster_bootstrap(np.column_stack([x * w, w]), ratio_of_sums, seed)


def ratio_of_sums(totals: Floats) -> Floats:
    """First total over second; NaN where the second is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(totals[..., 0] / totals[..., 1])


def _weights(n: int, seed: int, replicates: int) -> Iterator[Floats]:
    if n <= EXACT_UP_TO:
        yield np.array([np.bincount(draw, minlength=n) for draw in product(range(n), repeat=n)], dtype=float)
        return
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // n)
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        yield generator.multinomial(n, np.full(n, 1 / n), size=size).astype(float)


def _percentiles(draws: Floats, level: float) -> tuple[float | None, float | None]:
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return None, None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)


# Permutation tests on two levels: answers within a question, and questions pooled over a slice.
#
# Within a question the labels of its answers are exchanged, exactly where there are few ways to do so. Over
# a slice every question keeps to its own exchanges (a stratified test), and the mean over questions is
# compared. The observed arrangement always counts among the null, so no p is ever 0.


Tail = Literal["greater", "both"]

EXACT_UP_TO_PERMUTATION = 10_000
DRAWS = 4_999

_TOLERANCE = 1e-12


@lru_cache(maxsize=64)
def arrangements(sizes: tuple[int, ...]) -> NDArray[np.int8]:
    """Ways to deal n answers to values that get `sizes` of them: array (ways, n) of value indices.

    Row 0 is the observed one (the first `sizes[0]` answers to value 0, …). Values of equal size are not
    told apart, so two values of 3 give 10 ways. Beyond 10,000 ways, 4,999 are drawn with a fixed seed.
    """
    observed = np.repeat(np.arange(len(sizes)), sizes).astype(np.int8)
    if count_arrangements(sizes) <= EXACT_UP_TO_PERMUTATION:
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
    mirrored = sizes[0] == sizes[1] and count_arrangements(sizes) <= EXACT_UP_TO_PERMUTATION
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
    if prod(len(null) for null in nulls) <= EXACT_UP_TO_PERMUTATION:
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


# How much further apart two values' answers are than answers for one value (an energy statistic).


RESAMPLES = 1000


@lru_cache(maxsize=4)
def excess_weights(sizes: tuple[int, ...]) -> Floats:
    """Array (ways, pairs): its product with the pairs' distances is the mean between minus within values.

    Pairs are those of `np.triu_indices(n, 1)`. Raises `ValueError` without a pair of either kind.
    """
    labels = arrangements(sizes)
    i, j = np.triu_indices(labels.shape[1], 1)
    same = labels[:, i] == labels[:, j]
    within = int(same[0].sum())
    between = same.shape[1] - within
    if not within or not between:
        raise ValueError("there must be pairs of answers within and between values")
    weights = np.where(same, -1 / within, 1 / between)
    weights.setflags(write=False)
    return weights


def excess_interval(distances: Floats, sizes: Sequence[int], seed: int) -> tuple[float | None, float | None]:
    """95 % interval of the excess, answers resampled within each value.

    A resample holds some answers twice; a pair of copies has distance 0 and would make every value look
    tighter than it is, so such pairs are left out.
    """
    generator = np.random.default_rng(seed)
    drawn = np.hstack([generator.multinomial(k, np.full(k, 1 / k), size=RESAMPLES) for k in sizes])
    labels = np.repeat(np.arange(len(sizes)), sizes)
    i, j = np.triu_indices(len(labels), 1)
    weights, same = drawn[:, i] * drawn[:, j], labels[i] == labels[j]
    with np.errstate(invalid="ignore"):
        within = row_sums(weights[:, same], distances[same]) / weights[:, same].sum(axis=1)
        between = row_sums(weights[:, ~same], distances[~same]) / weights[:, ~same].sum(axis=1)
    excess = (between - within)[np.isfinite(between - within)]
    if not len(excess):
        return None, None
    low, high = np.quantile(excess, [0.025, 0.975])
    return float(low), float(high)
