"""A signed mean (gap, contrast, change) with an interval and a test that agree about 0.

The test exchanges what has no effect if there is none: the sign of a paired difference, or the values of a
question. It is exact. The interval comes from `tasks.stats.intervals`, and covers any mean. Near the level of
the test, the two may disagree, so that a mean differs from 0 and its interval contains 0. They are combined:

- If only the test rejects 0, the p-value is that of the interval, the level at which a bound is 0.
- If only the test rejects 0 and the sample is lumpy (most clusters have the same score), the interval is cut.
  A betting interval does not use symmetry, and is wide if all questions have the same small difference.
- If only the interval excludes 0, it is extended to 0.

A confidence set may test every mean by another valid test: 0 and everything beyond by the exchanges, others
by the interval. Means between 0 and the bound are rejected by Markov's inequality, because a mean that is
2 / α times as large as its expectation has a probability of at most α / 2 if the scores have one sign.

References:
    Fisher (1935), The Design of Experiments. Lehmann and Romano (2005), Testing Statistical Hypotheses, 3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from tasks.stats.intervals import Bounds, cluster_totals, is_lumpy, mean_interval, statistic_interval
from tasks.stats.resampling import DRAWS, MAX_EXACT, Floats, Interval, sign_flip_p_value

LEVEL = 0.95
_STEPS = 40
_TOLERANCE = 1e-10


def signed_mean(
    values: ArrayLike,
    seed: int,
    *,
    weights: ArrayLike | None = None,
    clusters: Sequence[Hashable] | None = None,
    bounds: Bounds | None = None,
    nulls: Sequence[Floats] | None = None,
) -> tuple[Interval, float]:
    """Estimate a signed mean, and test if it is 0.

    Args:
        values: Shape (rows,).
        seed: Seed of the draws of the test.
        weights: Shape (rows,). Answers behind each value, for the mean. Default: equal weights.
        clusters: Cluster of each row. Default: every row is independent of the others.
        bounds: Lowest and highest possible value of a row.
        nulls: Possible sums of every cluster if there is no effect, with the observed one as entry 0.
            Default: the sum and its negative.

    Returns:
        The mean with its 95 % interval, and the two-sided p-value. If there is an interval, it excludes 0 if
        and only if p ≤ .05. The p-value is never below that of a sign test of all clusters.

    Raises:
        ValueError: If there are no values, or a value is out of bounds.
    """
    rows = np.asarray(values, dtype=float)
    interval = mean_interval(rows, weights=weights, clusters=clusters, bounds=bounds)
    if nulls is None:
        p_value = sign_flip_p_value(rows, seed, clusters=clusters)
    else:
        p_value = max(exchange_p_value(nulls, seed), 2.0 ** (1 - min(len(nulls), 1000)))
    totals = cluster_totals(rows, weights=weights, clusters=clusters)
    lumpy = is_lumpy(totals[:, 0] / totals[:, 1])
    at = partial(mean_interval, rows, weights=weights, clusters=clusters, bounds=bounds)
    return make_agree(interval, p_value, lambda level: at(level=level), lumpy=lumpy)


def signed_statistic(
    totals: ArrayLike,
    statistic: Callable[[Floats], Floats],
    p_value: float,
    *,
    bounds: Bounds | None = None,
) -> tuple[Interval, float]:
    """Estimate a signed statistic of summed totals, and make its interval agree with its test.

    Args:
        totals: Shape (clusters, m).
        statistic: Maps summed totals (…, m) to values (…).
        p_value: Of the test that the statistic is 0.
        bounds: Range of the statistic.

    Returns:
        As `signed_mean`.
    """
    at = partial(statistic_interval, totals, statistic, bounds=bounds)
    return make_agree(at(), p_value, lambda level: at(level=level), lumpy=False)


def make_agree(
    interval: Interval, p_value: float, at_level: Callable[[float], Interval], *, lumpy: bool
) -> tuple[Interval, float]:
    """Return an interval and a p-value of which both or neither reject 0.

    Args:
        interval: At the level .95.
        p_value: Of the test that the estimate is 0.
        at_level: Returns the interval at a level.
        lumpy: Whether most clusters have the same score.
    """
    if interval.low is None or interval.high is None:
        return interval, p_value
    covers = interval.low <= 0 <= interval.high
    if covers == (p_value > 1 - LEVEL):
        return interval, p_value
    if not covers:
        return Interval(interval.value, min(interval.low, 0.0), max(interval.high, 0.0), interval.n), p_value
    return (_cut(interval), p_value) if lumpy else (interval, _p_value_of(at_level))


def exchange_p_value(nulls: Sequence[Floats], seed: int) -> float:
    """Test if the mean of clusters is 0, each with its own possible sums (studentised permutation test).

    The statistic is Student's t. With only a sum and its negative per cluster, the test is a sign-flip test.

    Args:
        nulls: Possible sums of every cluster if there is no effect, with the observed one as entry 0.
        seed: Seed of the draws. The test is exact up to `MAX_EXACT` combinations.

    References:
        Janssen (1997), doi:10.1016/S0167-7152(97)00043-6.
    """
    if prod(len(null) for null in nulls) <= MAX_EXACT:
        sums, squares = np.zeros(1), np.zeros(1)
        for null in nulls:
            sums, squares = np.add.outer(sums, null).ravel(), np.add.outer(squares, null**2).ravel()
    else:
        generator = np.random.default_rng(seed)
        sums, squares = np.zeros(DRAWS + 1), np.zeros(DRAWS + 1)
        for null in nulls:
            drawn = np.concatenate([null[:1], null[generator.integers(len(null), size=DRAWS)]])
            sums, squares = sums + drawn, squares + drawn**2
    # t rises with this share, which is at most 1 and has no division by a variance of 0.
    share = np.divide(sums**2, squares, out=np.zeros_like(sums), where=squares > 0)
    return float(np.mean(share >= share[0] - _TOLERANCE * len(nulls)))


def _cut(interval: Interval) -> Interval:
    """Return the part of an interval on the side of its estimate, without means near 0."""
    least = (1 - LEVEL) / 2 * interval.value
    if interval.value > 0:
        return Interval(interval.value, least, interval.high, interval.n)
    return Interval(interval.value, interval.low, least, interval.n)


def _p_value_of(at_level: Callable[[float], Interval]) -> float:
    """Return 1 minus the largest level at which the interval excludes 0."""
    excluded, covered = 0.0, LEVEL
    for _ in range(_STEPS):
        level = (excluded + covered) / 2
        found = at_level(level)
        inside = found.low is None or found.high is None or found.low <= 0 <= found.high
        excluded, covered = (excluded, level) if inside else (level, covered)
    return 1 - excluded
