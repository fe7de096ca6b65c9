"""Paired scores of two sides: the t-test after outliers are removed (RedditBias, arXiv 2106.03521)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.stats.association import TTest, t_test_against_zero

OUTLIER_SD = 3.0


@dataclass(frozen=True)
class Paired:
    """Differences (first minus second) of the pairs that were kept, in their order, and the t-test."""

    differences: tuple[float, ...]
    kept: tuple[bool, ...]
    """By pair."""
    test: TTest

    @property
    def removed(self) -> int:
        """Pairs that were left out."""
        return len(self.kept) - len(self.differences)


def paired_t_test(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Two-sided. A pair is left out where either score is more than 3 standard deviations from the mean of
    its side, both over all pairs; of ten pairs or fewer none can be."""
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    kept = within(one) & within(other)
    differences = tuple(float(d) for d in (one - other)[kept])
    return Paired(differences, tuple(bool(k) for k in kept), t_test_against_zero(differences))


def within(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which scores are no outliers."""
    if len(scores) < 2:
        return np.ones(len(scores), dtype=bool)
    distance = np.abs(scores - scores.mean())
    return np.asarray(distance <= OUTLIER_SD * scores.std(ddof=1) + 1e-12)
