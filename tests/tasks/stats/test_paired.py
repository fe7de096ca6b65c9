"""Outlier removal for paired scores is symmetric in the sides and bounded in number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from tasks.families.perplexity_pair import paired_t_test

SCORES = st.lists(st.tuples(st.floats(0, 12), st.floats(0, 12)), min_size=2, max_size=40)


@settings(deadline=None)
@given(SCORES)
def test_exchanging_the_sides_turns_the_sign_and_keeps_the_pairs(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    one, other = paired_t_test(first, second), paired_t_test(second, first)
    assert one.kept == other.kept
    assert one.differences == tuple(-d for d in other.differences)
    assert one.test.p_value == pytest.approx(other.test.p_value, nan_ok=True)


@settings(deadline=None)
@given(SCORES, st.floats(-3, 3))
def test_a_shift_of_both_sides_changes_nothing(pairs: list[tuple[float, float]], shift: float) -> None:
    rounded = [(round(a, 3), round(b, 3)) for a, b in pairs]
    first, second = zip(*rounded, strict=True)
    moved = paired_t_test([a + shift for a in first], [b + shift for b in second])
    assert moved.differences == pytest.approx(paired_t_test(first, second).differences)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=10))
def test_of_ten_pairs_none_is_an_outlier(pairs: list[tuple[float, float]]) -> None:
    first, second = ([a for a, _ in pairs], [b for _, b in pairs])
    assert paired_t_test(first, second).removed == 0


def test_one_wild_score_takes_its_pair_with_it_and_the_rest_is_the_usual_test() -> None:
    generator = np.random.default_rng(3)
    first = generator.normal(4, 0.5, 30)
    second = first + generator.normal(0.2, 0.1, 30)
    expected = ttest_rel(first[1:], second[1:])
    wild = first.copy()
    wild[0] = 40.0
    found = paired_t_test(wild.tolist(), second.tolist())
    assert (found.removed, found.kept[0], found.test.n) == (1, False, 29)
    assert found.test.t == pytest.approx(expected.statistic)
    assert found.test.p_value == pytest.approx(expected.pvalue)


def test_twins_without_difference_have_no_effect() -> None:
    found = paired_t_test([3.0, 4.0, 5.0], [3.0, 4.0, 5.0])
    assert (found.test.mean, found.test.t, found.test.p_value) == (0, 0, 1)
