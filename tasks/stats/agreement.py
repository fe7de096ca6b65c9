"""How far judges agree beyond chance: Krippendorff's alpha (ordinal) and weighted kappa."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

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
