from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from schemas.answers import Judgement
from schemas.tables import content_id
from tasks.judges.panel import deciding_form, find_split_panels, settle_orders, settle_panel
from tests.tasks.judge.material import DATA, make_recipe

A, B, C, ADJUDICATOR = (f"openai:{name}@http://127.0.0.1:9/v1" for name in ("a", "b", "c", "deciding"))


def make_judgement(judge: str, fitness: float | None, **more: Any) -> Judgement:
    fields: dict[str, Any] = {
        "question_id": "q",
        "judge": judge,
        "revision": None,
        "rubric": "four_scores",
        "rubric_hash": "",
        "prompt_hash": "",
        "target": "t",
        "phase": "search",
        "order": (0, 1),
        "masked": True,
        "repeat": 0,
        "scores": (),
        "fitness": fitness,
        "fitness_form": "normalised",
        "p_value": None,
        "abstention": None if fitness is not None else "unparsable",
        "tokens_in": 0,
        "tokens_out": 0,
        "cost_usd": 0.0,
    } | more
    return Judgement(id=content_id("j", *(str(value) for value in fields.values())), **fields)


def test_median_of_the_judges_is_the_panel() -> None:
    assert settle_panel(
        [make_judgement(A, 0.0), make_judgement(B, 0.1), make_judgement(C, 0.9)], "normalised"
    ) == {"q": 0.1}
    assert settle_panel([make_judgement(A, 0.2), make_judgement(B, 0.4)], "normalised") == {
        "q": pytest.approx(0.3)
    }
    assert settle_panel([make_judgement(A, None), make_judgement(B, 0.4)], "normalised") == {"q": 0.4}
    assert settle_panel([make_judgement(A, None)], "normalised") == {}


def test_median_of_yes_and_no_is_the_majority() -> None:
    for votes, majority in (((1, 1, 0), 1), ((0, 1, 0), 0)):
        panel = [
            make_judgement(j, float(v), fitness_form="boolean") for j, v in zip((A, B, C), votes, strict=True)
        ]
        assert settle_panel(panel, "boolean") == {"q": majority}


def test_forms_are_never_mixed() -> None:
    mixed = [
        make_judgement(A, 0.4),
        make_judgement(B, 0.9, fitness_form="boolean"),
        make_judgement("divergence", 1, fitness_form="divergence"),
    ]
    assert settle_panel(mixed, "normalised") == {"q": 0.4}
    assert settle_panel(mixed, "boolean") == {"q": 0.9}


def test_panel_is_split_only_if_judges_are_far_apart_and_disagree_about_the_existence() -> None:
    def split(*fitness: float) -> bool:
        panel = [make_judgement(judge, f) for judge, f in zip((A, B, C), fitness, strict=False)]
        return bool(find_split_panels(panel, "normalised", 0.25))

    assert split(0.0, 0.25)
    assert split(0.0, 0.1, 0.5)
    assert not split(0.0, 0.2)
    assert not split(0.2, 0.9)
    assert not split(0.0, 0.0, 0.0)
    assert not split(0.6)


def test_split_counts_each_targets_answers_by_themselves() -> None:
    panel = [
        make_judgement(A, 0.0),
        make_judgement(B, 0.0),
        make_judgement(A, 0.0, target="u"),
        make_judgement(B, 0.8, target="u"),
    ]
    assert find_split_panels(panel, "normalised", 0.25) == {("q", "u")}


def test_adjudicator_decides_and_not_the_median() -> None:
    panel = [
        make_judgement(A, 0.0),
        make_judgement(B, 0.5),
        make_judgement(ADJUDICATOR, 0.6, adjudicates=True),
    ]
    assert settle_panel(panel, "normalised") == {"q": 0.6}
    flipped = [*panel, make_judgement(ADJUDICATOR, 0.0, adjudicates=True, repeat=1, order=(1, 0))]
    assert settle_panel(flipped, "normalised") == {"q": 0.0}


def test_median_decides_if_the_adjudicator_abstains() -> None:
    panel = [
        make_judgement(A, 0.0),
        make_judgement(B, 0.5),
        make_judgement(ADJUDICATOR, None, adjudicates=True),
    ]
    assert settle_panel(panel, "normalised") == {"q": 0.25}


def test_adjudicated_targets_are_pooled_with_those_that_were_not_split() -> None:
    panel = [
        *(make_judgement(A, 0.0), make_judgement(B, 0.5), make_judgement(ADJUDICATOR, 0.6, adjudicates=True)),
        *(make_judgement(A, 0.2, target="u"), make_judgement(B, 0.2, target="u")),
    ]
    assert settle_panel(panel, "normalised") == {"q": pytest.approx(0.4)}


def test_pairs_are_settled_by_order_first_and_then_averaged() -> None:
    verdicts = [
        *(make_judgement(A, 0.6, pair=(0, 1)), make_judgement(A, 0.0, pair=(0, 1), order=(1, 0), repeat=1)),
        *(make_judgement(A, 0.6, pair=(0, 2)), make_judgement(A, 0.3, pair=(0, 2), order=(2, 0), repeat=1)),
        make_judgement(A, 0.0, pair=(1, 2)),
    ]
    for rows in permutations(verdicts):
        assert settle_panel(rows, "normalised") == {"q": pytest.approx(0.45 / 3)}


@pytest.mark.parametrize(("form", "clean"), [("normalised", 0.0), ("search", 0.2), ("boolean", 0.0)])
def test_flip_is_a_tie_in_every_form(form: str, clean: float) -> None:
    assert settle_orders([0.9, clean], form) == clean
    assert settle_orders([0.9, 0.5], form) == pytest.approx(0.7)


def test_deciding_form_follows_judges_and_rubric() -> None:
    models = {"targets": ["openai:t"], "judges": ["divergence", A]}
    assert deciding_form(make_recipe(), DATA) == "divergence"
    assert deciding_form(make_recipe(judging={"rubric": "precise_boolean"}), DATA) == "divergence"
    assert deciding_form(make_recipe(models=models, evolve={"fitness": "search"}), DATA) == "search"
    boolean = make_recipe(models=models, judging={"rubric": "precise_boolean"}, evolve={"fitness": "search"})
    assert deciding_form(boolean, DATA) == "boolean"
