"""Correlations, and intervals of coefficients between -1 and 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np

from tasks.stats.intervals import MIN_CLUSTERS, t_quantile
from tasks.stats.resampling import Floats, Interval

_ROUNDING = 1e-9


def correlation_interval(
    pairs: Floats, clusters: Sequence[str], correlate: Callable[[Floats], float]
) -> Interval:
    """Estimate a correlation with an interval from jackknife values of the clusters, on Fisher's scale.

    Args:
        pairs: Shape (n, 2).
        clusters: Shape (n,). Cluster of each pair.
        correlate: `spearman` or `pearson`.

    Returns:
        The bounds are `None` with fewer than `MIN_CLUSTERS` clusters, and if the correlation is undefined or
        exactly 1 or -1 without one of them. The value is NaN if a side does not vary.
    """
    names = np.asarray(clusters)
    without = np.array([correlate(pairs[names != name]) for name in sorted(set(clusters))])
    return fisher_interval(correlate(pairs), without)


def fisher_interval(value: float, without: Floats, *, level: float = 0.95) -> Interval:
    """Estimate an interval of a coefficient between -1 and 1 from jackknife values, on Fisher's scale.

    Args:
        value: The coefficient of all clusters.
        without: The coefficient without each cluster.
        level: Coverage, between 0 and 1.

    Returns:
        The bounds are `None` with fewer than `MIN_CLUSTERS` clusters, and if the coefficient is undefined or
        exactly 1 or -1 without one of them.

    References:
        Fisher (1921), "On the probable error of a coefficient of correlation". Tukey (1958), "Bias and
        confidence in not quite large samples".
    """
    n, limit = len(without), 1 - _ROUNDING
    # NaN is not below the limit either.
    if n < MIN_CLUSTERS or not abs(value) < limit or not (np.abs(without) < limit).all():
        return Interval(value, None, None, n)
    pseudo = n * np.arctanh(value) - (n - 1) * np.arctanh(without)
    half = t_quantile((1 + level) / 2, n - 1) * float(pseudo.std(ddof=1)) / sqrt(n)
    low, high = np.tanh(np.arctanh(value) + half * np.array([-1.0, 1.0]))
    return Interval(value, float(low), float(high), n)


def spearman(pairs: Floats) -> float:
    """Return Spearman's rho with mean ranks for ties, or NaN if a side does not vary."""
    return pearson(np.column_stack([_mean_ranks(pairs[:, 0]), _mean_ranks(pairs[:, 1])]))


def pearson(pairs: Floats) -> float:
    """Return the correlation of both columns, or NaN if a side does not vary."""
    x, y = pairs[:, 0], pairs[:, 1]
    if not len(pairs) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _mean_ranks(values: Floats) -> Floats:
    _, places, counts = np.unique(values.round(12), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places], dtype=float)
