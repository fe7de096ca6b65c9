"""The interval and the test of a signed mean agree about 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.stats.resampling import ratio_of_sums, sign_flip_p_value
from tasks.stats.signed_means import exchange_p_value, signed_mean, signed_statistic

SCORES = st.lists(st.sampled_from([-1.0, -0.5, -0.1, 0.0, 0.1, 0.25, 0.5, 1.0]), min_size=1, max_size=40)


def excludes_0(interval) -> bool:
    return not interval.low <= 0 <= interval.high


@given(SCORES, st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_an_interval_excludes_0_if_and_only_if_the_test_does(values, seed):
    interval, p_value = signed_mean(values, seed, bounds=(-1, 1))
    if interval.low is not None:
        assert excludes_0(interval) == (p_value <= 0.05)
        assert interval.low <= interval.value <= interval.high
        assert interval.low < interval.high


@pytest.mark.parametrize("n", [7, 15, 24, 60])
@pytest.mark.parametrize("difference", [0.02, -0.1, 0.5])
def test_a_constant_difference_differs_and_its_interval_excludes_0(n, difference):
    interval, p_value = signed_mean([difference] * n, 1, bounds=(-1, 1))
    assert p_value <= 0.05
    assert excludes_0(interval)
    assert interval.low < difference < interval.high


def test_continuous_scores_agree_for_every_size():
    generator = np.random.default_rng(3)
    for n in (7, 8, 12, 30):
        for seed in range(60):
            interval, p_value = signed_mean(generator.normal(0.3, 0.6, n), seed)
            assert excludes_0(interval) == (p_value <= 0.05)


def test_two_values_are_a_sign_flip_test():
    values = np.random.default_rng(1).normal(0.2, 1, 18)
    pairs = [np.array([v, -v]) for v in values]
    assert exchange_p_value(pairs, 5) == sign_flip_p_value(values, 5)


def rare_contrasts(generator, n, values=6):
    """Contrasts of a value that rarely differs from five others: skewed, and without an effect."""
    scores = (generator.random((n, values)) < 0.03).astype(float)
    return scores - scores.mean(axis=1, keepdims=True)


def test_rare_outcomes_of_one_of_six_values_are_no_effect():
    generator = np.random.default_rng(7)
    by_exchange, by_sign = [], []
    for seed in range(300):
        contrasts = rare_contrasts(generator, 40)
        nulls = [np.concatenate([row[:1], row[1:]]) for row in contrasts]
        by_exchange.append(signed_mean(contrasts[:, 0], seed, bounds=(-1, 1), nulls=nulls)[1] <= 0.05)
        by_sign.append(sign_flip_p_value(contrasts[:, 0], seed) <= 0.05)
    assert np.mean(by_exchange) < 0.06
    assert np.mean(by_sign) > 0.1  # the reason for the exchange of values


def test_a_statistic_agrees_with_its_test():
    generator = np.random.default_rng(2)
    for seed in range(40):
        totals = np.column_stack([generator.normal(0.4, 1, 20), np.full(20, 1.0)])
        p_value = sign_flip_p_value(totals[:, 0], seed)
        interval, agreed = signed_statistic(totals, ratio_of_sums, p_value)
        assert excludes_0(interval) == (agreed <= 0.05)


def test_few_questions_never_differ_by_a_test_of_many_values():
    nulls = [np.array([0.8, -0.2, -0.2, -0.2, -0.2])] * 4
    assert signed_mean([0.8] * 4, 1, nulls=nulls)[1] >= 0.125
