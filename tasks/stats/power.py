"""How small an effect a planned sample can still show, before any money is spent."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


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
