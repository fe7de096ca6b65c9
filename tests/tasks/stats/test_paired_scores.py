"""Scores from pairwise comparisons: planted scores are found, and the schedule has the promised size."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import spearmanr

from tasks.stats.paired_scores import (
    Comparison,
    count_calls,
    ring_pairs,
    scheduled_pairs,
    score_comparisons,
)

TEXTS = [f"t{i:03}" for i in range(200)]


def planted_correlation(opponents: int, flipped: float, seed: int) -> float:
    rng = np.random.default_rng(seed)
    truth = dict(zip(TEXTS, rng.normal(size=len(TEXTS)), strict=True))
    compared = [
        Comparison(a, b, float((truth[a] > truth[b]) != (rng.random() < flipped)))
        for a, b in scheduled_pairs(TEXTS, opponents, seed)
    ]
    scores = score_comparisons(compared).scores
    return float(spearmanr([truth[t] for t in TEXTS], [scores[t] for t in TEXTS]).statistic)


@pytest.mark.parametrize(("opponents", "least"), [(10, 0.83), (30, 0.94)])
def test_planted_scores_are_found_with_a_tenth_of_the_outcomes_flipped(opponents: int, least: float) -> None:
    found = [planted_correlation(opponents, 0.1, seed) for seed in range(5)]
    assert np.mean(found) >= least


@pytest.mark.parametrize("opponents", [2, 10, 30])
def test_every_text_meets_its_opponents_and_all_are_connected(opponents: int) -> None:
    pairs = ring_pairs(TEXTS, opponents, 3)
    met = Counter(text for pair in pairs for text in pair)
    assert set(met.values()) == {opponents}
    assert len(pairs) == opponents * len(TEXTS) / 2
    assert ring_pairs(list(reversed(TEXTS)), opponents, 3) == pairs
    firsts = sum(pair[0] < pair[1] for pair in pairs)
    assert 0.3 < firsts / len(pairs) < 0.7


def test_a_tenth_of_the_pairs_is_compared_in_both_orders() -> None:
    pairs = scheduled_pairs(TEXTS, 10, 3)
    assert len(pairs) == 1100
    assert count_calls(200, 10, 4) == 1100 + 800


def test_few_texts_meet_all_others() -> None:
    assert len(ring_pairs(["a", "b", "c"], 10, 1)) == 3
    assert ring_pairs(["a"], 10, 1) == []


def test_ties_count_for_both_and_a_text_that_always_wins_has_a_finite_score() -> None:
    scored = score_comparisons(
        [
            Comparison("a", "b", 1),
            Comparison("b", "c", 0.5),
            Comparison("a", "c", 1),
            Comparison("c", "b", 0.5),
        ]
    )
    assert scored.scores["b"] == pytest.approx(scored.scores["c"], abs=1e-6)
    assert 0 < scored.scores["a"] < 10
    assert scored.tie_parameter > 0
    assert sum(scored.scores.values()) == pytest.approx(0, abs=1e-9)


def test_a_judge_that_prefers_the_first_text_gives_no_scores_if_both_orders_are_asked() -> None:
    pairs = ring_pairs(TEXTS[:20], 6, 1)
    both = [Comparison(a, b, 1.0) for a, b in [*pairs, *((b, a) for a, b in pairs)]]
    assert max(abs(s) for s in score_comparisons(both).scores.values()) == pytest.approx(0, abs=1e-9)
