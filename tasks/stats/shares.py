"""Shares: their interval, how they read beside chance alone, and how many looks it takes to see a bias."""

from __future__ import annotations

from collections.abc import Callable
from math import comb, hypot, sqrt
from statistics import NormalDist

from tasks.stats.bootstrap import Interval


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
