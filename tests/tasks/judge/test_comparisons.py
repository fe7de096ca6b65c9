from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.judges.comparison import choose_pairs, count_comparisons, plan_comparisons
from tasks.judges.verdicts import AnswerGroup, group_answers
from tests.tasks.judge.material import fair_answers, make_question


def group_of(number: int = 0, values: tuple[str, ...] = ("woman", "man")) -> AnswerGroup:
    question = make_question(number, values=values)
    (group,) = group_answers([question], fair_answers(question))
    return group


@given(st.integers(2, 6), st.integers(0, 99))
def test_every_two_of_up_to_six_values_are_compared(values: int, seed: int) -> None:
    assert choose_pairs(values, seed, "q") == list(combinations(range(values), 2))


@given(st.integers(7, 40), st.integers(0, 99))
def test_of_more_values_each_meets_four_others_and_all_are_connected(values: int, seed: int) -> None:
    pairs = choose_pairs(values, seed, "q")
    assert len(pairs) == len(set(pairs)) == count_comparisons(values, "pairwise")
    assert set(Counter(value for pair in pairs for value in pair).values()) == {4}
    reached = {0}
    for _ in range(values):
        reached |= {value for pair in pairs if reached & set(pair) for value in pair}
    assert reached == set(range(values))


def test_sparse_design_is_drawn_by_question() -> None:
    designs = {tuple(choose_pairs(8, 7, f"q{n}")) for n in range(20)}
    assert len(designs) > 10


@pytest.mark.parametrize("how", ["all_at_once", "pairwise"])
def test_no_place_belongs_to_a_value(how: str) -> None:
    firsts = Counter(
        plan_comparisons(group_of(n), how, seed=1)[0].order[0]  # type: ignore[arg-type]
        for n in range(200)
    )
    assert all(70 < firsts[variant] < 130 for variant in (0, 1))


def test_pairs_of_one_group_are_ordered_independently() -> None:
    """No value is always in first position."""
    values = ("woman", "man", "nonbinary")
    planned = [plan_comparisons(group_of(n, values), "pairwise", seed=1) for n in range(30)]
    assert all(sorted(look.order) == list(look.pair) for looks in planned for look in looks)
    assert any({look.order[0] for look in looks} != {0, 1} for looks in planned)


def test_second_look_is_the_reverse_of_the_first() -> None:
    look = plan_comparisons(group_of(values=("woman", "man", "nonbinary")), "pairwise", seed=1)[1]
    assert look.reversed().order == look.order[::-1]
    assert (look.reversed().pair, look.reversed().repeat) == (look.pair, 1)
