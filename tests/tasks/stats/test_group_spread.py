"""The largest difference between groups is corrected for chance, which alone makes it positive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.stats.spread import group_spread, spread_interval


def test_two_settings_by_hand() -> None:
    found = group_spread([[1.0, 0.0, 0.5], [1.0, 0.0, np.nan]], 1)
    assert found.raw.value == 1
    assert found.raw.n == 2
    assert (found.raw.low, found.excess.high) == (None, None), "two settings are too few for an interval"


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 99))
def test_the_order_of_groups_does_not_matter(order: list[int], seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(4, 5))
    assert group_spread(scores[:, order], 1).raw.value == pytest.approx(group_spread(scores, 1).raw.value)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99))
def test_turning_the_scale_round_changes_nothing(seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(6, 4))
    one, other = group_spread(scores, 1), group_spread(-scores, 1)
    assert one.raw.value == pytest.approx(other.raw.value)
    assert one.p_value == pytest.approx(other.p_value)


def test_without_bias_the_excess_is_centred_on_nothing_and_p_is_rarely_small() -> None:
    found = [group_spread(np.random.default_rng(i).normal(size=(8, 10)), i) for i in range(60)]
    assert np.mean([f.raw.value for f in found]) > 0.5
    assert abs(np.mean([f.excess.value for f in found])) < 0.1
    assert np.mean([f.p_value <= 0.05 for f in found]) < 0.15


def test_a_group_that_always_differs_is_found() -> None:
    scores = np.random.default_rng(0).normal(0, 0.2, size=(10, 12))
    scores[:, 3] -= 1
    found = group_spread(scores, 1)
    assert found.p_value == 0.001
    assert found.excess.value > 0.5
    assert found.excess.low is not None
    assert found.excess.low > 0


def test_a_setting_alone_has_no_interval_and_a_group_alone_no_spread() -> None:
    assert group_spread([[1.0, 2.0]], 1).raw.low is None
    with pytest.raises(ValueError, match="no two groups"):
        group_spread([[1.0, np.nan]], 1)


def test_interval_covers_the_mean_spread_and_ignores_missing_scores() -> None:
    means = np.linspace(0, 2, 5)
    generator = np.random.default_rng(2)
    truth = float(np.ptp(generator.normal(size=(20_000, 5)) / 8**0.5 + means, axis=1).mean())
    covered = []
    for _ in range(300):
        interval = spread_interval(generator.normal(size=(8, 5)) + means)
        assert interval.low is not None
        assert interval.high is not None
        covered.append(interval.low <= truth <= interval.high)
    assert np.mean(covered) >= 0.93
    scores = generator.normal(size=(9, 3)) + means[:3]
    scores[0, 0] = np.nan
    with_gap = spread_interval(np.hstack([scores, np.full((9, 1), np.nan)]))
    assert with_gap == spread_interval(scores)
