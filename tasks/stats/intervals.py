"""Intervals of means and of other statistics over clusters (questions, scenarios, templates, twin families).

Clusters are independent, rows inside a cluster are not. There are three cases:

- Fewer than `MIN_CLUSTERS` clusters, or a constant sample of unbounded values: no interval.
- Lumpy samples, in which most clusters share one value (most questions find nothing): if the values are
  bounded, a betting interval, which covers at any size and may cover too often. Otherwise no interval.
- All others: Student's t. If the sample is skewed, the bound of its long tail is moved to Hall's bound, and
  the other one half of the way.

Everything is computed in closed form from the clusters. No random numbers are involved.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from math import cbrt, sqrt

import numpy as np
from numpy.typing import ArrayLike

from tasks.stats.resampling import Floats, Interval, ratio_of_sums

Bounds = tuple[float, float]
"""Lowest and highest possible value of one row."""

SHARE_BOUNDS: Bounds = (0.0, 1.0)
SIGNED_BOUNDS: Bounds = (-1.0, 1.0)
"""Range of a difference between two shares, and of every other score in [-1, 1]."""

MIN_CLUSTERS = 7
"""Below this number of clusters an estimate has no interval."""
MIN_DEVIATING = 8
"""If values repeat, at least this many clusters must differ from the most frequent value for an interval by
Student's t. Fewer leave the skewness of the distribution unknown."""
FEW_CLUSTERS = 8
"""Up to this number of clusters, a small skewness is corrected. A small sample shows less than there is."""
SKEWED_FEW, SKEWED = 0.6, 1.1
"""Skewness is corrected if it exceeds this number of its standard errors (with few clusters, with more)."""

_BETS = np.sin((np.arange(64) + 0.5) / 64 * np.pi / 2) ** 2
"""Fractions of the capital, at the quantiles of the arcsine distribution."""
_DIGITS = 12


def mean_interval(
    values: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    clusters: Sequence[Hashable] | None = None,
    bounds: Bounds | None = None,
    level: float = 0.95,
) -> Interval:
    """Estimate a mean with an interval.

    Args:
        values: Shape (rows,).
        weights: Shape (rows,). Answers behind each value. Default: equal weights.
        clusters: Cluster of each row. Default: every row is independent of the others.
        bounds: Lowest and highest possible value. Without them, a lumpy sample has no interval.
        level: Coverage, between 0 and 1.

    Returns:
        The weighted mean over rows. `n` is the number of clusters.

    Raises:
        ValueError: If there are no values, or a value is out of bounds.

    References:
        Hall (1992), doi:10.1111/j.2517-6161.1992.tb01872.x (removal of skewness by transformation).
        Waudby-Smith and Ramdas (2024), doi:10.1093/jrsssb/qkad009 (betting).
    """
    totals = cluster_totals(values, weights=weights, clusters=clusters)
    value = float(ratio_of_sums(totals.sum(axis=0)))
    if len(totals) < MIN_CLUSTERS:
        return Interval(value, None, None, len(totals))
    means = totals[:, 0] / totals[:, 1]
    if bounds is not None:
        _check_bounds(np.asarray(values, dtype=float), bounds)
    if is_lumpy(means):
        low, high = (None, None) if bounds is None else betting_interval(means, totals[:, 1], bounds, level)
        return Interval(value, low, high, len(totals))
    return _within(transformed_interval(value, _pseudo_values(totals, ratio_of_sums), level), bounds)


def statistic_interval(
    totals: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    bounds: Bounds | None = None,
    level: float = 0.95,
) -> Interval:
    """Estimate a statistic of summed totals with an interval from jackknife pseudo-values.

    Args:
        totals: Shape (clusters, m). Sums or counts that each cluster contributes.
        statistic: Maps summed totals (…, m) to values (…).
        bounds: Range of the statistic. The interval is cut there.
        level: Coverage, between 0 and 1.

    Returns:
        The bounds are `None` for fewer than `MIN_CLUSTERS` clusters, if too few clusters differ from the
        most frequent one, or if the statistic is undefined without one of them.

    Raises:
        ValueError: If there are no clusters.

    References:
        Tukey (1958), "Bias and confidence in not quite large samples".
    """
    clusters = np.asarray(totals, dtype=float)
    if clusters.ndim != 2 or not len(clusters):
        raise ValueError("no clusters to estimate from")
    whole = clusters.sum(axis=0)
    without = np.asarray(statistic(whole - clusters), dtype=float)
    return jackknife_interval(float(statistic(whole)), without, bounds=bounds, level=level)


def jackknife_interval(
    value: float, without: Floats, *, bounds: Bounds | None = None, level: float = 0.95
) -> Interval:
    """Estimate an interval from jackknife pseudo-values, as `statistic_interval` does.

    Args:
        value: The statistic of all clusters.
        without: The statistic without each cluster.
        bounds: Range of the statistic.
        level: Coverage, between 0 and 1.
    """
    n = len(without)
    none = Interval(value, None, None, n)
    if n < MIN_CLUSTERS or not np.isfinite(value):
        return none
    pseudo = np.asarray(n * value - (n - 1) * without)
    if not np.isfinite(pseudo).all() or is_lumpy(pseudo):
        return none
    return _within(transformed_interval(value, pseudo, level), bounds)


def cluster_totals(
    values: ArrayLike, *, weights: ArrayLike | None = None, clusters: Sequence[Hashable] | None = None
) -> Floats:
    """Return each cluster's weighted sum and its weight: shape (clusters, 2), in order of appearance.

    Raises:
        ValueError: If there are no values, or a cluster weighs nothing.
    """
    x = np.asarray(values, dtype=float)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=float)
    rows = np.column_stack([x * w, w])
    if clusters is not None:
        places: dict[Hashable, int] = {}
        index = [places.setdefault(cluster, len(places)) for cluster in clusters]
        totals = np.zeros((len(places), 2))
        np.add.at(totals, index, rows)
        rows = totals
    if not len(rows):
        raise ValueError("no clusters to estimate from")
    if not (rows[:, 1] > 0).all():
        raise ValueError("every cluster needs a weight above 0")
    return rows


def is_lumpy(values: Floats) -> bool:
    """Return whether values repeat, and too few differ from the most frequent one to know their skewness."""
    scale = max(1.0, float(np.abs(values).max()))
    _, counts = np.unique((values / scale).round(_DIGITS), return_counts=True)
    most = int(counts.max())
    return most > 1 and len(values) - most < MIN_DEVIATING


def transformed_interval(value: float, pseudo_values: Floats, level: float = 0.95) -> Interval:
    """Return an interval by Student's t, corrected for skewness if the values are skewed.

    Args:
        value: The estimate.
        pseudo_values: Shape (clusters,). Their mean estimates the same quantity. Not all are equal.
        level: Coverage, between 0 and 1.

    References:
        Joanes and Gill (1998), doi:10.1111/1467-9884.00122 (skewness of a small sample).
    """
    n = len(pseudo_values)
    deviations = pseudo_values - pseudo_values.mean()
    variance = float((deviations**2).mean())
    skewness = float((deviations**3).mean()) / variance**1.5
    quantile = t_quantile(0.5 + level / 2, n - 1)
    low, high = -quantile, quantile
    if abs(skewness) > (SKEWED_FEW if n <= FEW_CLUSTERS else SKEWED) * _skewness_error(n):
        unbiased = skewness * sqrt(n * (n - 1)) / (n - 2)
        low, high = skewed_quantiles(quantile, unbiased / sqrt(n))
    error = sqrt(variance / (n - 1))
    return Interval(value, value + error * low, value + error * high, n)


def skewed_quantiles(quantile: float, skewness: float) -> tuple[float, float]:
    """Return the bounds of an interval, in standard errors from the estimate.

    The bound of the long tail is that of Hall's transformation. The other one is half way between its bound
    and the symmetric one, because the skewness is estimated.

    Args:
        quantile: Upper quantile of the studentised estimate without skewness.
        skewness: Skewness of the estimate. That of a mean is the skewness of the values over √n.

    References:
        Hall (1992), doi:10.1111/j.2517-6161.1992.tb01872.x.
    """
    low, high = -_inverse_of_hall(quantile, skewness), -_inverse_of_hall(-quantile, skewness)
    low = low if low < -quantile else (low - quantile) / 2
    high = high if high > quantile else (high + quantile) / 2
    return low, high


def t_interval(value: float, standard_error: float, clusters: int, level: float = 0.95) -> Interval:
    """Return an interval by Student's t with `clusters - 1` degrees of freedom.

    The bounds are `None` for fewer than `MIN_CLUSTERS` clusters, and without a standard error.
    """
    if clusters < MIN_CLUSTERS or not standard_error:
        return Interval(value, None, None, clusters)
    half = t_quantile(0.5 + level / 2, clusters - 1) * standard_error
    return Interval(value, value - half, value + half, clusters)


def _inverse_of_hall(x: float, skewness: float) -> float:
    # Hall's g(t) = t + γt²/3 + γ²t³/27 + γ/6, with t = (mean - μ) / standard error and the skewness γ of the
    # mean, has the inverse (cbrt(1 + γ(x - γ/6)) - 1) · 3/γ.
    if abs(skewness) < 1e-6:
        return x
    return (cbrt(1 + skewness * (x - skewness / 6)) - 1) * 3 / skewness


def _skewness_error(n: int) -> float:
    """Return the standard error of the skewness of a normal sample."""
    return sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))


@lru_cache(maxsize=4096)
def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def _pseudo_values(totals: Floats, statistic: Callable[[Floats], Floats]) -> Floats:
    """Return `n · statistic of all - (n - 1) · statistic without one`, per cluster."""
    n, whole = len(totals), totals.sum(axis=0)
    return np.asarray(n * statistic(whole) - (n - 1) * statistic(whole - totals), dtype=float)


# A bet against a mean m. Betting the fraction u of a capital of 1 on values above m yields
# prod(1 + u · w · (x / m - 1)) in the end. If m is the mean, the expected capital is at most 1, so that it
# reaches 2 / α with probability α / 2 at most. The capital of a fixed mixture of fractions falls as m rises,
# so the bound is a single root.


def betting_interval(
    means: Floats, weights: Floats, bounds: Bounds, level: float = 0.95
) -> tuple[float, float]:
    """Return an interval of a bounded mean that covers for every number of clusters.

    Args:
        means: Shape (clusters,). Mean of each cluster.
        weights: Shape (clusters,). Weight of each cluster, above 0.
        bounds: Lowest and highest possible value.
        level: Coverage, between 0 and 1.

    References:
        Waudby-Smith and Ramdas (2024), doi:10.1093/jrsssb/qkad009.
    """
    lowest, highest = bounds
    x, w = (means - lowest) / (highest - lowest), weights / weights.max()
    width, alpha = highest - lowest, 1 - level
    below = _lower_bound(x, w, 2 / alpha)
    above = _lower_bound(1 - x, w, 2 / alpha)
    return lowest + width * below, highest - width * above


def _lower_bound(x: Floats, w: Floats, limit: float) -> float:
    """Return the largest mean that values in [0, 1] refute from below."""
    # Equal clusters are counted, because most samples here repeat one value.
    cells, counts = np.unique(np.column_stack([x, w]).round(_DIGITS), axis=0, return_counts=True)

    def capital(mean: float) -> float:
        gains = _BETS[:, None] * cells[:, 1] * (cells[:, 0] / mean - 1)
        with np.errstate(over="ignore"):
            return float(np.exp((np.log1p(gains) * counts).sum(axis=1)).mean())

    if not cells[:, 0].any():
        return 0.0
    low, high = 0.0, float((x * w).sum() / w.sum())
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if capital(middle) >= limit else (low, middle)
    return low


def _check_bounds(values: Floats, bounds: Bounds) -> None:
    low, high = bounds
    if not (values.min() >= low - 1e-9 and values.max() <= high + 1e-9):
        span = f"{values.min():g} to {values.max():g}"
        raise ValueError(f"values from {span} are out of bounds [{low:g}, {high:g}]")


def _within(interval: Interval, bounds: Bounds | None) -> Interval:
    if bounds is None or interval.low is None or interval.high is None:
        return interval
    return Interval(interval.value, max(bounds[0], interval.low), min(bounds[1], interval.high), interval.n)
