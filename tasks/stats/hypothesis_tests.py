"""Hypothesis tests with a closed form, and the false discovery rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt
from sys import float_info

import numpy as np

from tasks.stats.intervals import cluster_totals

MCNEMAR_EXACT_BELOW = 25
"""Number of discordant items below which McNemar's test is exact."""


@dataclass(frozen=True)
class TTest:
    """A mean tested against 0."""

    mean: float
    t: float
    """NaN for fewer than two clusters. Infinite if all scores are equal and not 0."""
    p_value: float
    """Two-sided, never 0. NaN for fewer than two clusters."""
    n: int
    """Number of clusters."""


def t_test_against_zero(scores: Sequence[float], *, clusters: Sequence[Hashable] | None = None) -> TTest:
    """Run a two-sided one-sample t-test of the mean against 0.

    Args:
        scores: One score per row.
        clusters: Cluster of each row. Clusters are independent, and each counts once, with the mean of its
            rows. Default: every row is independent of the others.

    Returns:
        The test. If all clusters have the same mean, its p-value is that of a sign test, `2 · 2^-n`.
    """
    if not len(scores):
        return TTest(nan, nan, nan, 0)
    totals = cluster_totals(scores, clusters=clusters)
    means = totals[:, 0] / totals[:, 1]
    n, mean = len(means), float(means.mean())
    if n < 2:
        return TTest(mean, nan, nan, n)
    deviation = float(np.std(means, ddof=1))
    # Equal scores deviate by rounding errors only.
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        deviation = 0.0
    t = t_statistic(mean, deviation / sqrt(n))
    return TTest(mean, t, t_p_value(mean, deviation / sqrt(n), n), n)


def t_statistic(value: float, standard_error: float) -> float:
    """Return value / standard error. Infinite without a standard error, unless the value is 0."""
    if standard_error:
        return value / standard_error
    return 0.0 if value == 0 else float(np.copysign(inf, value))


def t_p_value(value: float, standard_error: float, clusters: int) -> float:
    """Return the two-sided p-value of an estimate, by Student's t with `clusters - 1` degrees of freedom.

    It is never 0. Without a standard error, it is that of a sign test, `2 · 2^-clusters`. NaN for fewer than
    two clusters.
    """
    if clusters < 2:
        return nan
    from scipy.special import stdtr

    t = t_statistic(value, standard_error)
    # Equal estimates in all clusters are tested by their signs alone.
    p = float(2 * stdtr(clusters - 1, -abs(t))) if isfinite(t) else 2.0 ** (1 - min(clusters, 1000))
    return max(p, float_info.min)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Test if two ways of answering solve the same items equally often (two-sided).

    The test is exact for fewer than `MCNEMAR_EXACT_BELOW` discordant items. Otherwise it is chi-square with
    continuity correction.

    Args:
        only_first: Number of items solved in the first way only.
        only_second: Number of items solved in the second way only.

    References:
        McNemar (1947), doi:10.1007/BF02295996.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    discordant = only_first + only_second
    if not discordant:
        return 1.0
    exact = discordant < MCNEMAR_EXACT_BELOW
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=exact, correction=True).pvalue)


def q_values(p_values: Sequence[float | None]) -> list[float | None]:
    """Control the false discovery rate: return the q-value of each p-value, in the same order.

    `None` means not tested. It stays `None` and does not count as a test.

    References:
        Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    from scipy.stats import false_discovery_control

    tested = [p for p in p_values if p is not None]
    if not tested:
        return [None] * len(p_values)
    corrected = iter(false_discovery_control(tested, method="bh").tolist())
    return [None if p is None else next(corrected) for p in p_values]


def q_values_by_family(p_values: Sequence[float | None], families: Sequence[Hashable]) -> list[float | None]:
    """Control the false discovery rate within each family of tests.

    Args:
        p_values: `None` means not tested.
        families: Family of each test, for example its model and the question that it answers. Tests of
            another family never change a q-value.

    Returns:
        The q-values, in the same order.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, family in enumerate(families):
        members[family].append(i)
    corrected: list[float | None] = [None] * len(p_values)
    for inside in members.values():
        for i, q in zip(inside, q_values([p_values[i] for i in inside]), strict=True):
            corrected[i] = q
    return corrected
