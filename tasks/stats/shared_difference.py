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

from collections.abc import Sequence

import numpy as np

from tasks.stats.resampling import Floats, Interval, row_sums

DRAWS = 999
"""Permutations beside the observed arrangement."""
RESAMPLES = 1_000

MAX_PRODUCTS = 200
"""Maximum number of questions for forming all products."""

_TOLERANCE = 1e-12
_BLOCK_CELLS = 2_000_000


def shared_difference(vectors: Floats, sizes: Sequence[Sequence[int]], seed: int) -> tuple[Interval, float]:
    """Estimate the shared difference, and test it.

    Args:
        vectors: Shape (answers, dimensions), ordered by question and in it by value.
        sizes: Number of answers per value of each question. All questions have the same values in the same
            order.
        seed: Seed of bootstrap and permutations.

    Returns:
        The estimate with its interval (questions resampled), and its one-sided p-value (values permuted
        within each question).

    Raises:
        ValueError: If there are fewer than two questions.
    """
    if len(sizes) < 2:
        raise ValueError("a shared difference needs at least two questions")
    differences = mean_differences(vectors, sizes).reshape(len(sizes), -1)
    p_value = _permutation_p_value(vectors, sizes, seed)
    low: float | None
    high: float | None
    if len(sizes) > MAX_PRODUCTS:
        scaled = differences / np.sqrt(len(sizes[0]) - 1)
        value = _mean_of_sums(scaled, np.ones(len(sizes)))
        low, high = _quantiles(np.array([_mean_of_sums(scaled, w) for w in _resamples(len(sizes), seed)]))
        return Interval(value, low, high, len(sizes)), p_value
    products = np.stack([row_sums(differences, one) for one in differences]) / (len(sizes[0]) - 1)
    value = float(_mean_of_pairs(products, np.ones((1, len(sizes))))[0])
    low, high = _interval(products, seed)
    return Interval(value, low, high, len(sizes)), p_value


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


def _mean_of_pairs(products: Floats, weights: Floats) -> Floats:
    """Return the weighted mean of products of different questions per row of weights (draws, questions)."""
    pairs = weights[:, :, None] * weights[:, None, :] * (1 - np.eye(len(products)))
    with np.errstate(invalid="ignore"):
        return np.asarray((pairs * products).sum(axis=(1, 2)) / pairs.sum(axis=(1, 2)))


def _mean_of_sums(differences: Floats, weights: Floats) -> float:
    """Return the result of `_mean_of_pairs` in a time that is linear in the questions.

    The sum over pairs of different questions is the square of the sum, without the squares of each one.
    """
    total = (differences * weights[:, None]).sum(axis=0)
    own = (weights**2 * (differences**2).sum(axis=1)).sum()
    return float(((total**2).sum() - own) / (weights.sum() ** 2 - (weights**2).sum()))


def _resamples(n: int, seed: int) -> Floats:
    """Draw how often each question is in each resample, shape (resamples, n)."""
    generator = np.random.default_rng(seed)
    return np.asarray(generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(float))


def _interval(products: Floats, seed: int) -> tuple[float | None, float | None]:
    # `_mean_of_pairs` leaves out pairs of a question with its own copy, which share everything.
    n = len(products)
    blocks = np.array_split(_resamples(n, seed), -(-RESAMPLES * n * n // _BLOCK_CELLS))
    means = np.concatenate([_mean_of_pairs(products, block) for block in blocks])
    return (None, None) if n < 3 else _quantiles(means)


def _quantiles(means: Floats) -> tuple[float, float]:
    defined = means[np.isfinite(means)]
    low, high = np.quantile(defined, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


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
