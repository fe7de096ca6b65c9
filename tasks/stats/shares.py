"""Shares of yes/no outcomes: intervals, tests, differences, and the power to distinguish two shares."""

from __future__ import annotations

from collections.abc import Callable
from math import comb, hypot, sqrt

from tasks.stats.resampling import Interval

MAX_TRIALS = 400
"""Upper limit of the search for a sample size."""


def share_with_interval(hits: int, n: int, *, level: float = 0.95) -> Interval | None:
    """Estimate a share with the exact interval of Clopper and Pearson.

    The interval covers at least `level` for every number of trials, and has a width even if all outcomes are
    the same. Trials must be independent.

    Returns:
        `None` if `n` is 0.

    References:
        Clopper and Pearson (1934), doi:10.1093/biomet/26.4.404.
    """
    if not n:
        return None
    low, high = _exact(hits, n, level)
    return Interval(hits / n, low, high, n)


def _exact(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def exact_share(hits: int, n: int, chance: float = 0.5) -> tuple[Interval, float]:
    """Estimate a share with its exact 95 % interval, and test it against chance.

    Args:
        hits: Number of successes.
        n: Number of independent trials, at least 1.
        chance: Share under the null hypothesis.

    Returns:
        The Clopper-Pearson interval, and the two-sided p-value of the binomial test.

    References:
        Clopper and Pearson (1934), doi:10.1093/biomet/26.4.404.
    """
    from scipy.stats import binomtest

    low, high = _exact(hits, n)
    return Interval(hits / n, low, high, n), float(binomtest(hits, n, chance).pvalue)


def subtract_intervals(first: Interval, second: Interval) -> Interval:
    """Return the difference of two independent estimates, with an interval from their intervals.

    For two shares with score intervals, this would be Newcombe's hybrid interval. With exact intervals it
    covers at least as often.

    References:
        Zou and Donner (2008), doi:10.1002/sim.3095 (MOVER).
    """
    value = first.value - second.value
    below = hypot(first.value - _low(first), _high(second) - second.value)
    above = hypot(_high(first) - first.value, second.value - _low(second))
    return Interval(value, value - below, value + above, min(first.n, second.n))


def transform_interval(share: Interval, function: Callable[[float], float]) -> Interval:
    """Apply a monotone function to an estimate and its interval."""
    ends = function(_low(share)), function(_high(share))
    return Interval(function(share.value), min(ends), max(ends), share.n)


def _low(interval: Interval) -> float:
    return interval.value if interval.low is None else interval.low


def _high(interval: Interval) -> float:
    return interval.value if interval.high is None else interval.high


# Repeated yes/no verdicts on the same input.


def pairwise_agreement(identical_of_three: float) -> float:
    """Return the probability that two verdicts agree, from the share of triples that are identical.

    Of three yes/no verdicts that are not identical, exactly one pair agrees: `1 - 2/3 · (1 - identical)`.
    """
    return 1 - 2 / 3 * (1 - identical_of_three)


def chance_error(identical_of_three: float) -> float:
    """Return the probability ε that one verdict is flipped by chance, at most 1/2.

    If chance alone makes verdicts differ, two agree with probability `1 - 2ε(1 - ε)`. So
    `ε = (1 - sqrt(2 · agreement - 1)) / 2`.
    """
    return (1 - sqrt(max(0.0, 2 * pairwise_agreement(identical_of_three) - 1))) / 2


# Power.


def power_of_share(n: int, floor: float, truth: float) -> float:
    """Return the probability that the exact interval of n outcomes with share `truth` excludes `floor`."""
    power = 0.0
    for hits in range(n + 1):
        low, high = _exact(hits, n)
        if not low <= floor <= high:
            power += comb(n, hits) * truth**hits * (1 - truth) ** (n - hits)
    return power


def trials_for_power(floor: float, truth: float, *, power: float = 0.8) -> int:
    """Return the smallest n from which on `power_of_share` is never below `power`.

    The power is a sawtooth in n, so the first n that reaches it is not enough.
    """
    enough = 1
    for n in range(1, MAX_TRIALS):
        if power_of_share(n, floor, truth) < power:
            enough = n + 1
    return enough
