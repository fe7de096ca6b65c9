"""Tests against controls with the same number of versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from tasks.stats.resampling import Floats, gap_null, pooled_p_value


@dataclass(frozen=True)
class MatchedTest:
    """Scores compared with the controls that they are comparable to."""

    p_value: float | None
    """One-sided. `None` if no score has a matching control."""
    compared: int
    """Number of scores with a matching control."""
    unmatched: int
    """Number of scores without one. They are not part of the test."""


def matched_rank_test(
    scores: Mapping[Any, Sequence[float]], controls: Mapping[Any, Sequence[float]], seed: int
) -> MatchedTest:
    """Test if scores are higher than those of matching controls: stratified Mann-Whitney test.

    The score of a question without any effect grows with its number of versions, because the largest of many
    differences is large. So every score is ranked among controls with the same number of versions, in the
    same framing and family. Ranks are permuted within these strata.

    Args:
        scores: Scores by stratum, one per independent question or twin family.
        controls: Scores of controls without an effect, by stratum.
        seed: Seed of the draws.

    References:
        Van Elteren (1960), "On the combination of independent two-sample tests of Wilcoxon".
    """
    nulls, compared = [], 0
    for stratum in sorted(scores, key=repr):
        values, floor = scores[stratum], controls.get(stratum, ())
        if len(values) and len(floor):
            nulls.append(_rank_sum_null(values, floor))
            compared += len(values)
    unmatched = sum(len(values) for values in scores.values()) - compared
    return MatchedTest(pooled_p_value(nulls, seed) if nulls else None, compared, unmatched)


def conformal_p_value(value: float, floor: Sequence[float]) -> float | None:
    """Compute `(1 + controls ≥ value) / (1 + controls)`.

    It is valid if a question without an effect is exchangeable with the controls.

    Returns:
        `None` without controls.

    References:
        Bates et al. (2023), arXiv 2104.08279.
    """
    return (1 + sum(f >= value for f in floor)) / (1 + len(floor)) if floor else None


def controls_to_confirm(fdr: float) -> int:
    """Return the number of matching controls below which no question can be confirmed.

    With m controls, the smallest p-value is `1 / (m + 1)`. If it is above the false discovery rate, even the
    most extreme questions are not confirmed.
    """
    return ceil(1 / fdr - 1e-9) - 1


def _rank_sum_null(values: Sequence[float], floor: Sequence[float]) -> Floats:
    """Return van Elteren's weighted sum of ranks under permutation. Entry 0 is observed."""
    from scipy.stats import rankdata

    ranks = np.asarray(rankdata([*values, *floor]), dtype=float)
    # A mean rank difference g of k values and m controls is a sum of ranks W = (g + total/m) · km/(k + m).
    scale = len(values) * len(floor) / (len(ranks) * (len(ranks) + 1))
    return np.asarray(gap_null(ranks, len(values)) * scale, dtype=float)
