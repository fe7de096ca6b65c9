"""Hypothesis tests with a closed form, the false discovery rate, and power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt
from statistics import NormalDist

import numpy as np

MCNEMAR_EXACT_BELOW = 25
"""Number of discordant items below which McNemar's test is exact."""


@dataclass(frozen=True)
class TTest:
    """A mean tested against 0."""

    mean: float
    t: float
    """NaN for fewer than two scores. Infinite if all scores are equal and not 0."""
    p_value: float
    """Two-sided. NaN for fewer than two scores."""
    n: int


def t_test_against_zero(scores: Sequence[float]) -> TTest:
    """Run a two-sided one-sample t-test of the mean against 0."""
    n = len(scores)
    mean = float(np.mean(scores)) if n else nan
    if n < 2:
        return TTest(mean, nan, nan, n)
    deviation = float(np.std(scores, ddof=1))
    # SciPy warns about equal scores and returns NaN or a huge t from rounding errors.
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        t = 0.0 if mean == 0 else float(np.copysign(np.inf, mean))
        return TTest(mean, t, 1.0 if mean == 0 else 0.0, n)
    from scipy.stats import ttest_1samp

    result = ttest_1samp(scores, 0.0)
    return TTest(mean, float(result.statistic), float(result.pvalue), n)


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


def smallest_detectable_effect(
    samples: int, questions: int, *, alpha: float = 0.05, power: float = 0.8, between_questions: float = 0.0
) -> float:
    """Return the smallest effect size that a planned sample can detect.

    The test is two-sided, of the mean difference between two values over questions:
    `d = (z(1 - alpha/2) + z(power)) · sqrt((2/samples + between_questions²) / questions)`.

    Args:
        samples: Answers per value and question.
        questions: Number of questions.
        alpha: Significance level.
        power: Probability of detecting the effect.
        between_questions: Standard deviation of the true difference over questions, in standard deviations
            of one answer's score. More samples do not reduce it.

    Returns:
        Difference in standard deviations of one answer's score. Infinite without samples.
    """
    if samples <= 0 or questions <= 0:
        return float("inf")
    normal = NormalDist()
    distance = normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
    return distance * sqrt((2 / samples + between_questions**2) / questions)
