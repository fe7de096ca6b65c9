"""How much further apart two values' answers are than answers for one value (an energy statistic)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tasks.stats.permutation import arrangements
from tasks.stats.steady import row_sums

Floats = NDArray[np.float64]

RESAMPLES = 1000


@lru_cache(maxsize=4)
def excess_weights(sizes: tuple[int, ...]) -> Floats:
    """Array (ways, pairs): its product with the pairs' distances is the mean between minus within values.

    Pairs are those of `np.triu_indices(n, 1)`. Raises `ValueError` without a pair of either kind.
    """
    labels = arrangements(sizes)
    i, j = np.triu_indices(labels.shape[1], 1)
    same = labels[:, i] == labels[:, j]
    within = int(same[0].sum())
    between = same.shape[1] - within
    if not within or not between:
        raise ValueError("there must be pairs of answers within and between values")
    weights = np.where(same, -1 / within, 1 / between)
    weights.setflags(write=False)
    return weights


def excess_interval(distances: Floats, sizes: Sequence[int], seed: int) -> tuple[float | None, float | None]:
    """95 % interval of the excess, answers resampled within each value.

    A resample holds some answers twice; a pair of copies has distance 0 and would make every value look
    tighter than it is, so such pairs are left out.
    """
    generator = np.random.default_rng(seed)
    drawn = np.hstack([generator.multinomial(k, np.full(k, 1 / k), size=RESAMPLES) for k in sizes])
    labels = np.repeat(np.arange(len(sizes)), sizes)
    i, j = np.triu_indices(len(labels), 1)
    weights, same = drawn[:, i] * drawn[:, j], labels[i] == labels[j]
    with np.errstate(invalid="ignore"):
        within = row_sums(weights[:, same], distances[same]) / weights[:, same].sum(axis=1)
        between = row_sums(weights[:, ~same], distances[~same]) / weights[:, ~same].sum(axis=1)
    excess = (between - within)[np.isfinite(between - within)]
    if not len(excess):
        return None, None
    low, high = np.quantile(excess, [0.025, 0.975])
    return float(low), float(high)
