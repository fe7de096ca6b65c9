from __future__ import annotations

import pytest

from schemas.gate import Passport, ProbeResult, passport_key
from schemas.recipe import Bar


def passport(*probes: ProbeResult) -> Passport:
    return Passport(
        judge="j",
        revision=None,
        rubric="r",
        rubric_hash="h",
        prompt_hash="p",
        comparison="pairwise",
        scenes=10,
        probes=probes,
    )


def result(probe: str, measure: str, value: float | None, n: int = 10, **more: float) -> ProbeResult:
    return ProbeResult(probe=probe, measure=measure, value=value, n=n, asked=10, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probe", "measure", "fine", "short"),
    [
        ("a_a", "beyond_chance", 0.15, 0.16),
        ("position", "verdicts_lost_to_order", 0.4, 0.41),
        ("planted", "recall_2", 0.6, 0.59),
        ("authority", "verdict_recall_lost", 0.2, 0.21),
        ("verbosity", "pick_accuracy_lost", -0.3, 0.21),
    ],
)
def test_bar_holds_at_its_very_value(probe: str, measure: str, fine: float, short: float) -> None:
    assert passport(result(probe, measure, fine)).shortfalls(Bar()) == ()
    (words,) = passport(result(probe, measure, short)).shortfalls(Bar())
    assert words.startswith(f"{probe}: ")


def test_measures_without_a_bar_are_only_reported() -> None:
    assert passport(result("planted", "recall_1", 0.0), result("gold", "kappa", -1.0)).shortfalls(Bar()) == ()


def test_judge_that_abstains_mostly_does_not_pass() -> None:
    (words,) = passport(result("planted", "recall_2", 1.0, n=4)).shortfalls(Bar())
    assert "only 4 of 10 scenes" in words
    (words,) = passport(result("planted", "recall_2", None, n=0)).shortfalls(Bar())
    assert "only 0 of 10" in words


def test_recall_no_higher_than_false_alarms_is_a_shortfall() -> None:
    shortfalls = passport(result("planted", "recall_2_over_a_a", 0.1, low=-0.1, high=0.3)).shortfalls(Bar())
    assert len(shortfalls) == 1


def test_floor_is_left_out_only_by_an_interval_beyond_it() -> None:
    assert result("position", "first_picked", 0.7, low=0.6, high=0.8, floor=0.5).differs_from_floor
    assert not result("position", "first_picked", 0.6, low=0.5, high=0.7, floor=0.5).differs_from_floor
    assert not result("planted", "recall_1", 0.6, low=0.5, high=0.7).differs_from_floor


def test_key_changes_with_everything_that_makes_another_judge() -> None:
    keys = {
        passport_key(*parts) for parts in (("a", "b", "c", "d"), ("a", "b", "c", "e"), ("a", "x", "c", "d"))
    }
    assert len(keys) == 3
