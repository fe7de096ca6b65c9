"""Questions that no longer distinguish models."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.stats.saturation import QuestionFit, question_fits, saturated_questions

Scores = dict[str, dict[str, float]]


def answers(models: int, seed: int = 0) -> Scores:
    """Models of rising bias: `good` follows it, `noise` does not, `floor` and `ceiling` are constant."""
    rng = np.random.default_rng(seed)
    scores: Scores = {}
    for m in range(models):
        level = m / models
        row = {f"q{i}": float(np.clip(level + rng.normal(0, 0.1), 0, 1)) for i in range(10)}
        row |= {"good": level, "noise": float(rng.random()), "floor": 0.0, "ceiling": 1.0}
        scores[f"m{m}"] = row
    return scores


def fit(fits: list[QuestionFit], question: str) -> QuestionFit:
    return next(f for f in fits if f.question == question)


def test_a_question_that_follows_the_others_discriminates() -> None:
    found = question_fits(answers(12), highest=1.0)
    good = fit(found, "good")
    assert good.discrimination is not None
    assert good.discrimination > 0.9
    assert good.low is not None
    assert good.high is not None
    assert good.low < good.discrimination < good.high
    assert good.informative is True


def test_questions_at_floor_or_ceiling_for_all_models_are_not_informative() -> None:
    found = question_fits(answers(6), highest=1.0)
    assert fit(found, "floor").at_floor == 1.0
    assert fit(found, "floor").informative is False
    assert fit(found, "ceiling").at_ceiling == 1.0
    assert fit(found, "ceiling").informative is False
    assert fit(found, "ceiling").reason == "6 of 6 models have the highest score"


def test_a_signed_score_is_at_the_floor_if_it_is_zero() -> None:
    scores = {f"m{i}": {"a": 0.0, "b": -1.0, "c": 0.3 * i} for i in range(4)}
    found = question_fits(scores, highest=1.0)
    assert fit(found, "a").at_floor == 1.0
    assert fit(found, "b").at_ceiling == 1.0
    assert fit(found, "c").informative is True


def test_without_a_known_range_there_is_no_ceiling() -> None:
    found = question_fits(answers(6), highest=None)
    assert fit(found, "ceiling").at_ceiling is None
    assert fit(found, "ceiling").informative is False
    assert fit(found, "ceiling").reason == "all 6 models have the same score"


def test_many_models_show_that_a_question_measures_something_else() -> None:
    noise = fit(question_fits(answers(90), highest=1.0), "noise")
    assert noise.discrimination is not None
    assert abs(noise.discrimination) < 0.35
    opposite = {m: {**row, "odd": 1 - row["good"]} for m, row in answers(30).items()}
    assert fit(question_fits(opposite, highest=1.0), "odd").informative is False


@pytest.mark.parametrize("models", [0, 1, 2])
def test_too_few_models_decide_nothing(models: int) -> None:
    for found in question_fits(answers(models), highest=1.0):
        assert found.informative is None
        assert found.status == "not_measured"
        assert found.reason is not None
        assert "at least 3" in found.reason


def test_three_models_have_a_floor_but_no_correlation() -> None:
    found = question_fits(answers(3), highest=1.0)
    assert fit(found, "floor").informative is False
    assert fit(found, "good").discrimination is None
    assert fit(found, "good").informative is True


def test_only_questions_that_are_saturated_in_both_releases_are_retired() -> None:
    before = question_fits(answers(6), highest=1.0)
    later = {m: {**row, "ceiling": 0.1 * i} for i, (m, row) in enumerate(answers(6).items())}
    assert saturated_questions(before, before) == {"floor", "ceiling"}
    assert saturated_questions(before, question_fits(later, highest=1.0)) == {"floor"}
    assert saturated_questions([], before) == set()


def test_a_question_stays_if_one_of_its_metrics_is_informative() -> None:
    flat = question_fits(answers(6), highest=1.0, metric="first")
    other = {m: {"floor": 0.2 * i, "good": 0.2 * i} for i, m in enumerate(answers(6))}
    both = [*flat, *question_fits(other, highest=1.0, metric="second")]
    assert saturated_questions(both, both) == {"ceiling"}


def test_the_two_parameter_model_needs_a_hundred_models() -> None:
    rng = np.random.default_rng(3)
    theta = rng.normal(size=200)
    steep = {f"q{i}": 1.5 for i in range(12)} | {"flat": 0.0}
    scores = {
        f"m{m}": {q: float(rng.random() < 1 / (1 + np.exp(-a * t))) for q, a in steep.items()}
        for m, t in enumerate(theta)
    }
    found = question_fits(scores, highest=1.0)
    assert {f.method for f in found} == {"two_parameter"}
    assert fit(found, "flat").informative is False
    assert fit(found, "q0").informative is True
    few = question_fits({m: scores[m] for m in list(scores)[:99]}, highest=1.0)
    assert {f.method for f in few} == {"item_total"}
