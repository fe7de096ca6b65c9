"""Completions at the scale of the original, and invariances of their score."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.answers import Response
from schemas.errors import InputError
from schemas.question import QUESTIONS, Question, Variant
from schemas.vocabulary import Attribute
from tasks.estimate import estimate
from tasks.expand import expand, expand_family
from tasks.families.completion import cluster_of
from tasks.families.shared import family_effects, gather_answers
from tasks.files.vocabulary import read_attribute, read_attributes, read_triples
from tasks.run.store import RunContext
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import Body, Messages
from tests.tasks.families.asked_family import MakeContext, ask_family
from tests.tasks.judge.material import make_response

ATTRIBUTES = ["beauty_gender", "youth_gender", "institution_gender", "country_income_gender"]
SCALE = {
    "attributes": ATTRIBUTES,
    "families": {"completion": {"samples": 1}},
    "models": {"targets": ["embedded:smollm2-135m"]},
}
Choose = Callable[[str, int], int]
"""Function from value and valence of a variant to the position of an option."""


@pytest.fixture(scope="module")
def expanded() -> list[Question]:
    return expand_family(recipe_of(**SCALE), DATA, "completion")


@pytest.fixture(scope="module")
def questions(expanded: list[Question]) -> list[Question]:
    """Return the questions without controls."""
    return [q for q in expanded if q.control == "none"]


def test_the_plan_states_the_prompts_that_expand_and_they_are_ten_thousand(
    make_context: Callable[..., RunContext],
) -> None:
    context = make_context(**SCALE)
    plan = estimate(context)
    expanded = [q for q in expand(context, ("completion",)).tables[QUESTIONS] if isinstance(q, Question)]
    calls = next(s.calls for s in plan.stages if s.name == "respond")
    assert calls == plan.known_calls == sum(len(q.variants) for q in expanded) >= 10_000
    assert plan.questions["completion"] == len(expanded)


def test_five_subjects_are_asked_in_both_directions_of_women_men_and_anyone(
    questions: list[Question],
) -> None:
    attributes = attributes_by_id().values()
    levels = {v.id: v.factors["gender"] for a in attributes for v in a.values}
    prompts = Counter((q.superdomain, q.domain, levels[v.value]) for q in questions for v in q.variants)
    subjects = {subject for subject, _, _ in prompts}
    assert subjects == {"appearance", "profession", "age", "education", "origin"}
    assert len(prompts) == 5 * 2 * 3
    for subject in subjects:
        for direction in ("sai", "asa"):
            assert len({n for key, n in prompts.items() if key[:2] == (subject, direction)}) == 1
            assert prompts[subject, direction, "woman"] >= 200


def test_no_prompt_is_asked_twice_and_each_has_one_blank(expanded: list[Question]) -> None:
    texts = [v.text for q in expanded for v in q.variants]
    assert len(set(texts)) == len(texts)
    assert all(text.count("BLANK") == 1 and "{" not in text for text in texts)


def test_every_pair_is_given_once_in_a_template_and_every_triple_is_offered_about_as_often(
    questions: list[Question],
) -> None:
    given_pairs: dict[str, list[str]] = defaultdict(list)
    offered: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for q in questions:
        if "/" in (q.template_id or ""):
            template, _, favoured = (q.template_id or "").partition("/")
            given_pairs[template].append(favoured)
            offered[q.superdomain, q.domain][q.options[0].text] += 1
    assert all(len(set(pairs)) == len(pairs) >= 15 for pairs in given_pairs.values())
    for counts in offered.values():
        assert max(counts.values()) <= 3 * min(counts.values()) + 3


def test_the_side_that_is_given_is_never_among_the_options(questions: list[Question]) -> None:
    for q in questions:
        if "/" in (q.template_id or ""):
            offered = {o.text for o in q.options}
            assert not offered & {slot for v in q.variants for slot in v.slots}


def test_valence_decides_which_word_is_given() -> None:
    recipe = recipe_of(
        attributes=["beauty"],
        families={"completion": {"templates": ["crossed_beauty"]}},
        controls={"a_a": 0, "placebo": 0},
    )
    for q in expand_family(recipe, DATA, "completion"):
        favoured = (q.template_id or "").partition("/")[2]
        pretty, plain = q.variants
        assert (pretty.valence, plain.valence) == (1, -1)
        assert favoured in pretty.slots
        assert favoured not in plain.slots
        assert [o.valence for o in q.options] == [1, -1, 0]


def test_an_attribute_without_sides_cannot_be_crossed() -> None:
    from tasks.families.completion import _side_slot

    with pytest.raises(InputError, match="values without a side"):
        _side_slot("kind", "unkind", read_attribute(DATA, "gender"))


def test_adding_the_gender_form_does_not_change_other_questions() -> None:
    plain = recipe_of(attributes=["beauty"], families={"completion": {}})
    more = recipe_of(attributes=["beauty", "beauty_gender"], families={"completion": {}})
    before = {q.id for q in expand_family(plain, DATA, "completion")}
    assert before < {q.id for q in expand_family(more, DATA, "completion")}


def answers(questions: list[Question], choose: Choose) -> list[Response]:
    return [
        make_response(q, v.index, 0, option=choose(v.value, v.valence or 0), option_order=(0, 1, 2))
        for q in questions
        for v in q.variants
    ]


@cache
def attributes_by_id() -> dict[str, Attribute]:
    return {a.id: a for a in read_attributes(DATA, ATTRIBUTES)}


def taus(questions: list[Question], responses: list[Response]) -> dict[str, float]:
    attributes = attributes_by_id()
    answered = gather_answers({q.id: q for q in questions}, responses)
    effects = family_effects(answered, attributes)
    return {e.metric: e.value for e in effects if e.level == "attribute" and e.metric.startswith("tau")}


def test_bias_against_one_gender_shows_at_its_level_only(questions: list[Question]) -> None:
    some = [q for q in questions if q.attribute == "beauty_gender"][::5]
    biased = answers(some, lambda value, side: int(side < 0) if value.endswith("_woman") else 2)
    found = taus(some, biased)
    assert found["tau_c_sai:woman"] == found["tau_c_asa:woman"] == pytest.approx(1)
    assert "tau_c_sai:man" not in found
    assert 0 < found["tau_c_sai"] < found["tau_c_sai:woman"]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999))
def test_relabelling_both_sides_flips_the_sign_and_shuffling_rows_changes_nothing(
    questions: list[Question], seed: int
) -> None:
    rng = random.Random(seed)
    few = [q for q in questions if q.attribute == "youth_gender"][::40]
    responses = answers(few, lambda value, side: rng.randrange(3))
    found = taus(few, responses)
    assert taus(few, rng.sample(responses, len(responses))) == found
    flipped = [q.model_copy(update={"variants": tuple(map(turned, q.variants))}) for q in few]
    assert taus(flipped, responses) == pytest.approx({metric: -tau for metric, tau in found.items()})


def turned(variant: Variant) -> Variant:
    return variant.model_copy(update={"valence": -(variant.valence or 0)})


def test_questions_of_one_template_are_one_unit(questions: list[Question]) -> None:
    beauty = [q for q in questions if q.attribute == "beauty_gender" and q.domain == "sai"]
    attributes = attributes_by_id()
    answered = gather_answers({q.id: q for q in beauty}, answers(beauty, lambda value, side: int(side < 0)))
    (effect,) = [
        e for e in family_effects(answered, attributes) if e.level == "attribute" and e.metric == "tau_c_sai"
    ]
    assert effect.n == len({cluster_of(q) for q in beauty}) < len(beauty) / 10


@cache
def beauty_triples() -> list[tuple[str, str, str]]:
    return [t for name in ("looks", "character", "ability") for t in read_triples(DATA, name).triples]


def likes_go_together(messages: Messages, body: Body) -> str:
    """Answer with the letter of the good option if a good side is given, and of the bad one otherwise."""
    question, _, options = messages[-1]["content"].partition("\n\n")
    listed = dict(line.split(". ", 1) for line in options.splitlines() if ". " in line)
    triples = beauty_triples()
    good = any(re.search(rf"\b{re.escape(favoured)}\b", question) for favoured, _, _ in triples)
    wanted = {triple[0 if good else 1] for triple in triples}
    return next(letter for letter, text in listed.items() if text in wanted)


def test_answers_over_a_server_give_the_score(make_context: MakeContext) -> None:
    asked = ask_family(
        make_context,
        likes_go_together,
        "completion",
        attributes=["beauty_gender"],
        families={
            "completion": {"questions": 12, "samples": 1, "templates": ["crossed_beauty"], "max_tokens": 8}
        },
        controls={"a_a": 0, "placebo": 0},
    )
    assert asked.problems == []
    assert len(asked.responses) == 72
    assert asked.only(level="attribute", metric="invalid").value == 0
    for metric in ("tau_c_sai", "tau_c_asa", "tau_c_sai:woman", "tau_c_asa:unspecified"):
        assert asked.only(level="attribute", metric=metric).value == pytest.approx(1)
