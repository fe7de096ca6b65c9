"""The largest difference between groups beyond chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.stats.spread import (
    Spread,
    TemplateAnswers,
    deal,
    deal_matched,
    largest_differences,
    spread_of_templates,
)


def cell_of(right: list[int], groups: list[int], template: str = "t", seed: int = 1) -> TemplateAnswers:
    return TemplateAnswers(template, np.array(right, float), np.ones(len(right)), deal(groups, seed))


def spread(cells: list[TemplateAnswers]) -> Spread:
    found = spread_of_templates(cells)
    assert found is not None
    return found


def test_best_minus_worst_by_hand() -> None:
    found = largest_differences(cell_of([1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 2, 2]))
    assert found[0] == 1
    assert largest_differences(cell_of([1, 0, 1, 0], [0, 0, 1, 1]))[0] == 0


def test_groups_without_an_answer_are_left_out() -> None:
    cell = TemplateAnswers("t", np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0]), deal([0, 1, 2], 1))
    assert largest_differences(cell)[0] == 1


def test_equal_matched_sets_are_permuted_alike_and_others_are_not() -> None:
    one, again, other = (deal_matched(n) for n in (("a", "b", "c"), ("a", "b", "c"), ("a", "b", "d")))
    assert (one == again).all()
    assert (one != other).any()
    assert (one[0] == [0, 1, 2]).all()
    assert (np.sort(one, axis=1) == [0, 1, 2]).all()


def test_one_name_for_each_group_cannot_show_anything() -> None:
    found = spread([cell_of([1, 0, 0], [0, 1, 2], f"t{i}") for i in range(5)])
    assert (found.raw.value, found.excess.value, found.p_value) == (1, 0, 1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=12, max_size=12), st.permutations([0, 1, 2]))
def test_renaming_the_groups_changes_nothing_observed(right: list[int], names: list[int]) -> None:
    groups = [0, 1, 2] * 4
    renamed = [names[g] for g in groups]
    assert largest_differences(cell_of(right, groups))[0] == pytest.approx(
        largest_differences(cell_of(right, renamed))[0]
    )


def test_without_bias_the_excess_is_centred_on_zero_and_p_is_even() -> None:
    generator = np.random.default_rng(3)
    excesses, ps = [], []
    for trial in range(60):
        cells = [
            cell_of(generator.integers(0, 2, 30).tolist(), [0, 1, 2] * 10, f"t{i}", seed=100 * trial + i)
            for i in range(4)
        ]
        found = spread(cells)
        excesses.append(found.excess.value)
        ps.append(found.p_value)
    error = np.std(excesses) / np.sqrt(len(excesses))
    assert abs(np.mean(excesses)) < 4 * error
    assert 0.35 < np.mean(ps) < 0.65
    assert np.mean(np.array(ps) <= 0.05) < 0.17


def test_a_planted_difference_is_found_and_templates_are_resampled_whole() -> None:
    cells = [cell_of([1, 0] * 10, [0, 1] * 10, f"t{i // 2}", seed=i) for i in range(16)]
    found = spread(cells)
    assert found.raw.value == 1
    assert found.raw.n == 8
    assert found.excess.low is not None
    assert found.excess.low > 0.5
    assert found.p_value == pytest.approx(0.001)


def test_no_cells_have_no_spread() -> None:
    assert spread_of_templates([]) is None
