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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.stats.intervals import jackknife_interval, mean_interval, t_quantile
from tasks.stats.resampling import Floats, Interval, row_sums

Sparse = Any
"""A `csr_array` of scipy. Its element types are not declared precisely enough to be checked."""

DRAWS = 999
"""Permutations beside the observed arrangement."""

_TOLERANCE = 1e-12
_PERMUTED_CELLS = 32_000_000
"""Sums of differences that are in memory at the same time (256 MB)."""


def shared_difference(
    vectors: Floats | Sparse,
    sizes: Sequence[Sequence[int]],
    seed: int,
    *,
    clusters: Sequence[Hashable] | None = None,
) -> tuple[Interval, float]:
    """Estimate the shared difference, and test it.

    Args:
        vectors: Shape (answers, dimensions), ordered by question and in it by value. May be sparse.
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
    vectors: Floats | Sparse, sizes: Sequence[Sequence[int]], clusters: Sequence[Hashable] | None = None
) -> Interval:
    """Estimate the shared difference with an interval. The arguments are those of `shared_difference`.

    The jackknife interval has an upper bound that is too low if the difference is small, because an estimate
    of a squared length is skewed. The upper bound is therefore at least that of the length itself, measured
    along the mean difference.
    """
    order: dict[Hashable, int] = {}
    names = range(len(sizes)) if clusters is None else clusters
    codes = np.array([order.setdefault(name, len(order)) for name in names])
    differences = _scaled_differences(vectors, sizes)
    jackknife = jackknife_interval(*_mean_products(differences, codes))
    mean = _column_sums(differences) / len(codes)
    length = float(np.sqrt((mean**2).sum()))
    if jackknife.low is None or jackknife.high is None or length == 0:
        return jackknife
    along = mean_interval(_along(differences, mean / length), clusters=list(codes))
    if along.low is None or along.high is None:
        return Interval(jackknife.value, None, None, jackknife.n)
    error = (along.high - along.low) / (2 * t_quantile(0.975, along.n - 1))
    longest = sqrt(max(jackknife.value, 0.0) + error**2) + along.high - along.value
    return Interval(jackknife.value, jackknife.low, max(jackknife.high, longest**2), jackknife.n)


def _scaled_differences(vectors: Floats | Sparse, sizes: Sequence[Sequence[int]]) -> Floats | Sparse:
    """Return `mean_differences`, shape (questions, values · dimensions), so that squares are variances."""
    scale = 1 / sqrt(len(sizes[0]) - 1)
    if isinstance(vectors, np.ndarray):
        return mean_differences(vectors, sizes).reshape(len(sizes), -1) * scale
    return _sparse_differences(vectors, sizes) * scale


def _mean_products(differences: Floats | Sparse, codes: NDArray[np.int64]) -> tuple[float, Floats]:
    """Return the mean product of different questions, and the same without each cluster.

    The sum over pairs is the square of the sum, without the products of a question with itself.
    """
    clusters = int(codes.max()) + 1
    counts = np.bincount(codes, minlength=clusters)
    squares = np.bincount(codes, weights=_squares(differences), minlength=clusters)
    sums = _cluster_sums(differences, codes, clusters)
    whole = _column_sums(differences)
    total, n = float((whole**2).sum()), len(codes)
    left = total - 2 * _along(sums, whole) + _squares(sums) - (squares.sum() - squares)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = left / ((n - counts) * (n - counts - 1))
    return (total - float(squares.sum())) / (n * (n - 1)), np.asarray(without)


def _cluster_sums(differences: Floats | Sparse, codes: NDArray[np.int64], clusters: int) -> Floats | Sparse:
    """Return the sum of the rows of each cluster."""
    if isinstance(differences, np.ndarray):
        sums = np.zeros((clusters, differences.shape[1]))
        np.add.at(sums, codes, differences)
        return sums
    import scipy.sparse

    sparse: Any = scipy.sparse
    member = sparse.csr_array(
        (np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(clusters, len(codes))
    )
    return member @ differences


def _squares(rows: Floats | Sparse) -> Floats:
    return np.asarray((rows * rows).sum(axis=1)).ravel()


def _column_sums(rows: Floats | Sparse) -> Floats:
    return np.asarray(rows.sum(axis=0)).ravel()


def _along(rows: Floats | Sparse, direction: Floats) -> Floats:
    """Return the products of rows with a vector."""
    return row_sums(rows, direction) if isinstance(rows, np.ndarray) else np.asarray(rows @ direction).ravel()


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
