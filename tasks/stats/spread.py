"""The spread between many groups: the best group's mean minus the worst group's.

The spread is above 0 even if groups make no difference, and the more so the more groups there are and the
fewer scores each has. So scores are permuted between groups, and the spread minus its mean over permutations
(the excess) is reported beside it.

- `group_spread` permutes scores within settings in which all groups were asked.
- `spread_of_templates` permutes names within matched sets, the same way in every template.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.tables import derived_seed
from tasks.stats.intervals import SHARE_BOUNDS, SIGNED_BOUNDS, mean_interval, statistic_interval
from tasks.stats.resampling import Floats, Interval, p_value

Groups = NDArray[np.int64]

DEALS = 999
"""Permutations beside the observed arrangement."""


@dataclass(frozen=True)
class Spread:
    """The largest difference between groups' means, and its permutation test."""

    raw: Interval
    excess: Interval
    """`raw` minus its mean over permutations."""
    p_value: float
    """One-sided."""


# Groups asked in the same settings.


def group_spread(scores: ArrayLike, seed: int) -> Spread:
    """Estimate the spread between groups, and test it by permuting groups within each setting.

    Args:
        scores: Shape (settings, groups). NaN if a group has no score in a setting.
        seed: Seed of the permutations.

    Returns:
        Intervals from jackknife values of the settings, around the spread that as many settings have on
        average. The bounds are `None` for fewer than `MIN_CLUSTERS` settings.

    Raises:
        ValueError: If fewer than two groups have a score.
    """
    x = np.asarray(scores, dtype=float)
    if x.ndim != 2 or int(np.isfinite(x).any(axis=0).sum()) < 2:
        raise ValueError("there are no two groups to compare")
    generator = np.random.default_rng(seed)
    permuted = (_largest_difference(generator.permuted(x, axis=1)) for _ in range(DEALS))
    null = np.array([_largest_difference(x), *permuted])
    raw = spread_interval(x)
    return Spread(raw=raw, excess=_shifted(raw, -float(null[1:].mean())), p_value=p_value(null))


def _largest_difference(scores: Floats) -> float:
    measured = scores[:, np.isfinite(scores).any(axis=0)]
    means = np.nansum(measured, axis=0) / np.isfinite(measured).sum(axis=0)
    return float(means.max() - means.min())


def spread_interval(scores: Floats) -> Interval:
    """Return the largest difference between groups' means with its interval.

    Args:
        scores: Shape (settings, groups). NaN if a group has no score in a setting.
    """
    totals = np.hstack([np.nan_to_num(scores), np.isfinite(scores)])
    return statistic_interval(totals, _spread_of_totals, bounds=(0.0, inf))


def _spread_of_totals(totals: Floats) -> Floats:
    """Return the largest difference between means, from sums and counts by group: shape (…, 2 · groups)."""
    sums, counts = np.split(totals, 2, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / counts
    high = np.where(counts > 0, means, -inf).max(axis=-1)
    return np.asarray(high - np.where(counts > 0, means, inf).min(axis=-1))


def _shifted(interval: Interval, by: float) -> Interval:
    low, high = (None if bound is None else bound + by for bound in (interval.low, interval.high))
    return Interval(interval.value + by, low, high, interval.n)


# Groups represented by names. A matched set has one name of every group. It is permuted the same way in every
# template, because a name that confuses a model may do so everywhere.


@dataclass(frozen=True)
class TemplateAnswers:
    """Answers to one template with the names of one attribute."""

    template: str
    right: Floats
    """Shape (names,). Number of right answers."""
    answers: Floats
    """Shape (names,). Number of answers."""
    groups: Groups
    """Shape (deals, names). Group of each name. Row 0 is observed, the others are permutations."""


@lru_cache(maxsize=4096)
def deal_matched(names: tuple[str, ...]) -> Groups:
    """Permute the groups of a matched set of names.

    The seed depends on the names alone, so that a set is permuted the same way in every template.

    Returns:
        Shape (deals, names). Row 0 is observed.
    """
    return deal(range(len(names)), derived_seed("deal", list(names)))


def deal(groups: Sequence[int], seed: int) -> Groups:
    """Permute the groups of names, keeping the size of every group.

    Args:
        groups: Observed group of each name.
        seed: Seed of the permutations.

    Returns:
        Shape (deals, names). Row 0 is observed.
    """
    observed = np.asarray(groups, dtype=np.int64)
    permuted = np.random.default_rng(seed).permuted(np.tile(observed, (DEALS, 1)), axis=1)
    return np.vstack([observed, permuted])


def largest_differences(template: TemplateAnswers) -> Floats:
    """Return the best group's accuracy minus the worst group's under each deal, without empty groups.

    Returns:
        Shape (deals,). Entry 0 is observed.
    """
    right = _totals_by_group(template.groups, template.right)
    answers = _totals_by_group(template.groups, template.answers)
    accuracies = np.divide(right, answers, out=np.full_like(right, np.nan), where=answers > 0)
    return np.asarray(np.nanmax(accuracies, axis=1) - np.nanmin(accuracies, axis=1))


def _totals_by_group(groups: Groups, by_name: Floats) -> Floats:
    """Sum over the names of each group: shape (deals, groups)."""
    deals, size = len(groups), int(groups[0].max()) + 1
    if (by_name == by_name[0]).all():  # the same for every deal
        return np.tile(np.bincount(groups[0], minlength=size) * by_name[0], (deals, 1))
    bins = groups + size * np.arange(deals)[:, None]
    totals = np.bincount(bins.ravel(), weights=np.tile(by_name, deals), minlength=size * deals)
    return np.asarray(totals.reshape(deals, size), dtype=np.float64)


def spread_of_templates(templates: Iterable[TemplateAnswers]) -> Spread | None:
    """Estimate the mean spread within templates.

    Args:
        templates: Consumed one at a time, to save memory. They are the clusters of the intervals.

    Returns:
        `None` without templates.
    """
    names, differences = [], []
    for template in templates:
        names.append(template.template)
        differences.append(largest_differences(template))
    if not names:
        return None
    by_deal = np.stack(differences)
    excess = by_deal[:, 0] - by_deal[:, 1:].mean(axis=1)
    _, cluster = np.unique(names, return_inverse=True)
    totals = np.zeros((int(cluster.max()) + 1, 3))
    np.add.at(totals, cluster, np.column_stack([by_deal[:, 0], excess, np.ones(len(by_deal))]))
    rows = totals[:, 2]
    return Spread(
        raw=mean_interval(totals[:, 0] / rows, weights=rows, bounds=SHARE_BOUNDS),
        excess=mean_interval(totals[:, 1] / rows, weights=rows, bounds=SIGNED_BOUNDS),
        p_value=p_value(by_deal.mean(axis=0)),
    )
