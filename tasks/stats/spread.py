"""The largest difference between many groups of which each was asked about in the same settings.

The best group's mean minus the worst one's is above 0 even where groups make no difference, and the more so
the more groups there are. So scores are dealt anew to the groups within each setting, and what is left above
the mean of these deals is reported beside the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.tables import derived_seed
from tasks.stats.resampling import (
    REPLICATES,
    Interval,
    cluster_bootstrap,
    column_totals,
    p_value,
    ratio_of_sums,
)

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


# The largest difference between groups, and how large it is when names are dealt to groups by chance.
#
# The accuracy of the best group minus that of the worst is above 0 even where groups make no difference, and
# the more so the fewer the names. So names are dealt anew: a matched set of names (one of every group)
# exchanges its groups, and does so alike in every template in which it occurs, because a name that confuses a
# model may confuse it everywhere.


Groups = NDArray[np.int64]

DEALS = 999
"""Deals of names to groups beside the observed one."""


@dataclass(frozen=True)
class Cell:
    """One template with the names of one attribute: right answers and all answers by name, and each name's
    group in the observed deal (row 0) and in the others, array (deals, names)."""

    template: str
    right: Floats
    answers: Floats
    groups: Groups


@dataclass(frozen=True)
class Spread:
    """Of some cells together: the mean largest difference, its mean excess over chance, and p."""

    raw: Interval
    excess: Interval
    p_value: float


@lru_cache(maxsize=4096)
def deal_matched(names: tuple[str, ...]) -> Groups:
    """Deals of a matched set to its groups, array (deals, groups): by the names alone, so that a set is dealt
    alike wherever it occurs."""
    return deal(range(len(names)), derived_seed("deal", list(names)))


def deal(groups: Sequence[int], seed: int) -> Groups:
    """Deals of names to groups, array (deals, names); sizes of groups stay as they are."""
    observed = np.asarray(groups, dtype=np.int64)
    others = np.random.default_rng(seed).permuted(np.tile(observed, (DEALS, 1)), axis=1)
    return np.vstack([observed, others])


def largest_differences(cell: Cell) -> Floats:
    """Accuracy of the best minus that of the worst group, array (deals,), the observed one first. Groups
    without an answer are left out."""
    right, answers = _totals(cell.groups, cell.right), _totals(cell.groups, cell.answers)
    accuracies = np.divide(right, answers, out=np.full_like(right, np.nan), where=answers > 0)
    return np.asarray(np.nanmax(accuracies, axis=1) - np.nanmin(accuracies, axis=1))


def _totals(groups: Groups, by_name: Floats) -> Floats:
    """Sums over the names of each group, array (deals, groups)."""
    deals, size = len(groups), int(groups[0].max()) + 1
    if (by_name == by_name[0]).all():
        return np.tile(np.bincount(groups[0], minlength=size) * by_name[0], (deals, 1))
    places = groups + size * np.arange(deals)[:, None]
    totals = np.bincount(places.ravel(), weights=np.tile(by_name, deals), minlength=size * deals)
    return np.asarray(totals.reshape(deals, size), dtype=np.float64)


def spread_of(cells: Iterable[Cell], seed: int) -> Spread | None:
    """Means over cells, which are drawn one at a time; intervals by template. `None` without any cell."""
    templates, differences = [], []
    for cell in cells:
        templates.append(cell.template)
        differences.append(largest_differences(cell))
    if not templates:
        return None
    found = np.stack(differences)
    chance = found[:, 1:].mean(axis=1)
    _, cluster = np.unique(templates, return_inverse=True)
    totals = np.zeros((int(cluster.max()) + 1, 3))
    np.add.at(totals, cluster, np.column_stack([found[:, 0], found[:, 0] - chance, np.ones(len(found))]))
    return Spread(
        raw=cluster_bootstrap(totals[:, [0, 2]], ratio_of_sums, seed),
        excess=cluster_bootstrap(totals[:, [1, 2]], ratio_of_sums, seed),
        p_value=p_value(found.mean(axis=0)),
    )
