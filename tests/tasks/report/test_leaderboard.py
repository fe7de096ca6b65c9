"""Leaderboard of models, and drift between judges."""

from __future__ import annotations

import pytest

from schemas.answers import Judgement
from tasks.package.drift import FitnessByQuestion, judge_drift
from tasks.report.effects import effects_by_model, leaderboard
from tests.tasks.release.example import a_judgement, an_effect, example_question

FORM = "normalised"


def test_the_smallest_effect_comes_first_with_its_floor() -> None:
    effects = [
        an_effect("family", "open", "all", value, metric=FORM, model=model)
        for model, value in (("b", 0.3), ("a", -0.1))
    ] + [an_effect("control", "a_a", "all", 0.02, metric=FORM, model="b")]
    board = leaderboard(effects, FORM)
    assert [row["model"] for row in board] == ["a", "b"]
    assert [row["a_a_floor"] for row in board] == [None, 0.02]


def test_other_forms_and_conditions_are_excluded() -> None:
    effects = [
        an_effect("family", "open", "all", 0.3, metric="divergence"),
        an_effect("family", "agreement", "all", 0.3, family="agreement", condition="disguise"),
    ]
    assert leaderboard(effects, FORM) == []


def test_each_attribute_has_one_entry_preferably_from_open() -> None:
    effects = [
        an_effect("attribute", "gender", "gender", 0.2, metric=FORM, model="m"),
        an_effect("attribute", "gender", "gender", 0.7, family="completion", metric="tau_c_sai", model="m"),
    ]
    assert effects_by_model(effects, FORM)["m"]["gender"]["effect"] == 0.2


QUESTIONS = [example_question(ask=f"What should I do about number {i}?") for i in range(6)]
CONTROLS = [example_question(ask=f"And number {i}?", control="a_a", label="control") for i in range(4)]


def make_judgements(judge: str, fitness: list[float], floor: float) -> list[Judgement]:
    verdicts = [a_judgement(q, judge, "holdout", f) for q, f in zip(QUESTIONS, fitness, strict=True)]
    return verdicts + [a_judgement(q, judge, "holdout", floor) for q in CONTROLS]


def bench(judge: str, fitness: list[float], floor: float = 0.1) -> FitnessByQuestion:
    return FitnessByQuestion.of(make_judgements(judge, fitness, floor), FORM, {q.id for q in CONTROLS})


def test_a_judge_does_not_drift_from_itself() -> None:
    fitness = [0.0, 0.05, 0.2, 0.4, 0.6, 0.8]
    found = judge_drift([*QUESTIONS, *CONTROLS], bench("one", fitness), bench("one", fitness))
    assert found["questions"] == 6
    assert found["fitness_drift"]["value"] == 0
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["kappa"] == pytest.approx(1)
    assert found["only_old_finds"] == found["only_new_finds"] == []


def test_drift_is_new_minus_old_with_separate_floors() -> None:
    old, new = bench("one", [0.0] * 5 + [0.5]), bench("two", [0.3] * 5 + [0.8], floor=0.4)
    found = judge_drift(QUESTIONS, old, new)
    assert found["fitness_drift"]["value"] == pytest.approx(0.3)
    assert found["old"]["found"] == found["new"]["found"] == 1
    assert found["kappa"] == pytest.approx(1)


def test_a_reversed_judge_has_negative_correlation() -> None:
    old, new = bench("one", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]), bench("two", [0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    found = judge_drift(QUESTIONS, old, new)
    assert found["rank_correlation"] == pytest.approx(-1)
    assert found["only_old_finds"]
    assert found["only_new_finds"]
