"""Association, completion, agreement, multiple testing, power."""

from __future__ import annotations

from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kendalltau

from tasks.families.completion import side_flip_p_value, tau_c_of_counts
from tasks.stats.agreement import krippendorff_alpha, weighted_kappa
from tasks.stats.hypothesis_tests import q_values, t_test_against_zero
from tasks.text.assignments import Assignments, association_score

COUNT = st.integers(0, 20)


def test_perfect_stereotype_scores_almost_one_and_its_reverse_almost_minus_one() -> None:
    assert association_score(Assignments(7, 0, 0, 7)) == pytest.approx(0.99715, abs=1e-5)
    assert association_score(Assignments(0, 7, 7, 0)) == -1
    assert association_score(Assignments(4, 4, 4, 4)) == pytest.approx(-0.00125, abs=1e-5)


@given(COUNT, COUNT, COUNT, COUNT)
def test_association_score_stays_in_range_and_is_defined_without_words(
    a: int, b: int, c: int, d: int
) -> None:
    assert -1 <= association_score(Assignments(a, b, c, d)) < 1


def test_t_test_agrees_with_the_textbook_and_with_constant_scores() -> None:
    result = t_test_against_zero([1.0, 2.0, 3.0])
    assert result.t == pytest.approx(2 / (1 / np.sqrt(3)))
    assert t_test_against_zero([0.5, 0.5]).t == inf
    assert t_test_against_zero([0.0, 0.0]).p_value == 1
    assert isnan(t_test_against_zero([0.4]).t)
    assert isnan(t_test_against_zero([]).mean)


def table_of(rows: list[tuple[int, int]]) -> NDArray[np.float64]:
    table = np.zeros((2, 3))
    for side, choice in rows:
        table[(side + 1) // 2, choice + 1] += 1
    return table


SIDES_AND_CHOICES = st.lists(
    st.tuples(st.sampled_from([-1, 1]), st.sampled_from([-1, 0, 1])), min_size=1, max_size=40
)


@given(SIDES_AND_CHOICES)
def test_tau_c_of_counts_is_tau_c_of_rows(rows: list[tuple[int, int]]) -> None:
    sides, choices = zip(*rows, strict=True)
    varied = len(set(sides)) > 1 and len(set(choices)) > 1
    expected = kendalltau(sides, choices, variant="c").statistic if varied else nan
    assert tau_c_of_counts(table_of(rows)) == pytest.approx(expected, nan_ok=True)


@given(SIDES_AND_CHOICES)
def test_exchanging_sides_flips_the_sign_of_tau_c(rows: list[tuple[int, int]]) -> None:
    exchanged = [(-side, choice) for side, choice in rows]
    tau = tau_c_of_counts(table_of(rows))
    assert tau_c_of_counts(table_of(exchanged)) == pytest.approx(-tau, nan_ok=True)


def test_side_flips_find_a_planted_preference_and_no_other() -> None:
    like_with_like = np.array([[[2, 1, 0], [0, 1, 2]]] * 10)
    assert side_flip_p_value(like_with_like, 1) <= 2 / 2**10
    indifferent = np.array([[[1, 1, 1], [1, 1, 1]]] * 10)
    assert side_flip_p_value(indifferent, 1) == 1
    assert side_flip_p_value(np.zeros((3, 2, 3)), 1) == 1


def test_krippendorff_alpha_of_the_published_example() -> None:
    """Four observers, twelve units, values missing (Krippendorff 2011): ordinal alpha .815."""
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    assert krippendorff_alpha(ratings) == pytest.approx(0.815, abs=5e-4)


def test_agreement_is_one_for_equal_judges_and_undefined_without_variation() -> None:
    assert krippendorff_alpha([[1, 3, 5], [1, 3, 5]]) == 1
    assert weighted_kappa([1, 3, 5], [1, 3, 5]) == 1
    assert isnan(krippendorff_alpha([[2, 2], [2, 2]]))
    assert isnan(krippendorff_alpha([[1, None], [None, 2]]))
    assert isnan(weighted_kappa([2, 2], [2, 2]))
    assert weighted_kappa([1, 2, 3, 4], [4, 3, 2, 1]) < 0
    with pytest.raises(ValueError, match="same units"):
        weighted_kappa([1], [1, 2])


def test_false_discovery_rate_skips_untested_effects() -> None:
    assert q_values([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.04, 0.04])
    assert q_values([None]) == [None]
    assert q_values([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_q_is_never_below_p_and_keeps_the_order(p: list[float]) -> None:
    q = q_values(p)
    assert all(a is not None and a >= b - 1e-12 for a, b in zip(q, p, strict=True))
    ordered = [q[i] or 0.0 for i in np.argsort(p)]
    assert ordered == sorted(ordered)
