"""The difference between values that several questions have in common.

Question i has a mean answer vector per value. Let `d_i` be these means minus their own mean. The excess of
one question (`tasks.stats.resampling`) estimates `|d_i|²`, and includes sampling noise. Products of different
questions do not:

    shared = mean over i ≠ j of <d_i, d_j> / (values - 1)

This U-statistic is on the scale of the excess. Its expectation is exactly 0 if values are treated equally.
Its standard error falls with the number of questions, that of a mean excess only with its square root. A
difference that points in another direction in every question is not shared, and is not detected.

References:
    Gretton et al. (2012), "A kernel two-sample test", Journal of Machine Learning Research 13.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np

from tasks.stats.intervals import mean_interval, statistic_interval, t_quantile
from tasks.stats.resampling import Floats, Interval, row_sums

DRAWS = 999
"""Permutations beside the observed arrangement."""

_TOLERANCE = 1e-12


def shared_difference(
    vectors: Floats,
    sizes: Sequence[Sequence[int]],
    seed: int,
    *,
    clusters: Sequence[Hashable] | None = None,
) -> tuple[Interval, float]:
    """Estimate the shared difference, and test it.

    Args:
        vectors: Shape (answers, dimensions), ordered by question and in it by value.
        sizes: Number of answers per value of each question. All questions have the same values in the same
            order.
        seed: Seed of the permutations.
        clusters: Cluster of each question, such as its twin family. Default: every question is independent of
            the others.

    Returns:
        The estimate with its interval, and its one-sided p-value (values permuted within each question). The
        bounds are `None` for fewer than `MIN_CLUSTERS` clusters.

    Raises:
        ValueError: If there are fewer than two questions.
    """
    if len(sizes) < 2:
        raise ValueError("a shared difference needs at least two questions")
    return shared_interval(vectors, sizes, clusters), _permutation_p_value(vectors, sizes, seed)


def shared_interval(
    vectors: Floats, sizes: Sequence[Sequence[int]], clusters: Sequence[Hashable] | None = None
) -> Interval:
    """Estimate the shared difference with an interval. The arguments are those of `shared_difference`.

    The jackknife interval has an upper bound that is too low if the difference is small, because an estimate
    of a squared length is skewed. The upper bound is therefore at least that of the length itself, measured
    along the mean difference.
    """
    differences = mean_differences(vectors, sizes).reshape(len(sizes), -1) / np.sqrt(len(sizes[0]) - 1)
    order: dict[Hashable, int] = {}
    names = range(len(sizes)) if clusters is None else clusters
    codes = [order.setdefault(name, len(order)) for name in names]
    squares = (differences**2).sum(axis=1)
    totals = np.zeros((len(order), differences.shape[1] + 2))
    np.add.at(totals, codes, np.column_stack([differences, squares, np.ones(len(codes))]))
    jackknife = statistic_interval(totals, _mean_of_products)
    mean = totals[:, :-2].sum(axis=0) / len(codes)
    length = float(np.sqrt((mean**2).sum()))
    if jackknife.low is None or jackknife.high is None or length == 0:
        return jackknife
    along = mean_interval(row_sums(differences, mean / length), clusters=codes)
    if along.low is None or along.high is None:
        return Interval(jackknife.value, None, None, jackknife.n)
    error = (along.high - along.low) / (2 * t_quantile(0.975, along.n - 1))
    longest = sqrt(max(jackknife.value, 0.0) + error**2) + along.high - along.value
    return Interval(jackknife.value, jackknife.low, max(jackknife.high, longest**2), jackknife.n)


def mean_differences(vectors: Floats, sizes: Sequence[Sequence[int]]) -> Floats:
    """Return each value's mean answer minus the mean of these means, per question.

    Args:
        vectors: Shape (answers, dimensions), ordered by question and in it by value.
        sizes: Number of answers per value of each question.

    Returns:
        Shape (questions, values, dimensions).
    """
    parts = np.split(vectors, np.cumsum(np.concatenate(sizes))[:-1])
    means = np.stack([part.sum(axis=0) / len(part) for part in parts]).reshape(len(sizes), len(sizes[0]), -1)
    return np.asarray(means - means.mean(axis=1, keepdims=True))


def _mean_of_products(totals: Floats) -> Floats:
    """Return the mean product of different questions, from totals (…, dimensions + 2).

    Totals are the sum of the questions' differences, the sum of their squared lengths, and the number of
    questions. The sum over pairs is the square of the sum, without the products of a question with itself.
    """
    n = totals[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(((totals[..., :-2] ** 2).sum(axis=-1) - totals[..., -2]) / (n * (n - 1)))


def _permutation_p_value(vectors: Floats, sizes: Sequence[Sequence[int]], seed: int) -> float:
    # Matrix products are fine here although their last bit may differ between runs. They are only compared,
    # with a tolerance far above that.
    generator = np.random.default_rng(seed)
    total = np.zeros((DRAWS + 1, len(sizes[0]), vectors.shape[1]))
    own = np.zeros(DRAWS + 1)
    start = 0
    for size in sizes:
        answers = vectors[start : start + sum(size)]
        differences = _difference_weights(size, generator) @ answers
        total += differences
        own += np.einsum("rvd,rvd->r", differences, differences)
        start += sum(size)
    # The square of the sum, without the products of a question with itself.
    shared = np.einsum("rvd,rvd->r", total, total) - own
    scale = max(1.0, float(np.abs(total).max()) ** 2)
    return float(np.mean(shared >= shared[0] - _TOLERANCE * scale))


def _difference_weights(size: Sequence[int], generator: np.random.Generator) -> Floats:
    """Return weights (1 + draws, values, answers) to multiply with answers for their mean differences."""
    observed = np.repeat(np.arange(len(size)), size)
    labels = np.vstack([observed, generator.permuted(np.tile(observed, (DRAWS, 1)), axis=1)])
    shares = (labels[:, None, :] == np.arange(len(size))[None, :, None]) / np.asarray(size)[None, :, None]
    return np.asarray(shares - shares.mean(axis=1, keepdims=True))
