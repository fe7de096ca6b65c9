"""McNemar's test is exact if few items are discordant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.stats.hypothesis_tests import MCNEMAR_EXACT_BELOW, mcnemar_p_value

COUNT = st.integers(0, 60)


def test_few_disputed_items_are_tested_exactly() -> None:
    assert mcnemar_p_value(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar_p_value(1, 0) == 1


def test_many_disputed_items_are_tested_by_chi_square_with_correction() -> None:
    from scipy.stats import chi2

    assert mcnemar_p_value(20, 5) == pytest.approx(chi2.sf((20 - 5 - 1) ** 2 / 25, 1))
    assert MCNEMAR_EXACT_BELOW == 25


def test_without_disputed_items_nothing_differs() -> None:
    assert mcnemar_p_value(0, 0) == 1


@given(COUNT, COUNT)
def test_the_order_of_the_two_ways_does_not_matter(one: int, other: int) -> None:
    assert mcnemar_p_value(one, other) == pytest.approx(mcnemar_p_value(other, one))
    assert 0 < mcnemar_p_value(one, other) <= 1
