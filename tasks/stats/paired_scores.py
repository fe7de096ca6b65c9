"""Scores of texts from pairwise comparisons: the Bradley-Terry model, with ties by Davidson.

The scores are the maximum of the likelihood with a weak normal prior, so that they exist for every outcome.

References:
    Bradley and Terry (1952), doi:10.1093/biomet/39.3-4.324. Davidson (1970),
    doi:10.1080/01621459.1970.10481082. CGCoT, arXiv:2310.12049.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from schemas.tables import derived_seed
from tasks.stats.resampling import Floats

PRIOR_DEVIATION = 3.0
"""Standard deviation of the prior of a score, in logits."""
TIE = 0.5
OPPONENTS = 10
"""Comparisons of each text, by default."""
BOTH_ORDERS = 0.1
"""Share of the comparisons that are also asked in the other order."""
Positions = NDArray[np.intp]
STEPS = 100
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Comparison:
    """One comparison of two texts."""

    first: str
    second: str
    outcome: float
    """1 if the first has more of the concept, 0 if the second has, 0.5 for a tie."""


@dataclass(frozen=True)
class PairedScores:
    """Scores in logits with mean 0, and how common ties are."""

    scores: dict[str, float]
    tie_parameter: float
    """Davidson's parameter. 0 without ties."""


def ring_pairs(texts: Sequence[str], opponents: int, seed: int) -> list[tuple[str, str]]:
    """Pair texts on a ring in an order drawn by seed: each one with its next `opponents / 2` neighbours.

    The first text of a pair is drawn by seed. All texts are connected. Each text has `opponents` opponents,
    or all others if there are fewer.

    Args:
        texts: Ids, without repetitions.
        opponents: Number of opponents per text.
        seed: Seed of the order.
    """
    order = sorted(texts, key=lambda text: derived_seed(seed, "ring", text))
    n = len(order)
    pairs: dict[frozenset[str], tuple[str, str]] = {}
    for i, text in enumerate(order):
        for step in range(1, ceil(min(opponents, n - 1) / 2) + 1):
            other = order[(i + step) % n]
            if other != text:
                swap = derived_seed(seed, "first", text, other) % 2
                pairs.setdefault(frozenset((text, other)), (other, text) if swap else (text, other))
    return list(pairs.values())


def scheduled_pairs(texts: Sequence[str], opponents: int, seed: int) -> list[tuple[str, str]]:
    """Return the pairs of the ring, with a tenth of them in the other order as well."""
    pairs = ring_pairs(texts, opponents, seed)
    drawn = sorted(pairs, key=lambda pair: derived_seed(seed, "both orders", *pair))
    return pairs + [(b, a) for a, b in drawn[: round(BOTH_ORDERS * len(pairs))]]


def count_calls(texts: int, opponents: int, questions: int) -> int:
    """Return the number of calls: `1.1 · m · N / 2` comparisons and `k · N` breakdowns."""
    met = min(opponents, max(0, texts - 1))
    return round((1 + BOTH_ORDERS) * met * texts / 2) + questions * texts


def score_comparisons(comparisons: Sequence[Comparison]) -> PairedScores:
    """Fit the scores of all texts.

    Newton's method on the log posterior, which is concave in the scores. Davidson's parameter is updated in
    closed form between the steps.
    """
    names = sorted({name for c in comparisons for name in (c.first, c.second)})
    index = {name: i for i, name in enumerate(names)}
    first = np.array([index[c.first] for c in comparisons])
    second = np.array([index[c.second] for c in comparisons])
    outcome = np.array([c.outcome for c in comparisons])
    tied = outcome == TIE
    scores, tie = np.zeros(len(names)), float(tied.any())
    for _ in range(STEPS):
        win, even = _probabilities(scores[first] - scores[second], tie)
        # Expected and observed points: a tie gives half a point to both texts.
        surplus = outcome - win - even / 2
        weight = win + even / 4 - (win + even / 2) ** 2
        gradient = np.zeros(len(names))
        np.add.at(gradient, first, surplus)
        np.add.at(gradient, second, -surplus)
        step = np.linalg.solve(
            _curvature(first, second, weight, len(names)), gradient - scores / PRIOR_DEVIATION**2
        )
        scores = scores + np.clip(step, -2, 2)
        if tied.any():
            tie *= tied.sum() / max(even.sum(), TOLERANCE)
        if np.abs(step).max() < TOLERANCE:
            break
    scores -= scores.mean()
    return PairedScores({name: float(scores[i]) for name, i in index.items()}, tie)


def _probabilities(difference: Floats, tie: float) -> tuple[Floats, Floats]:
    """Return the probabilities of a win of the first text and of a tie."""
    half = np.exp(np.clip(difference, -60, 60) / 2)
    total = half + 1 / half + tie
    return half / total, tie / total


def _curvature(first: Positions, second: Positions, weight: Floats, n: int) -> Floats:
    """Return minus the second derivative of the log posterior, shape (n, n)."""
    hessian = np.eye(n) / PRIOR_DEVIATION**2
    for rows, columns, sign in (
        (first, first, 1),
        (second, second, 1),
        (first, second, -1),
        (second, first, -1),
    ):
        np.add.at(hessian, (rows, columns), sign * weight)
    return hessian
