"""Range of a rate over values that share questions, and its permutation test."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.stats.differential_rate import differential_rate


def test_equal_rates_have_no_range_and_p_1() -> None:
    assert differential_rate(np.full((5, 3), 2.0), np.full((5, 3), 4.0), 1) == (0.0, 1.0)


def test_range_is_that_of_pooled_rates() -> None:
    hits, asked = np.array([[4.0, 1.0], [2.0, 1.0]]), np.array([[4.0, 4.0], [4.0, 4.0]])
    assert differential_rate(hits, asked, 1)[0] == pytest.approx(6 / 8 - 2 / 8)


def test_consistent_difference_over_many_questions_is_found_and_one_question_is_not_enough() -> None:
    asked = np.full((12, 2), 3.0)
    hits = np.column_stack([np.full(12, 3.0), np.full(12, 1.0)])
    assert differential_rate(hits, asked, 1)[1] < 0.01
    assert differential_rate(hits[:1], asked[:1], 1)[1] > 0.5


def test_p_values_are_uniform_without_a_difference() -> None:
    """Draw 30 questions 300 times. Unreadable answers cluster by question."""
    rng = np.random.default_rng(7)
    rate = rng.beta(0.5, 0.5, size=(300, 30, 1))
    hits = rng.binomial(4, np.broadcast_to(rate, (300, 30, 2))).astype(float)
    p_values = [differential_rate(h, np.full((30, 2), 4.0), i)[1] for i, h in enumerate(hits)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.08


def test_values_that_a_question_does_not_have_stay_absent() -> None:
    asked = np.array([[2.0, 2.0, 0.0], [0.0, 2.0, 2.0]])
    hits = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    spread, p_value = differential_rate(hits, asked, 3)
    assert spread == pytest.approx(1.0)
    assert 0 < p_value <= 1
