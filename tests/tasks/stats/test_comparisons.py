"""Matched controls, repeated measurements, and the smallest detectable effect."""

from math import inf

import numpy as np
import pytest

from tasks.stats.comparisons import matched_rank_test
from tasks.stats.power import power_of_excess, smallest_detectable_excess


def fitness(generator, versions, n):
    """Draw the largest score over pairs of versions. The judge errs in 3 % of pairs."""
    pairs = versions * (versions - 1) // 2
    return ((generator.random((n, pairs)) < 0.03) * generator.beta(2, 5, (n, pairs))).max(axis=1).tolist()


def test_only_controls_with_equal_numbers_of_versions_are_compared():
    generator = np.random.default_rng(1)
    matched = unmatched = 0
    for seed in range(200):
        questions = fitness(generator, 6, 20)
        matched += matched_rank_test({6: questions}, {6: fitness(generator, 6, 30)}, seed).p_value < 0.05
        unmatched += matched_rank_test({1: questions}, {1: fitness(generator, 2, 30)}, seed).p_value < 0.05
    assert matched / 200 < 0.09
    assert unmatched / 200 > 0.3


def test_scores_without_a_matching_control_are_counted_and_not_tested():
    test = matched_rank_test({2: [0.5], 6: [0.9, 0.8]}, {2: [0.1, 0.0, 0.2]}, 1)
    assert (test.compared, test.unmatched, test.p_value) == (1, 2, pytest.approx(1 / 4))
    assert matched_rank_test({6: [0.9]}, {2: [0.1]}, 1).p_value is None


def test_the_smallest_detectable_excess_has_the_promised_power():
    effect = smallest_detectable_excess(3, 40)
    assert power_of_excess(effect, 3, 40, runs=1500) == pytest.approx(0.8, abs=0.06)
    assert power_of_excess(0.0, 3, 40, runs=1500) < 0.08
    assert smallest_detectable_excess(4, 40) < effect < smallest_detectable_excess(3, 20)
    assert smallest_detectable_excess(1, 40) == smallest_detectable_excess(3, 0) == inf
