"""How far judges agree beyond chance: Krippendorff's alpha (ordinal) and weighted kappa."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import isfinite, isqrt, nan

import numpy as np
from numpy.typing import NDArray

from tasks.stats.resampling import Interval, cluster_bootstrap

Floats = NDArray[np.float64]


def krippendorff_alpha(ratings: Sequence[Sequence[float | None]]) -> float:
    """Ordinal alpha (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").

    `ratings[judge][unit]`; `None` where a judge abstained. 1 is full agreement, 0 what chance gives. NaN
    where no unit has two ratings, or all ratings are the same (then nothing could have been confused).
    """
    columns = [[r for r in unit if r is not None] for unit in zip(*ratings, strict=True)]
    units = [unit for unit in columns if len(unit) > 1]
    scale = sorted({rating for unit in units for rating in unit})
    if len(scale) < 2:
        return nan
    position = {rating: i for i, rating in enumerate(scale)}
    coincidences = np.zeros((len(scale), len(scale)))
    for unit in units:
        counts = np.bincount([position[r] for r in unit], minlength=len(scale)).astype(float)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    totals = coincidences.sum(axis=1)
    distance = _ordinal_distance(totals)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    return float(1 - (coincidences * distance).sum() / (expected * distance).sum())


def _ordinal_distance(totals: Floats) -> Floats:
    """Squared number of ratings between two grades, half of each end counted: array (grades, grades)."""
    middles = np.cumsum(totals) - totals / 2
    return np.asarray((middles[:, None] - middles[None, :]) ** 2)


def weighted_kappa(first: Sequence[float], second: Sequence[float]) -> float:
    """Cohen's kappa of two judges on an ordinal scale, quadratic weights by rank of the grade. NaN where
    both gave one grade throughout."""
    from statsmodels.stats.inter_rater import cohens_kappa

    if len(first) != len(second):
        raise ValueError("both judges must have rated the same units")
    scale = sorted({*first, *second})
    if len(scale) < 2:
        return nan
    table = np.zeros((len(scale), len(scale)))
    for a, b in zip(first, second, strict=True):
        table[scale.index(a), scale.index(b)] += 1
    return float(cohens_kappa(table, wt="quadratic", return_results=False))


# How far people agree on categories beyond chance: Krippendorff's alpha and Cohen's kappa, both nominal.


def nominal_alpha(units: Sequence[Sequence[str]], seed: int) -> Interval | None:
    """Nominal alpha (Krippendorff 2011, "Computing Krippendorff's alpha-reliability") with its interval over
    resampled units.

    `units`: what was said of each; those of which fewer than two said anything do not count. `None` where no
    unit is left, or all say the same throughout (then nothing could have been confused).
    """
    shared = [unit for unit in units if len(unit) > 1]
    scale = sorted({category for unit in shared for category in unit})
    if len(scale) < 2:
        return None
    return cluster_bootstrap([_coincidences(unit, scale) for unit in shared], _alpha, seed)


def _coincidences(unit: Sequence[str], scale: Sequence[str]) -> Floats:
    """Pairs of what two people said of one unit, each weighed by 1 / (people - 1): array (k · k)."""
    counts = np.array([unit.count(category) for category in scale], dtype=float)
    return np.asarray((np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)).ravel()


def _alpha(totals: Floats) -> Floats:
    """Alpha of summed coincidences (…, k · k); NaN where only one category is left."""
    k = isqrt(totals.shape[-1])
    table = totals.reshape(*totals.shape[:-1], k, k)
    by_category = table.sum(axis=-1)
    said = by_category.sum(axis=-1)
    observed = said - np.trace(table, axis1=-2, axis2=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = (said**2 - (by_category**2).sum(axis=-1)) / (said - 1)
        return np.asarray(np.where(expected > 0, 1 - observed / expected, np.nan))


def nominal_kappa(pairs: Sequence[tuple[str, str]]) -> Interval | None:
    """Cohen's kappa of two people with its asymptotic 95 % interval (Fleiss, Cohen and Everitt 1969).

    `pairs`: what the two said of each unit that both saw. `None` where there is none, or both said the same
    of all.
    """
    from statsmodels.stats.inter_rater import cohens_kappa

    scale = sorted({category for pair in pairs for category in pair})
    if len(scale) < 2:
        return None
    table = np.zeros((len(scale), len(scale)))
    for first, second in pairs:
        table[scale.index(first), scale.index(second)] += 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no interval where the variance is not defined
        found = cohens_kappa(table)
    low, high = max(-1.0, float(found.kappa_low)), min(1.0, float(found.kappa_upp))
    known = isfinite(low) and isfinite(high)
    return Interval(float(found.kappa), low if known else None, high if known else None, len(pairs))
