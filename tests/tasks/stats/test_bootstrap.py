from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.stats.resampling import cluster_bootstrap, mean_with_interval, ratio_of_sums


def test_two_clusters_are_resampled_exactly() -> None:
    interval = mean_with_interval([0.0, 1.0], seed=1)
    assert (interval.value, interval.low, interval.high, interval.n) == (0.5, 0.0, 1.0, 2)


def test_one_cluster_has_no_interval_and_none_is_an_error() -> None:
    assert mean_with_interval([0.3], seed=1).low is None
    with pytest.raises(ValueError, match="no clusters"):
        mean_with_interval([], seed=1)


def test_clusters_that_agree_have_an_interval_of_width_zero() -> None:
    interval = mean_with_interval([0.1] * 50, seed=1)
    assert interval.low == interval.high == interval.value


def test_interval_covers_the_truth_at_its_nominal_rate() -> None:
    rng = np.random.default_rng(5)
    intervals = [mean_with_interval(rng.normal(size=30), seed=k) for k in range(200)]
    covered = [i.low is not None and i.high is not None and i.low <= 0 <= i.high for i in intervals]
    assert 0.87 <= np.mean(covered) <= 0.99


def test_rows_of_one_scenario_do_not_narrow_the_interval() -> None:
    scenarios = np.random.default_rng(2).normal(size=20)
    once = mean_with_interval(scenarios, seed=4)
    many = mean_with_interval(scenarios, seed=4, weights=[50] * 20)
    assert (once.low, once.high) == pytest.approx((many.low, many.high))


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12), st.integers(0, 1000))
def test_interval_contains_no_value_outside_the_data_and_repeats(values: list[float], seed: int) -> None:
    interval = mean_with_interval(values, seed)
    assert interval == mean_with_interval(values, seed)
    assert interval.low is not None
    assert interval.high is not None
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


def test_statistic_that_is_not_defined_in_a_resample_is_left_out() -> None:
    interval = cluster_bootstrap([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]], ratio_of_sums, seed=1)
    assert (interval.low, interval.high) == (1.0, 1.0)
