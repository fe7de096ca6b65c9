"""Power of the tests of open questions, by simulating the tests themselves."""

from __future__ import annotations

from functools import lru_cache
from math import inf

import numpy as np

from schemas.tables import derived_seed
from tasks.stats.resampling import Floats, excess_weights

RUNS = 2000
"""Simulated slices per effect size, and at least `FEWEST_RUNS` if slices are large."""
FEWEST_RUNS = 200
PERMUTATIONS = 150
"""Permutations of each question."""
SIMULATED_ANSWERS = 400_000
"""Answers per effect size, from which the number of slices follows."""
DRAWS = 300
"""Draws from the pooled permutations of a slice with few questions."""
MANY_QUESTIONS = 30
"""From this number of questions on, the pooled permutation distribution is normal."""
LARGEST = 8.0
"""Effects above this number of standard deviations are not searched."""
_STEPS = 8
_CELLS = 4_000_000


@lru_cache(maxsize=256)
def smallest_detectable_excess(
    samples: int, questions: int, *, versions: int = 2, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the smallest difference between values that the test of a slice's excess finds.

    Answers have normal scores. The first value differs from all others by the effect, and the distance of two
    answers is the difference of their scores. Every question is permuted by itself, and the mean excess is
    tested over all questions of the slice, as in a build.

    Args:
        samples: Answers per value and question.
        questions: Number of questions with an effect. Controls are no questions.
        versions: Number of values.
        alpha: Significance level.
        power: Probability of detecting the effect.

    Returns:
        Difference in standard deviations of one answer's score. Infinite if the test cannot find it: without
        questions, with fewer than two samples, or if it would have to be above `LARGEST`.
    """
    if questions < 1 or samples < 2 or versions < 2:
        return inf
    if power_of_excess(LARGEST, samples, questions, versions=versions, alpha=alpha) < power:
        return inf
    low, high = 0.0, LARGEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        enough = power_of_excess(middle, samples, questions, versions=versions, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return round((low + high) / 2, 3)


def power_of_excess(
    effect: float,
    samples: int,
    questions: int,
    *,
    versions: int = 2,
    alpha: float = 0.05,
    runs: int | None = None,
) -> float:
    """Simulate the share of slices in which the excess is significant.

    Args:
        effect: Difference between the first value and the others, in standard deviations of one answer.
        samples: Answers per value and question.
        questions: Number of questions.
        versions: Number of values.
        alpha: Significance level.
        runs: Number of simulated slices. Default: as many as `SIMULATED_ANSWERS` allow.
    """
    # The same seed for every effect: a larger effect then has a larger simulated power.
    generator = np.random.default_rng(derived_seed("power of excess", samples, questions, versions))
    weights = _some_of(excess_weights((samples,) * versions), generator)
    answers = samples * versions
    if runs is None:
        runs = min(RUNS, max(FEWEST_RUNS, SIMULATED_ANSWERS // (questions * answers)))
    block = max(1, _CELLS // (questions * max(len(weights), answers * answers)))
    found = 0
    for start in range(0, runs, block):
        size = min(block, runs - start)
        scores = generator.normal(size=(size, questions, answers))
        scores[:, :, :samples] += effect
        p = _pooled_p_values(_excess_nulls(scores, weights), generator)
        found += int((p <= alpha).sum())
    return found / runs


@lru_cache(maxsize=1024)
def detectable_errors(clusters: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest detectable mean in standard errors that were estimated from the clusters.

    A two-sided t-test of as many new clusters finds it with the power, averaged over the uncertainty of the
    standard error. If the error was known, that would be the sum of two quantiles.

    Args:
        clusters: Number of clusters, at least 2.
        alpha: Significance level.
        power: Probability of detecting the mean.

    References:
        O'Hagan, Stevens and Campbell (2005), doi:10.1002/pst.175 (assurance).
    """
    from scipy.special import chdtri, nctdtr, stdtrit

    freedom = clusters - 1
    probabilities = (np.arange(200) + 0.5) / 200
    # Estimated over true standard error.
    errors = np.sqrt(chdtri(freedom, probabilities) / freedom)
    critical = stdtrit(freedom, 1 - alpha / 2)

    def found(multiple: float) -> float:
        # Rejection on the wrong side is too rare to count. NaN is a probability too small for the function.
        missed = np.nan_to_num(nctdtr(freedom, multiple * errors, critical), nan=0.0)
        return float(np.mean(1 - missed))

    low, high = 0.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) >= power else (middle, high)
    return high


def _some_of(weights: Floats, generator: np.random.Generator) -> Floats:
    """Return the observed arrangement, row 0, and a random subset of the others."""
    if len(weights) <= PERMUTATIONS + 1:
        return weights
    chosen = 1 + generator.choice(len(weights) - 1, PERMUTATIONS, replace=False)
    return np.asarray(weights[[0, *chosen.tolist()]])


def _excess_nulls(scores: Floats, weights: Floats) -> Floats:
    """Return the excess of every question under permutation: shape (slices, questions, permutations)."""
    i, j = np.triu_indices(scores.shape[-1], 1)
    return np.asarray(np.abs(scores[..., i] - scores[..., j]) @ weights.T)


def _pooled_p_values(nulls: Floats, generator: np.random.Generator) -> Floats:
    slices, questions, ways = nulls.shape
    observed = nulls[..., 0].sum(axis=1)
    if questions >= MANY_QUESTIONS:
        from scipy.special import ndtr

        centre, variance = nulls.mean(axis=2).sum(axis=1), nulls.var(axis=2).sum(axis=1)
        return np.asarray(ndtr(-(observed - centre) / np.sqrt(variance)))
    draws = generator.integers(ways, size=(slices, questions, DRAWS))
    totals = np.take_along_axis(nulls, draws, axis=2).sum(axis=1)
    return np.asarray((1 + (totals >= observed[:, None] - 1e-12).sum(axis=1)) / (1 + DRAWS))
