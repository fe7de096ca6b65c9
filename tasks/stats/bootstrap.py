"""Intervals by resampling whole clusters (questions, scenarios, templates), never single rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.stats.steady import column_totals

Floats = NDArray[np.float64]

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
