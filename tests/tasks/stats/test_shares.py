from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.stats.resampling import Interval
from tasks.stats.shares import (
    chance_error,
    pairwise_agreement,
    power_of_share,
    share_with_interval,
    subtract_intervals,
    transform_interval,
    trials_for_power,
)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (31, 62), (62, 62)])
def test_interval_is_that_of_statsmodels(hits: int, n: int) -> None:
    from statsmodels.stats.proportion import proportion_confint

    found = share_with_interval(hits, n)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(proportion_confint(hits, n, method="beta"))


def test_difference_is_that_of_statsmodels_for_two_shares() -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

    one, other = (
        Interval(hits / n, *proportion_confint(hits, n, method="wilson"), n)
        for hits, n in ((56, 70), (48, 80))
    )
    found = subtract_intervals(one, other)
    expected = confint_proportions_2indep(56, 70, 48, 80, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx(expected)


def test_no_look_has_no_share() -> None:
    assert share_with_interval(0, 0) is None


@given(st.floats(min_value=0, max_value=0.5))
def test_chance_error_is_recovered_from_three_looks(error: float) -> None:
    identical = (1 - error) ** 3 + error**3
    assert chance_error(identical) == pytest.approx(error, abs=1e-6)
    assert pairwise_agreement(identical) == pytest.approx(1 - 2 * error * (1 - error))


def test_transformed_interval_is_in_order() -> None:
    found = transform_interval(Interval(0.9, 0.8, 0.95, 62), chance_error)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_sixty_two_scenes_show_a_bias_of_twenty_points() -> None:
    """Check the figures of docs/methods.md."""
    assert power_of_share(62, 0.5, 0.7) == pytest.approx(0.86, abs=0.01)
    assert power_of_share(62, 0.95, 0.75) > 0.99
    assert power_of_share(62, 0.0, 0.2) > 0.99
    assert trials_for_power(0.5, 0.7) == 54
    assert power_of_share(62, 0.5, 0.5) == pytest.approx(0.05, abs=0.03)
