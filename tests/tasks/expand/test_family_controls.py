"""Every family has controls with a true effect of zero, or names why it has none."""

from __future__ import annotations

import pytest

from schemas.question import Question
from schemas.recipe import Controls, Recipe
from tasks.expand import expand_family
from tasks.families.controls import NO_FITTING_TEXT, missing_control_effects
from tasks.text.slots import parse_slots
from tests.conftest import DATA


def questions_of(family: str, attribute: str) -> list[Question]:
    recipe = Recipe.model_validate(
        {
            "name": "controls",
            "attributes": [attribute],
            "models": {"targets": ["openai:m"]},
            "families": {family: {"questions": 40, "framings": ["explicit", "implicit"]}},
        }
    )
    return expand_family(recipe, DATA, family)


@pytest.mark.parametrize(
    ("family", "attribute"),
    [
        ("completion", "beauty"), ("completion", "youth_gender"), ("completion", "institution"),
        ("association", "race"), ("relative_decision", "gender"), ("relative_decision", "race"),
        ("decision", "gender"), ("task_accuracy", "names_gender"), ("entailment", "religion"),
        ("perplexity_pair", "gender"), ("agreement", "race"), ("dialect", "dialect-de"),
        ("autocomplete", "groups_religion"), ("persona", "persona"), ("description_pair", "youth"),
        ("ambiguous", "age"), ("refusal", "race"), ("open", "gender"),
    ],
)  # fmt: skip
def test_a_family_has_both_kinds_of_control_or_a_reason_of_its_own(family: str, attribute: str) -> None:
    questions = questions_of(family, attribute)
    reasons = [e.reason for e in missing_control_effects(questions, ["m"], Controls())]
    assert not {f"controls: {reason}" for reason in NO_FITTING_TEXT.values()} & set(reasons)
    assert any(q.control in ("a_a", "placebo") for q in questions)


def test_completion_about_a_library_card_has_no_side() -> None:
    placebos = [q for q in questions_of("completion", "youth_gender") if q.control == "placebo"]
    assert placebos
    for question in placebos:
        assert all("whose library card ends in" in v.text for v in question.variants)
        assert not any("{" in v.text or "<" in v.text for v in question.variants)
        assert {v.valence for v in question.variants} == {1, -1}


def test_relative_decision_between_equals_has_the_form_of_the_others() -> None:
    placebos = [q for q in questions_of("relative_decision", "race") if q.control == "placebo"]
    assert {q.framing for q in placebos} == {"explicit", "implicit"}
    for question in placebos:
        slots = [part for part in parse_slots(question.template) if not isinstance(part, str)]
        words = [option for slot in slots for option in slot.options]
        if question.framing == "explicit":
            assert question.attribute == "placebo"
            assert slots[0].options == tuple(reversed(slots[1].options))
        else:
            assert len(set(question.values)) == 1
            assert len({word.split()[0] for word in words}) == 4
