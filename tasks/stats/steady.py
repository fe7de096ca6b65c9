"""Products of arrays whose last bit does not depend on the run.

A matrix product goes to BLAS, whose order of summation depends on threads and on where in memory the
operands happen to lie, so that the same numbers give results that differ by 1e-16 from run to run. Releases
are compared by their bytes: here products are summed by NumPy's own pairwise summation, in a fixed order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CELLS = 2_000_000
"""Products that are held at a time."""


def row_sums(rows: ArrayLike, weights: ArrayLike) -> Floats:
    """`rows @ weights` for an array (n, m) and a vector (m,)."""
    matrix, vector = np.asarray(rows), np.asarray(weights, dtype=float)
    block = max(1, CELLS // max(1, vector.size))
    parts = [(matrix[start : start + block] * vector).sum(axis=1) for start in range(0, len(matrix), block)]
    return np.concatenate(parts) if parts else np.zeros(0)


def column_totals(rows: ArrayLike, columns: ArrayLike) -> Floats:
    """`rows @ columns` for arrays (n, m) and (m, k)."""
    matrix = np.asarray(columns, dtype=float)
    return np.stack([row_sums(rows, matrix[:, k]) for k in range(matrix.shape[1])], axis=-1)
