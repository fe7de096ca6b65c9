"""Resampling: permutation tests, and the energy statistic of a question's answers.

Releases are compared by their bytes. Matrix products go to BLAS. Its order of summation depends on threads
and on memory alignment, so that the last bit differs from run to run. `row_sums` and `column_totals` sum in a
fixed order instead.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import factorial, prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.tables import derived_seed

Floats = NDArray[np.float64]
Tail = Literal["greater", "both"]

CELLS = 2_000_000
"""Maximum number of products in memory at a time."""
MAX_EXACT = 10_000
"""Up to this number of permutations, a test is exact."""
DRAWS = 4_999
"""Permutations drawn if there are more than `MAX_EXACT`."""
ENERGY_RESAMPLES = 1000

_TOLERANCE = 1e-12


# Reproducible products.


def row_sums(rows: ArrayLike, weights: ArrayLike) -> Floats:
    """Return `rows @ weights` for shapes (n, m) and (m,), to the same bit in every run."""
    matrix, vector = np.asarray(rows), np.asarray(weights, dtype=float)
    block = max(1, CELLS // max(1, vector.size))
    parts = [(matrix[start : start + block] * vector).sum(axis=1) for start in range(0, len(matrix), block)]
    return np.concatenate(parts) if parts else np.zeros(0)


def column_totals(rows: ArrayLike, columns: ArrayLike) -> Floats:
    """Return `rows @ columns` for shapes (n, m) and (m, k), to the same bit in every run."""
    matrix = np.asarray(columns, dtype=float)
    return np.stack([row_sums(rows, matrix[:, k]) for k in range(matrix.shape[1])], axis=-1)


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float | None
    """`None` if there are too few clusters for an interval."""
    high: float | None
    n: int
    """Number of clusters."""


def ratio_of_sums(totals: Floats) -> Floats:
    """Return the first total over the second, shape (…). NaN if the second is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(totals[..., 0] / totals[..., 1])


# Permutation tests. Within a question, the values of its answers are exchanged. Over a slice, the test is
# stratified: every question keeps to its own exchanges. The observed arrangement always belongs to the null
# distribution, so that no p-value is 0.


@lru_cache(maxsize=64)
def arrangements(sizes: tuple[int, ...]) -> NDArray[np.int8]:
    """Return the ways to assign answers to values.

    Args:
        sizes: Number of answers per value.

    Returns:
        Shape (ways, answers). Indices of values. Row 0 is observed: the first `sizes[0]` answers belong to
        value 0, and so on. Values of equal size are interchangeable, so that two values of 3 give 10 ways.
        Beyond `MAX_EXACT` ways, `DRAWS` are drawn with a fixed seed.
    """
    observed = np.repeat(np.arange(len(sizes)), sizes).astype(np.int8)
    if count_arrangements(sizes) <= MAX_EXACT:
        rows = sorted(_partitions(tuple(range(sum(sizes))), tuple(sorted(enumerate(sizes)))))
        ways = np.array(rows, dtype=np.int8)
        first = int(np.flatnonzero((ways == observed).all(axis=1))[0])
        ways[[0, first]] = ways[[first, 0]]
    else:
        generator = np.random.default_rng(derived_seed("arrangements", list(sizes)))
        drawn = [generator.permutation(observed) for _ in range(DRAWS)]
        ways = np.vstack([observed, *drawn])
    ways.setflags(write=False)
    return ways


def count_arrangements(sizes: Sequence[int]) -> int:
    """Return the number of distinct arrangements, with values of equal size interchangeable."""
    ways = factorial(sum(sizes)) // prod(factorial(s) for s in sizes)
    return ways // prod(factorial(list(sizes).count(s)) for s in set(sizes))


def _partitions(answers: tuple[int, ...], free: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, ...]]:
    """Yield the distinct assignments of answers to free values, given as (value, size)."""
    if not answers:
        yield ()
        return
    # The lowest answer goes to one value of every size. The other answers of that value are chosen.
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
    """Return the permutation distribution of a difference between two means.

    Args:
        scores: Shape (n,). The first `size` scores belong to the first group, the others to the second.
        size: Size of the first group.

    Returns:
        Shape (permutations,). Mean of the first group minus mean of the second. Entry 0 is observed.
    """
    x = np.asarray(scores, dtype=float)
    sizes = (size, len(x) - size)
    first = (arrangements(sizes) == 0) / sizes[0]
    gaps = row_sums(first, x) - row_sums(arrangements(sizes) == 1, x) / sizes[1]
    # Groups of equal size are interchangeable in `arrangements`, so each way also counts as its mirror image.
    mirrored = sizes[0] == sizes[1] and count_arrangements(sizes) <= MAX_EXACT
    return np.concatenate([gaps, -gaps]) if mirrored else gaps


def p_value(null: ArrayLike, tail: Tail = "greater") -> float:
    """Return the share of a null distribution that is at least as extreme as entry 0, the observed value."""
    values = np.asarray(null, dtype=float)
    if tail == "both":
        values = np.abs(values)
    return float(np.mean(values >= values[0] - _TOLERANCE))


def pooled_p_value(nulls: Sequence[Floats], seed: int, tail: Tail = "greater") -> float:
    """Test a mean over questions, each with its own null distribution (stratified permutation test).

    Args:
        nulls: One null distribution per question, with the observed value as entry 0.
        seed: Seed of the draws. The test is exact up to `MAX_EXACT` combinations.
        tail: `greater` for a one-sided test, `both` for a two-sided one.

    Raises:
        ValueError: If there are no questions.
    """
    if not nulls:
        raise ValueError("no questions to pool")
    if prod(len(null) for null in nulls) <= MAX_EXACT:
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


def sign_flip_p_value(gaps: ArrayLike, seed: int, *, clusters: Sequence[Hashable] | None = None) -> float:
    """Test if the mean gap is 0: two-sided sign-flip test, exact up to 13 clusters.

    Args:
        gaps: Shape (questions,). One signed gap per question.
        seed: Seed of the draws.
        clusters: Cluster of each question. The gaps of one cluster change their sign together. Default:
            every question is independent of the others.
    """
    values = np.asarray(gaps, dtype=float)
    if clusters is not None:
        sums: dict[Hashable, float] = {}
        for cluster, value in zip(clusters, values.tolist(), strict=True):
            sums[cluster] = sums.get(cluster, 0.0) + value
        values = np.array(list(sums.values()))
    return pooled_p_value([np.array([g, -g]) for g in values], seed, "both")


# The energy statistic of one question: the excess of the mean distance between values over the mean distance
# within values (Székely and Rizzo 2013, doi:10.1016/j.jspi.2013.03.018).


@lru_cache(maxsize=4)
def excess_weights(sizes: tuple[int, ...]) -> Floats:
    """Return weights to multiply with pairwise distances for the excess under each arrangement.

    Args:
        sizes: Number of answers per value.

    Returns:
        Shape (ways, pairs). Pairs in the order of `np.triu_indices(n, 1)`.

    Raises:
        ValueError: If no pair is within a value, or no pair is between values.
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
    """Return the 95 % interval of the excess of one question.

    It contains two intervals: percentiles from answers resampled within each value, which are too narrow for
    large differences between few answers, and Student's t with a jackknife error, which is too narrow for
    small ones.

    Args:
        distances: Shape (pairs,). Pairs in the order of `np.triu_indices(n, 1)`.
        sizes: Number of answers per value.
        seed: Seed of the bootstrap.
    """
    generator = np.random.default_rng(seed)
    drawn = np.hstack([generator.multinomial(k, np.full(k, 1 / k), size=ENERGY_RESAMPLES) for k in sizes])
    labels = np.repeat(np.arange(len(sizes)), sizes)
    # Pairs of an answer with its own copy are left out. Their distance of 0 would make values look tighter.
    i, j = np.triu_indices(len(labels), 1)
    weights, same = drawn[:, i] * drawn[:, j], labels[i] == labels[j]
    with np.errstate(invalid="ignore"):
        within = row_sums(weights[:, same], distances[same]) / weights[:, same].sum(axis=1)
        between = row_sums(weights[:, ~same], distances[~same]) / weights[:, ~same].sum(axis=1)
    excess = (between - within)[np.isfinite(between - within)]
    if not len(excess):
        return None, None
    low, high = np.quantile(excess, [0.025, 0.975])
    around = _jackknife_bounds(distances, labels)
    if around is not None:
        low, high = min(low, around[0]), max(high, around[1])
    return float(low), float(high)


def _jackknife_bounds(distances: Floats, labels: NDArray[np.int64]) -> tuple[float, float] | None:
    """Return bounds from leaving out one answer at a time, with Satterthwaite's degrees of freedom.

    Returns:
        `None` if the excess is undefined without one of the answers, or does not depend on them.

    References:
        Satterthwaite (1946), doi:10.2307/3002019.
    """
    n = len(labels)
    full = np.zeros((n, n))
    full[np.triu_indices(n, 1)] = distances
    full += full.T
    same = labels[:, None] == labels
    own = same & ~np.eye(n, dtype=bool)
    inner, outer = (full * own).sum(axis=1), (full * ~same).sum(axis=1)
    inner_pairs, outer_pairs = own.sum(axis=1), (~same).sum(axis=1)
    # Every pair is counted twice in the totals, and once among those of either answer.
    left_in, left_out = inner_pairs.sum() / 2 - inner_pairs, outer_pairs.sum() / 2 - outer_pairs
    if not (left_in > 0).all() or not (left_out > 0).all():
        return None
    without = (outer.sum() / 2 - outer) / left_out - (inner.sum() / 2 - inner) / left_in
    by_value = [without[labels == k] for k in range(int(labels.max()) + 1)]
    parts = [float(((values - values.mean()) ** 2).sum()) for values in by_value]
    variance = sum(parts)
    if variance <= 0:
        return None
    freedom = variance**2 / sum(
        part**2 / max(1, len(values) - 1) for values, part in zip(by_value, parts, strict=True)
    )
    from scipy.special import stdtrit

    value = outer.sum() / outer_pairs.sum() - inner.sum() / inner_pairs.sum()
    half = float(stdtrit(max(1.0, freedom), 0.975)) * variance**0.5
    return float(value - half), float(value + half)
