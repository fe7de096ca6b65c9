"""Shares of independent decisions, with exact intervals and tests."""

from __future__ import annotations

from tasks.stats.bootstrap import Interval


def exact_share(hits: int, n: int, chance: float = 0.5) -> tuple[Interval, float]:
    """The share with its exact 95 % interval (Clopper and Pearson 1934, doi 10.1093/biomet/26.4.404), and the
    two-sided binomial p of `chance`. Needs one decision at least."""
    from scipy.stats import binomtest

    test = binomtest(hits, n, chance)
    interval = test.proportion_ci(0.95, method="exact")
    return Interval(hits / n, float(interval.low), float(interval.high), n), float(test.pvalue)
