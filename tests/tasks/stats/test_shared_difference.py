from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tasks.stats import shared_difference as shared_difference_module
from tasks.stats.resampling import excess_weights
from tasks.stats.shared_difference import mean_differences, shared_difference

SIZES = (3, 3)


def answers(seed: int, questions: int, shift: float, *, shared: bool = True) -> np.ndarray:
    """Draw noise with a shift for value 0, in one direction for all questions or one for each."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(questions, 6, 20))
    directions = generator.normal(size=(questions, 20))
    direction = np.tile(directions[0], (questions, 1)) if shared else directions
    rows[:, :3] += shift * (direction / np.linalg.norm(direction, axis=1, keepdims=True))[:, None, :]
    return rows.reshape(-1, 20)


def test_by_hand_two_questions_that_differ_alike() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    interval, p = shared_difference(vectors, [(1, 1), (1, 1)], seed=1)
    assert interval.value == pytest.approx(1.0)
    assert (interval.low, interval.high, interval.n) == (None, None, 2)
    assert p == pytest.approx(0.5, abs=0.06)  # of four ways to exchange, two share as much


def test_by_hand_two_questions_that_differ_in_opposite_ways() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert shared_difference(vectors, [(1, 1), (1, 1)], seed=1)[0].value == pytest.approx(-1.0)


def test_shared_difference_is_found_on_the_scale_of_the_excess() -> None:
    vectors = answers(1, 40, 6.0)
    interval, p = shared_difference(vectors, [SIZES] * 40, seed=1)
    assert p <= 0.002
    assert interval.low is not None
    assert interval.low > 0
    i, j = np.triu_indices(6, 1)
    excess = [
        float(excess_weights(SIZES)[0] @ (0.5 * ((rows[i] - rows[j]) ** 2).sum(axis=1)))
        for rows in vectors.reshape(40, 6, 20)
    ]
    assert interval.value == pytest.approx(6.0**2 / 2, rel=0.1)
    assert np.mean(excess) == pytest.approx(6.0**2 / 2, rel=0.1)


def test_sparse_vectors_and_few_draws_at_a_time_give_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = np.where(answers(3, 240, 0.0) > 0.8, answers(3, 240, 0.4), 0.0)
    whole = shared_difference(dense, [SIZES] * 240, seed=3)
    monkeypatch.setattr(shared_difference_module, "_PERMUTED_CELLS", 4_000)
    assert shared_difference(dense, [SIZES] * 240, seed=3) == whole
    sparse = shared_difference(csr_array(dense), [SIZES] * 240, seed=3)
    assert sparse[0].value == pytest.approx(whole[0].value, rel=1e-9)
    assert (sparse[0].low, sparse[0].high) == pytest.approx((whole[0].low, whole[0].high), rel=1e-9)
    assert sparse[1] == whole[1]


def test_differences_in_different_directions_are_not_shared() -> None:
    interval, p = shared_difference(answers(2, 40, 1.5, shared=False), [SIZES] * 40, seed=1)
    assert abs(interval.value) < 0.2
    assert p > 0.01


def test_no_difference_is_rarely_called_one() -> None:
    p_values = [shared_difference(answers(s, 5, 0.0), [SIZES] * 5, seed=s)[1] for s in range(100)]
    assert sum(p <= 0.05 for p in p_values) <= 11
    assert 0.4 < float(np.mean(p_values)) < 0.6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(4)))
def test_order_of_the_questions_does_not_change_the_estimate(seed: int, order: list[int]) -> None:
    rows = answers(seed, 4, 0.5).reshape(4, 6, 20)
    there = shared_difference(rows.reshape(-1, 20), [SIZES] * 4, seed=1)[0].value
    again = shared_difference(rows[order].reshape(-1, 20), [SIZES] * 4, seed=1)[0].value
    assert again == pytest.approx(there)


def test_mean_differences_are_centred_for_uneven_numbers_of_answers() -> None:
    vectors = np.random.default_rng(0).normal(size=(7, 3))
    found = mean_differences(vectors, [(1, 3), (2, 1)])
    assert found.shape == (2, 2, 3)
    assert np.allclose(found.sum(axis=1), 0)
    assert np.allclose(found[1, 0] - found[1, 1], vectors[4:6].mean(axis=0) - vectors[6])


def test_one_question_shares_nothing() -> None:
    with pytest.raises(ValueError, match="at least two questions"):
        shared_difference(answers(1, 1, 0.0), [SIZES], seed=1)


def test_value_is_the_mean_product_of_different_questions() -> None:
    vectors = answers(3, 60, 1.5)
    differences = mean_differences(vectors, [SIZES] * 60).reshape(60, -1)
    products = differences @ differences.T
    expected = products[~np.eye(60, dtype=bool)].mean()
    assert shared_difference(vectors, [SIZES] * 60, seed=1)[0].value == pytest.approx(expected)


def test_twins_count_once_and_few_families_have_no_interval() -> None:
    vectors, families = answers(4, 12, 2.0), [i // 2 for i in range(12)]
    alone, _ = shared_difference(vectors, [SIZES] * 12, seed=1)
    twins, _ = shared_difference(vectors, [SIZES] * 12, seed=1, clusters=families)
    assert (twins.value, twins.n) == (pytest.approx(alone.value), 6)
    assert (twins.low, twins.high) == (None, None)
    assert alone.low is not None


def test_interval_covers_small_differences() -> None:
    """A percentile bootstrap of seven questions covers in about .75."""
    covered = []
    for seed in range(300):
        interval, _ = shared_difference(answers(seed, 7, 1.0), [SIZES] * 7, seed=1)
        assert interval.low is not None
        assert interval.high is not None
        covered.append(interval.low <= 0.5 <= interval.high)
    assert np.mean(covered) >= 0.93
