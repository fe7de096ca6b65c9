"""Shares of yes/no outcomes: intervals, tests, differences, and the power to tell two shares apart."""

from __future__ import annotations

from collections.abc import Callable
from math import comb, hypot, sqrt
from statistics import NormalDist

from tasks.stats.resampling import Interval

MAX_TRIALS = 400
"""Upper limit of the search for a sample size."""


def share_with_interval(hits: int, n: int, *, level: float = 0.95) -> Interval | None:
    """Estimate a share with Wilson's score interval.

    The interval stays within [0, 1], and has a width even if all outcomes are the same.

    Returns:
        `None` if `n` is 0.

    References:
        Wilson (1927), doi:10.2307/2276774.
    """
    if not n:
        return None
    low, high = _wilson(hits, n, NormalDist().inv_cdf(0.5 + level / 2))
    return Interval(hits / n, low, high, n)


def _wilson(hits: int, n: int, z: float) -> tuple[float, float]:
    # (p + z²/2n ± z · sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n)
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


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

    test = binomtest(hits, n, chance)
    interval = test.proportion_ci(0.95, method="exact")
    return Interval(hits / n, float(interval.low), float(interval.high), n), float(test.pvalue)


def subtract_intervals(first: Interval, second: Interval) -> Interval:
    """Return the difference of two independent estimates, with an interval from their intervals.

    For two shares with Wilson intervals, this is Newcombe's hybrid score interval.

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
    """Return the probability that the Wilson interval of n outcomes with share `truth` excludes `floor`."""
    power = 0.0
    z = NormalDist().inv_cdf(0.975)
    for hits in range(n + 1):
        low, high = _wilson(hits, n, z)
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
