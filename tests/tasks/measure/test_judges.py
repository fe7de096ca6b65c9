from __future__ import annotations

from typing import Any

import pytest

from schemas.answers import Effect, Judgement, Score
from tasks.measure.verdicts import judge_effects
from tests.tasks.judge.material import TARGET

A, B, C, DECIDING = "openai:a", "openai:b", "openai:c", "openai:deciding"


def rated(question: str, judge: str, bias: float | None, **more: Any) -> Judgement:
    fields: dict[str, Any] = {
        "id": f"{question}/{judge}/{sorted(more.items())}",
        "question_id": question,
        "judge": judge,
        "revision": None,
        "rubric": "four_scores",
        "rubric_hash": "",
        "prompt_hash": "",
        "target": TARGET,
        "phase": "holdout",
        "order": (0, 1),
        "masked": True,
        "repeat": 0,
        "scores": () if bias is None else (Score(criterion="bias", value=bias, reasoning=""),),
        "fitness": None if bias is None else (bias - 1) / 4,
        "fitness_form": "normalised",
        "p_value": None,
        "abstention": "unparsable" if bias is None else None,
        "tokens_in": 1,
        "tokens_out": 1,
        "cost_usd": 0.0,
    }
    return Judgement(**(fields | more))


def value_of(effects: list[Effect], **where: Any) -> float:
    (found,) = [e for e in effects if all(getattr(e, k) == v for k, v in where.items())]
    return found.value


def ratings(**by_judge: list[float | None]) -> list[Judgement]:
    names = {"a": A, "b": B, "c": C}
    return [
        rated(f"q{n}", names[judge], bias)
        for judge, column in by_judge.items()
        for n, bias in enumerate(column)
    ]


def test_alpha_of_all_judges_and_kappa_of_every_two_are_reported() -> None:
    effects = judge_effects(ratings(a=[1, 3, 5, 1], b=[1, 3, 5, 1], c=[5, 3, 1, 5]))
    kappas = {e.name: e.value for e in effects if e.metric == "kappa:bias"}
    assert set(kappas) == {f"{A} and {B}", f"{A} and {C}", f"{B} and {C}"}
    assert kappas[f"{A} and {B}"] == 1
    assert kappas[f"{A} and {C}"] < 0
    assert -1 <= value_of(effects, metric="agreement:bias") < 1
    assert {e.unit for e in effects if e.metric == "kappa:bias"} == {"Cohen's kappa, quadratic weights"}


def test_kappa_weighs_a_wide_disagreement_more_than_a_narrow_one() -> None:
    base: list[float | None] = [1, 2, 3, 4, 5, 1, 5]
    near = judge_effects(ratings(a=base, b=[1, 2, 3, 4, 4, 1, 5]))
    far = judge_effects(ratings(a=base, b=[1, 2, 3, 4, 1, 1, 5]))
    assert value_of(near, metric="kappa:bias") > value_of(far, metric="kappa:bias")


def test_abstentions_count_for_no_judge() -> None:
    effects = judge_effects(ratings(a=[1, 3, None, 5], b=[1, 3, 5, None]))
    (kappa,) = [e for e in effects if e.metric == "kappa:bias"]
    assert (kappa.value, kappa.n) == (1, 2)


def test_one_judge_has_no_agreement() -> None:
    assert judge_effects(ratings(a=[1, 3, 5])) == []


def test_pairs_of_one_group_are_units_of_their_own() -> None:
    judgements = [
        rated("q", judge, bias, pair=pair, order=pair)
        for judge in (A, B)
        for pair, bias in (((0, 1), 1.0), ((0, 2), 4.0))
    ]
    (kappa,) = [e for e in judge_effects(judgements) if e.metric == "kappa:bias"]
    assert (kappa.value, kappa.n) == (1, 2)
    flipped = [*judgements, rated("q", A, 1.0, pair=(0, 2), order=(2, 0), repeat=1)]
    assert value_of(judge_effects(flipped), metric="order_flips", name=A) == 1


def test_adjudicator_counts_as_an_escalation_and_for_no_agreement() -> None:
    judgements = ratings(a=[1, 1, 1, 5], b=[1, 1, 5, 5])
    effects = judge_effects([*judgements, rated("q2", DECIDING, 5.0, adjudicates=True)])
    assert value_of(effects, metric="escalated") == pytest.approx(1 / 4)
    assert not any(DECIDING in e.name for e in effects)
    assert value_of(effects, metric="kappa:bias") == value_of(judge_effects(judgements), metric="kappa:bias")
