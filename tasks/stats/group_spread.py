"""The largest difference between many groups of which each was asked about in the same settings.

The best group's mean minus the worst one's is above 0 even where groups make no difference, and the more so
the more groups there are. So scores are dealt anew to the groups within each setting, and what is left above
the mean of these deals is reported beside the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.stats.bootstrap import REPLICATES, Interval
from tasks.stats.permutation import p_value
from tasks.stats.steady import column_totals

Floats = NDArray[np.float64]

DEALS = 999
Z_95 = 1.959964


@dataclass(frozen=True)
class GroupSpread:
    """The largest difference between groups' means, what of it is above chance, and p."""

    raw: Interval
    excess: Interval
    p_value: float


def group_spread(scores: ArrayLike, seed: int) -> GroupSpread:
    """`scores`: array (settings, groups), NaN where a group has none.

    Intervals are ± 1.96 bootstrap standard errors over settings: percentiles of a resampled maximum would be
    shifted upwards. Raises `ValueError` where fewer than two groups have a score.
    """
    x = np.asarray(scores, dtype=float)
    if x.ndim != 2 or int(np.isfinite(x).any(axis=0).sum()) < 2:
        raise ValueError("there are no two groups to compare")
    generator = np.random.default_rng(seed)
    sums, counts = np.nan_to_num(x), np.isfinite(x).astype(float)
    null = np.array([_largest_difference(x), *(_dealt(x, generator) for _ in range(DEALS))])
    half = _half_width(sums, counts, generator)
    observed = float(null[0])
    return GroupSpread(
        raw=_around(observed, half, len(x)),
        excess=_around(observed - float(null[1:].mean()), half, len(x)),
        p_value=p_value(null),
    )


def _largest_difference(scores: Floats) -> float:
    means = scores[:, np.isfinite(scores).any(axis=0)]
    means = np.nansum(means, axis=0) / np.isfinite(means).sum(axis=0)
    return float(means.max() - means.min())


def _dealt(scores: Floats, generator: np.random.Generator) -> float:
    return _largest_difference(generator.permuted(scores, axis=1))


def _half_width(sums: Floats, counts: Floats, generator: np.random.Generator) -> float | None:
    """1.96 standard errors over resampled settings; `None` for fewer than two settings."""
    n = len(sums)
    if n < 2:
        return None
    weights = generator.multinomial(n, np.full(n, 1 / n), size=REPLICATES).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = column_totals(weights, sums) / column_totals(weights, counts)
    return Z_95 * float(np.std(np.nanmax(means, axis=1) - np.nanmin(means, axis=1)))


def _around(value: float, half: float | None, n: int) -> Interval:
    if half is None:
        return Interval(value, None, None, n)
    return Interval(value, value - half, value + half, n)
