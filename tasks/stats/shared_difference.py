"""The difference between values that questions have in common.

Every question i has a mean answer per value, in a space of vectors; `d_i` is how these means lie around
their own mean. The excess of one question (`tasks.stats.resampling`) estimates `|d_i|²`, amid the noise of what
happened to be said. What questions share is in the products of different questions:

    shared = mean over i ≠ j of <d_i, d_j> / (values − 1)

It is on the scale of the excess, and its expectation is exactly 0 where values are treated alike. Its noise
falls with the number of questions, that of a mean excess only with the root of it (a U-statistic of mean
embeddings; on these see Gretton et al. 2012, Journal of Machine Learning Research 13). A difference that
points another way in every question is not shared, and not seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.stats.resampling import Interval, row_sums

Floats = NDArray[np.float64]

DRAWS = 999
RESAMPLES = 1_000

_TOLERANCE = 1e-12
_BLOCK_CELLS = 2_000_000


def mean_differences(vectors: Floats, sizes: Sequence[Sequence[int]]) -> Floats:
    """Array (questions, values, dimensions): each value's mean answer minus the mean of those means.

    `vectors`: array (answers, dimensions), question after question and in it value after value; `sizes[i]`:
    answers per value of question i, the same values in the same order for all questions.
    """
    parts = np.split(vectors, np.cumsum(np.concatenate(sizes))[:-1])
    means = np.stack([part.sum(axis=0) / len(part) for part in parts]).reshape(len(sizes), len(sizes[0]), -1)
    apart: Floats = means - means.mean(axis=1, keepdims=True)
    return apart


def shared_difference(vectors: Floats, sizes: Sequence[Sequence[int]], seed: int) -> tuple[Interval, float]:
    """The shared difference with its interval (questions resampled), and its one-sided p (values exchanged
    within each question). Raises `ValueError` for fewer than two questions."""
    if len(sizes) < 2:
        raise ValueError("one question shares nothing")
    differences = mean_differences(vectors, sizes).reshape(len(sizes), -1)
    products = np.stack([row_sums(differences, one) for one in differences]) / (len(sizes[0]) - 1)
    value = _mean_of_pairs(products, np.ones((1, len(sizes))))[0]
    low, high = _interval(products, seed)
    return Interval(float(value), low, high, len(sizes)), _p_value(vectors, sizes, seed)


def _mean_of_pairs(products: Floats, weights: Floats) -> Floats:
    """Weighted mean of the products of different questions, for each row of `weights` (draws, questions)."""
    pairs = weights[:, :, None] * weights[:, None, :] * (1 - np.eye(len(products)))
    with np.errstate(invalid="ignore"):
        found: Floats = (pairs * products).sum(axis=(1, 2)) / pairs.sum(axis=(1, 2))
    return found


def _interval(products: Floats, seed: int) -> tuple[float | None, float | None]:
    """Pairs of copies of one question are left out: a question shares everything with itself."""
    n = len(products)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(float)
    blocks = np.array_split(drawn, -(-RESAMPLES * n * n // _BLOCK_CELLS))
    means = np.concatenate([_mean_of_pairs(products, block) for block in blocks])
    defined = means[np.isfinite(means)]
    if n < 3:
        return None, None
    low, high = np.quantile(defined, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


def _p_value(vectors: Floats, sizes: Sequence[Sequence[int]], seed: int) -> float:
    """How often exchanged values share as much.

    A matrix product's last bit may differ from run to run; here it only decides which of two numbers is the
    larger one, with a tolerance far above that.
    """
    generator = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), [sum(size) for size in sizes])
    across = np.where(owner[:, None] == owner[None, :], 0.0, vectors @ vectors.T)
    weights = np.concatenate([_weights(size, generator) for size in sizes], axis=2)
    shared = np.array([((draw @ across) * draw).sum() for draw in weights])
    return float(np.mean(shared >= shared[0] - _TOLERANCE))


def _weights(size: Sequence[int], generator: np.random.Generator) -> Floats:
    """Array (1 + draws, values, answers) whose product with a question's answers is its mean differences, as
    observed and then under exchanged values."""
    observed = np.repeat(np.arange(len(size)), size)
    labels = np.vstack([observed, generator.permuted(np.tile(observed, (DRAWS, 1)), axis=1)])
    shares = (labels[:, None, :] == np.arange(len(size))[None, :, None]) / np.asarray(size)[None, :, None]
    centred: Floats = shares - shares.mean(axis=1, keepdims=True)
    return centred
