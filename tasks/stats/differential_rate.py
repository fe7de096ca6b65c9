"""Compare a rate, such as the share of readable answers, between values that share questions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 1999
"""Permutations."""
CELLS = 4_000_000
"""Largest number of permuted cells in memory."""


def differential_rate(hits: Floats, asked: Floats, seed: int) -> tuple[float, float]:
    """Return the highest minus the lowest rate of the values, and its p-value.

    The test permutes the values within each question. Answers to one question are not independent, so a
    question's answers about one value stay together.

    Args:
        hits: Shape (questions, values). Number of hits.
        asked: Shape (questions, values). Number of trials. 0 if the question does not have the value.
        seed: Seed of the permutations.

    Returns:
        The range of the rates over values with trials, and p. Equal rates have p = 1.
    """
    hits, asked = np.asarray(hits, dtype=float), np.asarray(asked, dtype=float)
    observed = float(_range_of_rates(hits.sum(axis=0), asked.sum(axis=0)))
    if observed == 0.0:
        return 0.0, 1.0
    rng = np.random.default_rng(seed)
    # Permuting an absent value would change which questions a value has, so it stays in its place.
    absent = asked == 0
    block = max(1, CELLS // hits.size)
    extreme = 0
    for start in range(0, DRAWS, block):
        draws = min(block, DRAWS - start)
        keys = rng.random((draws, *hits.shape))
        order = _permute_present(keys, absent)
        permuted = [np.take_along_axis(table[None], order, axis=2).sum(axis=1) for table in (hits, asked)]
        extreme += int((_range_of_rates(*permuted) >= observed - 1e-12).sum())
    return observed, (1 + extreme) / (1 + DRAWS)


def _permute_present(keys: Floats, absent: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return random orders of each question's values in which absent values keep their place."""
    order = np.broadcast_to(np.arange(keys.shape[2]), keys.shape).copy()
    patterns, kind = np.unique(absent, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows, columns = np.flatnonzero(kind.ravel() == number), np.flatnonzero(~pattern)
        if len(columns) > 1:
            drawn = keys[:, rows[:, None], columns].argsort(axis=2)
            order[:, rows[:, None], columns] = columns[drawn]
    return order


def _range_of_rates(hits: Any, asked: Any) -> Any:
    """Return the highest minus the lowest rate along the last axis."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = np.where(asked > 0, hits / asked, np.nan)
    return np.nanmax(rates, axis=-1) - np.nanmin(rates, axis=-1)
