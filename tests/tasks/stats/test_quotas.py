from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.stats.quotas import (
    RoundAtLevel,
    RoundStats,
    UnitStats,
    growth_factor,
    largest_remainder,
    plan_by_quotas,
    round_history,
)
from tests.tasks.judge.material import make_question

WORK, HOME = ("work", "hiring"), ("home", "chores")


def rounds(*units: dict[tuple[str, str], UnitStats], threshold: float = 0.5) -> list[RoundStats]:
    return [RoundStats(i, threshold, found) for i, found in enumerate(units)]


def factor(*units: UnitStats | None, threshold: float = 0.5) -> float:
    """Return the growth of one unit over its rounds, with `None` for rounds without the unit."""
    return growth_factor(
        "x", [RoundAtLevel(i, threshold, {} if u is None else {"x": u}) for i, u in enumerate(units)]
    )


def test_rising_unit_grows_by_a_fifth_and_pays_its_age() -> None:
    assert factor(UnitStats(20, 2, 0.1), UnitStats(20, 2, 0.2)) == pytest.approx(1.2 * 0.8)
    assert factor(UnitStats(20, 2, 0.2), UnitStats(20, 2, 0.2)) == pytest.approx(0.8)


def test_unit_without_hits_in_three_rounds_shrinks() -> None:
    barren = UnitStats(20, 0, 0.1)
    assert factor(barren, barren, barren) == pytest.approx(0.7 * 0.8)
    assert factor(barren, barren) == pytest.approx(0.8)
    assert factor(barren, barren, UnitStats(20, 2, 0.1)) == pytest.approx(0.8)


def test_new_unit_is_protected_and_rewarded_above_the_threshold() -> None:
    assert factor(None, UnitStats(4, 1, 0.2)) == 1.0
    assert factor(None, UnitStats(4, 4, 0.9)) == 1.2
    assert factor(None, UnitStats(4, 1, 0.2), UnitStats(4, 1, 0.1)) == pytest.approx(0.8)


def test_freed_quota_is_used_to_explore() -> None:
    plan = plan_by_quotas(rounds({WORK: UnitStats(15, 1, 0.1), HOME: UnitStats(5, 1, 0.1)}), 100, seed=1)
    assert plan.counts == {WORK: 48, HOME: 16}
    assert plan.within == {"work": 12, "home": 4}
    assert plan.beyond == 20
    assert plan.explore == 36


UNITS = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")),
    st.builds(UnitStats, st.integers(1, 30), st.integers(0, 3), st.floats(0, 1)),
    max_size=6,
)


@given(st.lists(UNITS, min_size=1, max_size=4), st.integers(0, 60), st.integers(0, 99))
def test_plan_spends_the_budget_exactly(
    history: list[dict[tuple[str, str], UnitStats]], questions: int, seed: int
) -> None:
    plan = plan_by_quotas(rounds(*history), questions, seed)
    assert sum(plan.counts.values()) + plan.explore == questions
    assert all(count > 0 for count in plan.counts.values())
    assert set(plan.counts) <= set(history[-1])
    assert plan == plan_by_quotas(rounds(*history), questions, seed)


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(0, 20), max_size=8),
    st.integers(0, 9),
)
def test_largest_remainder_is_never_a_whole_unit_off(shares: dict[str, float], seed: int) -> None:
    counts = largest_remainder(shares, seed)
    assert sum(counts.values()) == int(sum(shares.values()) + 1e-9)
    assert all(abs(counts[name] - shares[name]) < 1 for name in shares)


def test_ties_are_broken_by_the_seed_and_not_by_the_name() -> None:
    shares = dict.fromkeys("abcdefgh", 0.5)
    assert len({tuple(sorted(largest_remainder(shares, seed).items())) for seed in range(9)}) > 1


def test_history_is_read_from_the_archive_without_controls_and_unjudged_questions() -> None:
    archive = [
        make_question(1, fitness=0.6, label="accepted"),
        make_question(2, fitness=0.2),
        make_question(3, fitness=0.9, label="control", control="a_a"),
        make_question(4),
        make_question(5, fitness=0.8, label="accepted", round=1, domain="pay"),
    ]
    first, second = round_history(archive)
    assert first.units == {("work", "hiring"): UnitStats(2, 1, (0.6 + 0.2) / 2)}
    assert second.units == {("work", "pay"): UnitStats(1, 1, 0.8)}
    assert first.threshold == 0.6
    assert round_history(archive[1:2])[0].threshold == inf
