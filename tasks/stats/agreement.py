"""Agreement beyond chance: Cohen's kappa and Krippendorff's alpha, on nominal and on ordinal scales.

`kappa_of_tables` and `alpha_of_tables` hold the formulas. The other functions count their tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isnan, isqrt, nan
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from tasks.stats.correlations import fisher_interval
from tasks.stats.intervals import SIGNED_BOUNDS, jackknife_interval
from tasks.stats.resampling import Floats, Interval

MIN_BY_CHANCE = 4
"""Units that must agree by chance outside the most frequent category for an interval."""
Scale = Literal["nominal", "ordinal"]
"""Whether all disagreements count the same, or distant grades count more."""


def kappa_of_tables(tables: ArrayLike, scale: Scale) -> Floats:
    """Compute Cohen's kappa of many confusion tables at once.

    Args:
        tables: Shape (…, k, k). Counts, one rater in rows, the other in columns, categories in order.
        scale: `nominal` gives the plain kappa, `ordinal` weights disagreements quadratically by rank.

    Returns:
        Shape (…), at most 1. NaN if chance alone gives full agreement, or if the table is empty.

    References:
        Cohen (1960), doi:10.1177/001316446002000104. Cohen (1968), doi:10.1037/h0026256.
    """
    counts = np.asarray(tables, dtype=float)
    n = counts.sum(axis=(-2, -1))
    rows, columns = counts.sum(axis=-1), counts.sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        if scale == "nominal":
            # (observed - expected) / (1 - expected) agreement
            expected = (rows * columns).sum(axis=-1) / n**2
            observed = np.trace(counts, axis1=-2, axis2=-1) / n
            return np.asarray(np.where(expected < 1, (observed - expected) / (1 - expected), nan))
        # 1 - observed / expected disagreement
        rank = np.arange(counts.shape[-1], dtype=float)
        weights = (rank[:, None] - rank) ** 2 / max(1, len(rank) - 1) ** 2
        expected = (columns / n[..., None])[..., None, :] * (rows / n[..., None])[..., :, None]
        by_chance = (weights * expected).sum(axis=(-2, -1))
        disagreement = (weights * counts).sum(axis=(-2, -1)) / n
        return np.asarray(np.where(by_chance > 0, 1 - disagreement / by_chance, nan))


def alpha_of_tables(coincidences: ArrayLike, scale: Scale) -> Floats:
    """Compute Krippendorff's alpha of many coincidence tables at once.

    Args:
        coincidences: Shape (…, k, k). Sums of `coincidences_of` over units, categories in order.
        scale: `ordinal` takes the squared number of ratings between two grades as their distance.

    Returns:
        Shape (…), at most 1. NaN if fewer than two categories occur.

    References:
        Krippendorff (2011), "Computing Krippendorff's alpha-reliability".
    """
    counts = np.asarray(coincidences, dtype=float)
    totals = counts.sum(axis=-1)
    diagonal = np.eye(counts.shape[-1])
    if scale == "ordinal":
        # Half of the ratings with either grade lie between two grades.
        middle = np.cumsum(totals, axis=-1) - totals / 2
        distance = (middle[..., :, None] - middle[..., None, :]) ** 2
    else:
        distance = 1 - diagonal
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = totals[..., :, None] * totals[..., None, :] - diagonal * totals[..., None, :]
        expected = pairs / (totals.sum(axis=-1) - 1)[..., None, None]
        by_chance = (expected * distance).sum(axis=(-2, -1))
        observed = (counts * distance).sum(axis=(-2, -1))
        return np.asarray(np.where(by_chance > 0, 1 - observed / by_chance, nan))


def coincidences_of(ratings: Sequence[Any], scale: Sequence[Any]) -> Floats:
    """Count the ordered pairs of ratings of one unit, each weighted by 1 / (ratings - 1): shape (k, k)."""
    counts = np.array([ratings.count(category) for category in scale], dtype=float)
    return np.asarray((np.outer(counts, counts) - np.diag(counts)) / (len(ratings) - 1))


def confusion_table(pairs: Iterable[tuple[Any, Any]], scale: Sequence[Any]) -> Floats:
    """Count pairs of ratings by the position of each rating in `scale`: shape (k, k)."""
    table = np.zeros((len(scale), len(scale)))
    for first, second in pairs:
        table[scale.index(first), scale.index(second)] += 1
    return table


def krippendorff_alpha(ratings: Sequence[Sequence[float | None]]) -> float:
    """Compute ordinal alpha.

    Args:
        ratings: `ratings[judge][unit]`, `None` for an abstention.

    Returns:
        1 for full agreement, about 0 for chance agreement. NaN if no unit has two ratings, or if all
        ratings are the same.
    """
    columns = [[r for r in unit if r is not None] for unit in zip(*ratings, strict=True)]
    units = [unit for unit in columns if len(unit) > 1]
    scale = sorted({rating for unit in units for rating in unit})
    if len(scale) < 2:
        return nan
    table = np.zeros((len(scale), len(scale)))
    for unit in units:
        table += coincidences_of(unit, scale)
    return float(alpha_of_tables(table, "ordinal"))


def nominal_alpha(units: Sequence[Sequence[str]]) -> Interval | None:
    """Estimate nominal alpha with an interval from jackknife values of the units.

    Args:
        units: The categories given to each unit. Units with fewer than two do not count.

    Returns:
        `None` if fewer than two categories occur.
    """
    shared = [unit for unit in units if len(unit) > 1]
    scale = sorted({category for unit in shared for category in unit})
    if len(scale) < 2:
        return None
    return _agreement_interval([coincidences_of(unit, scale).ravel() for unit in shared], _nominal_alpha)


def _nominal_alpha(totals: Floats) -> Floats:
    return alpha_of_tables(_square(totals), "nominal")


def _agreement_interval(
    tables: ArrayLike, statistic: Callable[[Floats], Floats], *, weighted: bool = False
) -> Interval:
    """Estimate a coefficient from flat tables, one per unit or cluster: shape (units, k²).

    The interval comes from jackknife values on Fisher's scale. If no more than one unit disagrees, it comes
    from the plain scale, which covers for coefficients without weights only.

    Args:
        tables: Flat tables.
        statistic: Maps summed tables to coefficients.
        weighted: The coefficient gives a part of the credit for near grades.

    Returns:
        The bounds are `None` if chance alone would let fewer than `MIN_BY_CHANCE` units agree outside the
        most frequent category. The sample then depends on single units. They are also `None` if no more
        than one unit disagrees about several weighted grades.
    """
    units = np.asarray(tables, dtype=float)
    whole = units.sum(axis=0)
    counts = _square(whole)
    value, without = float(statistic(whole)), np.asarray(statistic(whole - units), dtype=float)
    by_chance = counts.sum(axis=1) * counts.sum(axis=0) / counts.sum() ** 2 * len(units)
    if by_chance.sum() - by_chance.max() < MIN_BY_CHANCE:
        return Interval(value, None, None, len(units))
    found = fisher_interval(value, without)
    if found.low is None and not (weighted and len(counts) > 2):
        return jackknife_interval(value, without, bounds=SIGNED_BOUNDS)
    return found


def weighted_kappa(first: Sequence[float], second: Sequence[float]) -> float:
    """Compute Cohen's kappa of two raters on an ordinal scale, with quadratic weights by rank of the grade.

    Args:
        first: One rater's grades, by unit.
        second: The other rater's grades of the same units.

    Returns:
        NaN if both gave the same grade to every unit, or if there is no unit.

    Raises:
        ValueError: If the raters have different numbers of grades.
    """
    if len(first) != len(second):
        raise ValueError("both judges must have rated the same units")
    scale = sorted({*first, *second})
    if len(scale) < 2:
        return nan
    return float(kappa_of_tables(confusion_table(zip(first, second, strict=True), scale), "ordinal"))


def nominal_kappa(pairs: Sequence[tuple[str, str]]) -> Interval | None:
    """Estimate Cohen's kappa of two people with an interval from jackknife values of the units.

    Args:
        pairs: Both people's categories of each unit that both saw.

    Returns:
        `None` if fewer than two categories occur.
    """
    scale = sorted({category for pair in pairs for category in pair})
    if len(scale) < 2:
        return None
    return _agreement_interval([confusion_table([pair], scale).ravel() for pair in pairs], _nominal_kappa)


def _nominal_kappa(totals: Floats) -> Floats:
    return kappa_of_tables(_square(totals), "nominal")


def kappa_of_votes(both_yes: int, only_first: int, only_second: int, both_no: int) -> float | None:
    """Compute Cohen's kappa of two raters' yes/no votes, or `None` if it is undefined."""
    kappa = float(kappa_of_tables([[both_yes, only_first], [only_second, both_no]], "nominal"))
    return None if isnan(kappa) else kappa


def confusion_by_cluster(rows: Iterable[tuple[str, int, int]], grades: int) -> Floats:
    """Count a judge's grades against a key, one table per cluster.

    Args:
        rows: (cluster, grade in the key, grade given), grades from 0.
        grades: Number of grades.

    Returns:
        Shape (clusters, grades²), clusters sorted by name. Column `key · grades + given`.
    """
    counts: dict[str, Floats] = {}
    for cluster, key, given in rows:
        counts.setdefault(cluster, np.zeros(grades * grades))[key * grades + given] += 1
    return np.array([cells for _, cells in sorted(counts.items())]).reshape(len(counts), grades * grades)


def kappa_with_interval(tables: Floats) -> Interval | None:
    """Estimate Cohen's kappa with an interval from jackknife values of the clusters.

    Args:
        tables: Shape (clusters, k²), as from `confusion_by_cluster`. Weights are quadratic, which for two
            grades is the plain kappa.

    Returns:
        `None` without clusters, or if key and judge both gave one grade throughout.
    """
    if not len(tables):
        return None
    interval = _agreement_interval(tables, _ordinal_kappa, weighted=True)
    return None if isnan(interval.value) else interval


def _ordinal_kappa(totals: Floats) -> Floats:
    return kappa_of_tables(_square(totals), "ordinal")


def _square(totals: Floats) -> Floats:
    """Return flat tables (…, k²) as (…, k, k)."""
    k = isqrt(totals.shape[-1])
    return totals.reshape(*totals.shape[:-1], k, k)
