"""Agreement of a judge with a key: kappa of a confusion table, with an interval by cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb, hypot, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tasks.stats.resampling import Interval

Floats = NDArray[np.float64]


# McNemar's test: are the same items solved as often in one way as in another?


EXACT_BELOW = 25
"""Items solved in one way only below which the test is the exact binomial one."""


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Two-sided p that an item solved in one way only is as likely to be solved in the first way as in the
    second (McNemar 1947, doi 10.1007/BF02295996): exact for fewer than 25 such items, else chi-square with
    continuity correction."""
    from statsmodels.stats.contingency_tables import mcnemar

    if not only_first + only_second:
        return 1.0
    exact = only_first + only_second < EXACT_BELOW
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=exact, correction=True).pvalue)


# False discovery rate over many tests (Benjamini and Hochberg 1995).


def q_values(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini-Hochberg q per p, in the same order. `None` (not tested) stays and does not count."""
    from scipy.stats import false_discovery_control

    tested = [p for p in p_values if p is not None]
    if not tested:
        return [None] * len(p_values)
    corrected = iter(false_discovery_control(tested, method="bh").tolist())
    return [None if p is None else next(corrected) for p in p_values]


# How small an effect a planned sample can still show, before any money is spent.


def smallest_detectable_effect(
    samples: int, questions: int, *, alpha: float = 0.05, power: float = 0.8, between_questions: float = 0.0
) -> float:
    """The least difference between two values, in standard deviations of one answer's score.

    `samples` answers per value to each of `questions` questions; two-sided test of the mean difference.
    `between_questions` is the standard deviation, over questions, of the true difference (same unit): it
    does not shrink with more samples. `d = (z₁₋α⸝₂ + z_power) · sqrt((2/samples + between²) / questions)`.
    Infinite where nothing is sampled.
    """
    if samples <= 0 or questions <= 0:
        return float("inf")
    normal = NormalDist()
    distance = normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
    return distance * sqrt((2 / samples + between_questions**2) / questions)


def smallest_p_value(samples: int, values: int = 2) -> float:
    """The least p that an exact permutation test of one question can reach: 1 / (number of ways to deal
    the answers to the values). 3 samples of 2 values give .1, 5 give .008; below that, pool."""
    from math import comb, factorial

    ways = 1
    for value in range(1, values + 1):
        ways *= comb(value * samples, samples)
    return factorial(values) / ways if samples > 0 else 1.0


# Shares of independent decisions, with exact intervals and tests.


def exact_share(hits: int, n: int, chance: float = 0.5) -> tuple[Interval, float]:
    """The share with its exact 95 % interval (Clopper and Pearson 1934, doi 10.1093/biomet/26.4.404), and the
    two-sided binomial p of `chance`. Needs one decision at least."""
    from scipy.stats import binomtest

    test = binomtest(hits, n, chance)
    interval = test.proportion_ci(0.95, method="exact")
    return Interval(hits / n, float(interval.low), float(interval.high), n), float(test.pvalue)


# Shares: their interval, how they read beside chance alone, and how many looks it takes to see a bias.


def share_with_interval(hits: int, n: int, *, level: float = 0.95) -> Interval | None:
    """A share with its score interval (Wilson 1927, doi 10.2307/2276774), which stays inside [0, 1] and has a
    width even where all looks agree. `None` without a look."""
    if not n:
        return None
    low, high = _wilson(hits, n, NormalDist().inv_cdf(0.5 + level / 2))
    return Interval(hits / n, low, high, n)


def _wilson(hits: int, n: int, z: float) -> tuple[float, float]:
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def difference_of(one: Interval, other: Interval) -> Interval:
    """One value minus another, measured independently, with the interval that their own intervals give
    (MOVER: Zou and Donner 2008, doi 10.1002/sim.3095; for two shares Newcombe's hybrid score interval)."""
    value = one.value - other.value
    below = hypot(one.value - _or(one.low, one.value), _or(other.high, other.value) - other.value)
    above = hypot(_or(one.high, one.value) - one.value, other.value - _or(other.low, other.value))
    return Interval(value, value - below, value + above, min(one.n, other.n))


def _or(bound: float | None, value: float) -> float:
    return value if bound is None else bound


def transformed(share: Interval, by: Callable[[float], float]) -> Interval:
    """A monotone function of a share, with its interval."""
    ends = [by(_or(end, share.value)) for end in (share.low, share.high)]
    return Interval(by(share.value), min(ends), max(ends), share.n)


def pairwise_agreement(identical_of_three: float) -> float:
    """Share of two looks that agree, from the share of three looks that all agree. Verdicts are yes or no, so
    of three that do not all agree exactly one pair does: `1 − 2/3 · (1 − identical)`."""
    return 1 - 2 / 3 * (1 - identical_of_three)


def chance_error(identical_of_three: float) -> float:
    """Probability ε that one look errs by chance, if chance alone makes looks at one input differ: two looks
    agree with probability `1 − 2ε(1 − ε)`, so `ε = (1 − sqrt(2·agreement − 1)) / 2`, at most ½."""
    return (1 - sqrt(max(0.0, 2 * pairwise_agreement(identical_of_three) - 1))) / 2


def power_of_share(n: int, floor: float, truth: float) -> float:
    """Probability that the interval of a share of n looks leaves `floor` out when the share is `truth`."""
    power = 0.0
    z = NormalDist().inv_cdf(0.975)
    for hits in range(n + 1):
        low, high = _wilson(hits, n, z)
        if not low <= floor <= high:
            power += comb(n, hits) * truth**hits * (1 - truth) ** (n - hits)
    return power


def looks_for_power(floor: float, truth: float, *, power: float = 0.8) -> int:
    """The least n from which on the power is never below; see `power_of_share`."""
    enough = 1
    for n in range(1, 400):
        if power_of_share(n, floor, truth) < power:
            enough = n + 1
    return enough
