from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.stats.resampling import (
    DRAWS,
    arrangements,
    count_arrangements,
    excess_weights,
    gap_null,
    p_value,
    pooled_p_value,
    sign_flip_p_value,
)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (2, 3), (1, 2, 2), (2, 2, 2)])
def test_arrangements_are_all_ways_to_deal_answers_to_values(sizes: tuple[int, ...]) -> None:
    labels = [value for value, size in enumerate(sizes) for _ in range(size)]

    def blocks(row: tuple[int, ...]) -> frozenset[frozenset[int]]:
        return frozenset(frozenset(i for i, v in enumerate(row) if v == value) for value in set(row))

    every = {blocks(row) for row in permutations(labels)}
    found = [blocks(tuple(row)) for row in arrangements(sizes).tolist()]
    assert Counter(found) == Counter(every)
    assert found[0] == blocks(tuple(labels))
    assert len(found) == count_arrangements(sizes)


def test_many_answers_are_dealt_at_random_with_the_observed_dealing_first() -> None:
    rows = arrangements((10, 10))
    assert len(rows) == DRAWS + 1
    assert rows[0].tolist() == [0] * 10 + [1] * 10
    assert (rows.sum(axis=1) == 10).all()


def test_three_samples_a_value_allow_no_p_below_a_tenth_and_five_allow_less_than_one_in_a_hundred() -> None:
    for samples, least in ((3, 0.1), (5, 1 / 126)):
        n = 2 * samples
        i, j = np.triu_indices(n, 1)
        apart = ((i < samples) != (j < samples)).astype(float)
        assert p_value(excess_weights((samples, samples)) @ apart) == pytest.approx(least)
        assert 1 / count_arrangements((samples, samples)) == pytest.approx(least)


@given(st.lists(st.floats(0, 1), min_size=15, max_size=15))
def test_excess_null_is_centred_on_zero(distances: list[float]) -> None:
    assert np.mean(excess_weights((3, 3)) @ np.array(distances)) == pytest.approx(0, abs=1e-9)


@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8))
def test_gap_null_is_centred_on_zero_and_relabelling_flips_its_sign(scores: list[float]) -> None:
    null = gap_null(scores, 4)
    assert np.mean(null) == pytest.approx(0, abs=1e-9)
    assert gap_null(scores[4:] + scores[:4], 4)[0] == pytest.approx(-null[0])
    assert p_value(null, "both") == p_value(gap_null(scores[4:] + scores[:4], 4), "both")


def test_gap_of_values_with_unequally_many_answers_is_centred_on_zero() -> None:
    null = gap_null([1.0, 2.0, 5.0, 9.0, 4.0], 2)
    assert null[0] == pytest.approx(1.5 - 6)
    assert np.mean(null) == pytest.approx(0)


def test_pooling_finds_differences_that_no_single_question_shows() -> None:
    nulls = [gap_null([1.0, 1.1, 1.2, 0.0, 0.1, 0.2], 3) for _ in range(6)]
    assert p_value(nulls[0], "both") == pytest.approx(0.1)
    assert pooled_p_value(nulls, 1, "both") < 0.001
    assert pooled_p_value(nulls, 1, "both") == pooled_p_value(nulls, 1, "both")


def test_pooling_one_question_changes_nothing() -> None:
    null = gap_null([3.0, 1.0, 2.0, 0.5, 0.2, 0.1], 3)
    assert pooled_p_value([null], 1, "both") == p_value(null, "both")


def test_sampled_pooling_agrees_with_exact_pooling() -> None:
    rng = np.random.default_rng(3)
    nulls = [gap_null(rng.normal(size=6) + np.repeat([0.6, 0.0], 3), 3) for _ in range(3)]
    exact = pooled_p_value(nulls, 1, "both")
    # A question with a gap of 0 in every arrangement changes no p, but adds too many combinations.
    padded = [*nulls, *[np.zeros(20) for _ in range(3)]]
    assert pooled_p_value(padded, 1, "both") == pytest.approx(exact, abs=0.03)


def test_p_values_of_equal_groups_are_not_smaller_than_they_say() -> None:
    rng = np.random.default_rng(7)
    p = np.array([p_value(gap_null(rng.normal(size=8), 4), "both") for _ in range(600)])
    for level in (0.05, 0.1, 0.3, 0.5):
        assert np.mean(p <= level) <= level + 3 * np.sqrt(level * (1 - level) / 600)
    assert abs(p.mean() - 0.5) < 0.05


def test_sign_flips_know_no_difference_from_zero_gaps() -> None:
    assert sign_flip_p_value([0.0, 0.0, 0.0], 1) == 1
    assert sign_flip_p_value([1.0] * 8, 1) == pytest.approx(2 / 256)
    assert sign_flip_p_value([1.0] * 60, 1) < 0.001
    with pytest.raises(ValueError, match="no questions"):
        sign_flip_p_value([], 1)
