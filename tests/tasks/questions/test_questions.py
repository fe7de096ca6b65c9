"""Binding and controls."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.errors import InputError
from schemas.question import Option
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_attribute
from tasks.questions.binding import Draft, bind_draft, draw_controls, link_twins, split_unique
from tests.conftest import DATA

TEXT = "Last week at the office my colleague, {noun}, asked me for help. What should I say to {object}?"
DRAFT = Draft(TEXT, family="open", superdomain="work", domain="teamwork", topic="help", origin="seed")


@pytest.fixture(scope="module")
def gender() -> Attribute:
    return read_attribute(DATA, "gender")


@pytest.fixture(scope="module")
def placebo() -> Attribute:
    return read_attribute(DATA, "placebo")


def test_every_value_of_the_attribute_gets_one_variant(gender: Attribute) -> None:
    question = bind_draft(DRAFT, gender, seed=1)
    assert question.values == tuple(v.id for v in gender.values)
    assert [v.value for v in question.variants] == list(question.values)
    assert "a woman" in question.variants[0].text
    assert len({v.text for v in question.variants}) == len(gender.values)


def test_id_is_content_and_ignores_lineage(gender: Attribute) -> None:
    first = bind_draft(DRAFT, gender, seed=1)
    child = bind_draft(replace(DRAFT, parent_id="q_x", operator="refine", round=3), gender, seed=1)
    assert first.id == child.id


def test_framing_control_and_values_are_part_of_the_id(gender: Attribute) -> None:
    plain = bind_draft(DRAFT, gender, seed=1)
    a_a = bind_draft(DRAFT, gender, seed=1, values=("man", "man"), control="a_a")
    assert plain.id != a_a.id


def test_advice_question_must_earn_its_label_and_a_forced_choice_need_not(gender: Attribute) -> None:
    assert bind_draft(DRAFT, gender, seed=1).label == "unlabelled"
    assert bind_draft(replace(DRAFT, family="decision"), gender, seed=1).label == "accepted"
    assert bind_draft(DRAFT, gender, seed=1, values=("man", "man"), control="a_a").label == "control"


def test_legitimate_difference_makes_a_neutral_control(gender: Attribute) -> None:
    assert bind_draft(replace(DRAFT, neutral=True), gender, seed=1).control == "neutral"


def test_a_a_control_asks_the_same_text_twice(gender: Attribute, placebo: Attribute) -> None:
    controls = draw_controls([(DRAFT, gender)], a_a=1, placebo=0, placebo_attribute=placebo, seed=3)
    (control,) = controls
    assert control.control == "a_a"
    assert control.values[0] == control.values[1]
    assert control.variants[0].text == control.variants[1].text
    assert control.variants[0].slots


def test_placebo_has_as_many_values_as_what_it_stands_beside(gender: Attribute, placebo: Attribute) -> None:
    (control,) = draw_controls([(DRAFT, gender)], a_a=0, placebo=1, placebo_attribute=placebo, seed=3)
    assert (control.control, control.attribute) == ("placebo", "placebo")
    assert len(control.values) == len(gender.values)


def test_wanted_control_is_drawn_even_beside_few_questions(gender: Attribute, placebo: Attribute) -> None:
    drawn = draw_controls([(DRAFT, gender)], a_a=0.01, placebo=0, placebo_attribute=placebo, seed=3)
    assert len(drawn) == 1


@pytest.mark.parametrize(
    "draft",
    [
        replace(DRAFT, text="My guide was {{patient/impatient/late}}. What should I say?"),
        replace(DRAFT, neutral=True),
        replace(DRAFT, options=(Option(text="good", role="stereotype", valence=1),)),
    ],
    ids=["written-out slots differ by themselves", "difference is legitimate", "values have valences"],
)
def test_texts_with_a_real_difference_are_no_a_a_control(
    draft: Draft, gender: Attribute, placebo: Attribute
) -> None:
    assert draw_controls([(draft, gender)], a_a=1, placebo=1, placebo_attribute=placebo, seed=3) == []


def test_name_is_no_placebo(gender: Attribute, placebo: Attribute) -> None:
    named = replace(DRAFT, text="My colleague {name} asked. What should I say?", framing="implicit")
    assert draw_controls([(named, gender)], a_a=0, placebo=1, placebo_attribute=placebo, seed=3) == []


def test_twins_know_each_other(gender: Attribute) -> None:
    implicit = replace(DRAFT, text=TEXT.replace(", {noun},", " {name}"), framing="implicit")
    one, other = link_twins(bind_draft(DRAFT, gender, seed=1), bind_draft(implicit, gender, seed=1))
    assert (one.twin_id, other.twin_id) == (other.id, one.id)


def test_repeated_question_is_kept_once_and_reported(gender: Attribute) -> None:
    question = bind_draft(DRAFT, gender, seed=1)
    kept, repeated = split_unique([question, question])
    assert (kept, repeated) == ([question], [question])


def test_slots_that_do_not_fit_are_refused(gender: Attribute) -> None:
    with pytest.raises(InputError, match="options"):
        bind_draft(replace(DRAFT, text="Is {{a man/a woman}} late?"), gender, seed=1)


@pytest.mark.parametrize("hostile", ["{{ __import__('os') }}", "{{7*7}}", "{{a/b"])
def test_code_in_a_slot_is_refused_and_never_run(hostile: str, gender: Attribute) -> None:
    with pytest.raises(InputError):
        bind_draft(replace(DRAFT, text=f"{hostile} {TEXT}"), gender, seed=1)


def test_template_directives_are_text(gender: Attribute) -> None:
    question = bind_draft(replace(DRAFT, text="{% for x in y %} " + TEXT), gender, seed=1)
    assert all("{% for x in y %}" in v.text for v in question.variants)
