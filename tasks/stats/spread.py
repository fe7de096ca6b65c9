"""The largest difference between groups, and how large it is when names are dealt to groups by chance.

The accuracy of the best group minus that of the worst is above 0 even where groups make no difference, and
the more so the fewer the names. So names are dealt anew: a matched set of names (one of every group)
exchanges its groups, and does so alike in every template in which it occurs, because a name that confuses a
model may confuse it everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from schemas.ids import derived_seed
from tasks.stats.bootstrap import Interval, cluster_bootstrap, ratio_of_sums
from tasks.stats.permutation import p_value

Floats = NDArray[np.float64]
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
