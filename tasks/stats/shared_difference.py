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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.stats.resampling import Floats, Interval, row_sums

Sparse = Any
"""A `csr_array` of scipy. Its element types are not declared precisely enough to be checked."""

DRAWS = 999
"""Permutations beside the observed arrangement."""
RESAMPLES = 1_000

MAX_PRODUCTS = 200
"""Maximum number of questions for forming all products."""

_TOLERANCE = 1e-12
_BLOCK_CELLS = 2_000_000
_PERMUTED_CELLS = 32_000_000
"""Sums of differences that are in memory at the same time (256 MB)."""


def shared_difference(
    vectors: Floats | Sparse, sizes: Sequence[Sequence[int]], seed: int
) -> tuple[Interval, float]:
    """Estimate the shared difference, and test it.

    Args:
        vectors: Shape (answers, dimensions), ordered by question and in it by value. May be sparse.
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
    p_value = _permutation_p_value(vectors, sizes, seed)
    low: float | None
    high: float | None
    if not isinstance(vectors, np.ndarray):
        spread = _sparse_differences(vectors, sizes) * (1 / np.sqrt(len(sizes[0]) - 1))
        value = _mean_of_sparse_sums(spread, np.ones((1, len(sizes))))[0]
        low, high = _quantiles(_mean_of_sparse_sums(spread, _resamples(len(sizes), seed)))
        return Interval(float(value), low, high, len(sizes)), p_value
    differences = mean_differences(vectors, sizes).reshape(len(sizes), -1)
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


def _sparse_differences(vectors: Sparse, sizes: Sequence[Sequence[int]]) -> Sparse:
    """Return `mean_differences`, shape (questions, values · dimensions), of sparse vectors."""
    import scipy.sparse

    sparse: Any = scipy.sparse
    counts = np.concatenate(sizes)
    rows = np.repeat(np.arange(len(counts)), counts)
    shares = sparse.csr_array(
        (1 / counts[rows], (rows, np.arange(len(rows)))), shape=(len(counts), len(rows))
    )
    values = len(sizes[0])
    centre = sparse.kron(sparse.eye_array(len(sizes)), np.eye(values) - 1 / values, format="csr")
    return sparse.csr_array((centre @ (shares @ vectors)).reshape(len(sizes), values * vectors.shape[1]))


def _mean_of_sparse_sums(differences: Sparse, weights: Floats) -> Floats:
    """Return `_mean_of_sums` for every row of weights (draws, questions)."""
    squares = np.asarray((differences * differences).sum(axis=1)).ravel()
    transposed = differences.T.tocsr()
    sums = np.array([((transposed @ one) ** 2).sum() for one in weights])
    own = weights**2 @ squares
    return np.asarray((sums - own) / (weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)))


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


def _permutation_p_value(vectors: Floats | Sparse, sizes: Sequence[Sequence[int]], seed: int) -> float:
    # Matrix products are fine here although their last bit may differ between runs. They are only compared,
    # with a tolerance far above that.
    draws = max(1, _PERMUTED_CELLS // (len(sizes[0]) * vectors.shape[1]))
    shared, largest = [], 1.0
    for first in range(0, DRAWS + 1, draws):
        part, highest = _permuted_products(vectors, sizes, seed, slice(first, first + draws))
        shared.append(part)
        largest = max(largest, highest)
    products = np.concatenate(shared)
    return float(np.mean(products >= products[0] - _TOLERANCE * largest**2))


def _permuted_products(
    vectors: Floats | Sparse, sizes: Sequence[Sequence[int]], seed: int, draws: slice
) -> tuple[Floats, float]:
    """Return the products of different questions for some draws, and the largest sum of differences."""
    generator = np.random.default_rng(seed)
    count = len(range(DRAWS + 1)[draws])
    total = np.zeros((count, len(sizes[0]), vectors.shape[1]))
    own = np.zeros(count)
    start = 0
    for size in sizes:
        given = _difference_weights(size, generator)[draws]
        answers, columns = _filled_columns(vectors, start, start + sum(size))
        differences = given @ answers
        total[:, :, columns] += differences
        own += np.einsum("rvd,rvd->r", differences, differences)
        start += sum(size)
    # The square of the sum, without the products of a question with itself.
    return np.einsum("rvd,rvd->r", total, total) - own, float(np.abs(total).max())


def _filled_columns(vectors: Floats | Sparse, start: int, stop: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return some rows without the columns that are zero in all of them, and the numbers of the others."""
    if isinstance(vectors, np.ndarray):
        rows = vectors[start:stop]
        columns = np.flatnonzero(rows.any(axis=0))
        return rows[:, columns], columns
    ends = vectors.indptr[start : stop + 1]
    columns, position = np.unique(vectors.indices[ends[0] : ends[-1]], return_inverse=True)
    rows = np.zeros((stop - start, len(columns)))
    rows[np.repeat(np.arange(stop - start), np.diff(ends)), position] = vectors.data[ends[0] : ends[-1]]
    return rows, columns.astype(np.int64)


def _difference_weights(size: Sequence[int], generator: np.random.Generator) -> Floats:
    """Return weights (1 + draws, values, answers) to multiply with answers for their mean differences."""
    observed = np.repeat(np.arange(len(size)), size)
    labels = np.vstack([observed, generator.permuted(np.tile(observed, (DRAWS, 1)), axis=1)])
    shares = (labels[:, None, :] == np.arange(len(size))[None, :, None]) / np.asarray(size)[None, :, None]
    return np.asarray(shares - shares.mean(axis=1, keepdims=True))
