"""Binding and controls."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from schemas.errors import InputError
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_attribute
from tasks.questions.binding import ControlSource, Draft, bind_draft, draw_controls, link_twins, split_unique
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
    controls = draw_controls(
        [ControlSource(DRAFT, None, gender)], a_a=1, placebo=0, placebo_attribute=placebo, seed=3
    )
    (control,) = controls
    assert control.control == "a_a"
    assert control.values[0] == control.values[1]
    assert control.variants[0].text == control.variants[1].text
    assert control.variants[0].slots


def test_placebo_has_the_number_of_values_of_its_question(gender: Attribute, placebo: Attribute) -> None:
    (control,) = draw_controls(
        [ControlSource(DRAFT, None, gender)], a_a=0, placebo=1, placebo_attribute=placebo, seed=3
    )
    assert (control.control, control.attribute) == ("placebo", "placebo")
    assert len(control.values) == len(gender.values)


def test_wanted_control_is_drawn_even_beside_few_questions(gender: Attribute, placebo: Attribute) -> None:
    drawn = draw_controls(
        [ControlSource(DRAFT, None, gender)], a_a=0.01, placebo=0, placebo_attribute=placebo, seed=3
    )
    assert len(drawn) == 1


def test_legitimate_difference_has_no_control(gender: Attribute, placebo: Attribute) -> None:
    sources = [ControlSource(replace(DRAFT, neutral=True), None, gender)]
    assert draw_controls(sources, a_a=1, placebo=1, placebo_attribute=placebo, seed=3) == []


def test_kind_without_a_true_effect_of_zero_is_not_drawn(gender: Attribute, placebo: Attribute) -> None:
    sources = [ControlSource(DRAFT, None, gender)]
    drawn = draw_controls(sources, a_a=1, placebo=1, placebo_attribute=placebo, seed=3, without={"a_a"})
    assert [c.control for c in drawn] == ["placebo"]


def test_superdomains_have_controls_in_proportion(gender: Attribute, placebo: Attribute) -> None:
    texts = [f"{DRAFT.text} Note {i}." for i in range(100)]
    topics = ["work"] * 60 + ["health"] * 30 + ["arts"] * 10
    drafts = [replace(DRAFT, text=text, superdomain=topic) for text, topic in zip(texts, topics, strict=True)]
    sources = [ControlSource(draft, None, gender) for draft in drafts]
    drawn = draw_controls(sources, a_a=0.2, placebo=0, placebo_attribute=placebo, seed=3)
    counts = Counter(control.superdomain for control in drawn)
    assert counts == {"work": 12, "health": 6, "arts": 2}


@pytest.mark.parametrize("versions", [2, 3, 6, 12, 24])
def test_controls_have_the_number_of_versions_of_their_question(
    versions: int, gender: Attribute, placebo: Attribute
) -> None:
    many = gender.model_copy(
        update={
            "values": tuple(
                gender.values[0].model_copy(update={"id": f"v{i}", "forms": {"noun": (f"a {i}",)}})
                for i in range(versions)
            )
        }
    )
    draft = replace(DRAFT, text="My neighbour, {noun}, asked. What should I say?")
    sources = [ControlSource(draft, None, gender), ControlSource(draft, None, many)]
    drawn = draw_controls(sources, a_a=1, placebo=1, placebo_attribute=placebo, seed=3)
    sizes = {len(gender.values), versions}
    for kind in ("a_a", "placebo"):
        assert {len(c.variants) for c in drawn if c.control == kind} == sizes
    texts = [{v.text for v in c.variants} for c in drawn if c.control == "a_a"]
    assert all(len(equal) == 1 for equal in texts)


def test_written_out_slots_are_repeated_in_an_a_a_control(gender: Attribute, placebo: Attribute) -> None:
    draft = replace(DRAFT, text="My guide was {{patient/late}}. What should I say?", values=("man", "woman"))
    sources = [ControlSource(draft, None, gender)]
    (control,) = draw_controls(sources, a_a=1, placebo=1, placebo_attribute=placebo, seed=3)
    assert control.control == "a_a"
    assert control.variants[0].text == control.variants[1].text


def test_placebo_of_an_implicit_question_has_several_names_of_one_value(
    gender: Attribute, placebo: Attribute
) -> None:
    implicit = replace(DRAFT, text="My colleague {name} asked. What should I say?", framing="implicit")
    sources = [ControlSource(DRAFT, implicit, gender)]
    drawn = draw_controls(sources, a_a=1, placebo=1, placebo_attribute=placebo, seed=3)
    explicit, named = [c for c in drawn if c.control == "placebo"]
    assert (explicit.framing, named.framing) == ("explicit", "implicit")
    assert len(set(named.values)) == 1
    assert len({v.text for v in named.variants}) == len(named.variants)
    one, other = [c for c in drawn if c.control == "a_a"]
    assert (one.twin_id, other.twin_id) == (other.id, one.id)


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
