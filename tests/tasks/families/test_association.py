"""Word associations: asked in four ways, read line by line, scored as published."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.question import Question
from schemas.vocabulary import AssociationTests
from tasks.expand import expand_family
from tasks.families import conditions_of, plan_asks, prompt_conditions, read_asking_prompts, request_for
from tasks.families.association import METHOD, effects, pairs, score_of
from tasks.families.effects import Slice
from tasks.files.vocabulary import read_all, read_attribute
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import Body, Messages
from tests.tasks.families.asked_family import MakeContext, answered, ask_family, questions_of, say

WHERE = Slice("family", "association", "association", "all", "m")
EVERY = [
    "age_gender", "belief", "body_size", "diet", "disability", "disability_status", "english_learner",
    "gender", "gender_race", "illness", "race", "religion", "sexual_orientation", "skin_tone",
    "socioeconomic", "youth",
]  # fmt: skip


CAREER = next(q for q in questions_of("association", "gender") if q.domain == "career")


@pytest.fixture
def career() -> Question:
    return CAREER


def sorting(question: Question, *, stigma_to: int, default_to: int) -> str:
    """Return an answer that gives every word of a side to the default (0) or the stigma term (1)."""
    terms = question.variants[0].slots
    place = {"stigma": stigma_to, "default": default_to}
    return "\n".join(f"{o.text} - {terms[place[o.role]]}" for o in question.options)


def test_there_are_the_published_tests_and_ours_in_four_ways_of_asking() -> None:
    questions = [q for q in questions_of("association", *EVERY) if q.control == "none"]
    published, ours = read_all(DATA / "association", AssociationTests, ("llm_iat", "counterfoil"))
    assert len(published.tests) == 21
    assert {q.domain for q in questions} == {t.id for t in (*published.tests, *ours.tests)}
    assert len(questions) == sum(len(t.default) for t in (*published.tests, *ours.tests))
    assert prompt_conditions(DATA, "association") == ("plain", "first_thought", "puzzle", "sorting")
    assert {(q.attribute, "nonbinary" in q.values) for q in questions} >= {("gender", True)}
    assert {"gender_race", "age_gender"} <= {q.attribute for q in questions}


def test_variants_name_the_same_terms_in_either_order_and_words_are_shuffled(career: Question) -> None:
    first, second = career.variants
    assert first.slots == tuple(reversed(second.slots))
    assert first.value == "man"
    recipe = recipe_of(families={"association": {"samples": 3}})
    asks = plan_asks(recipe, career, "search", conditions_of(recipe, DATA, "association"))
    assert len(asks) == 4 * 2 * 3
    assert len({a.option_order for a in asks}) == 3
    prompts = read_asking_prompts(DATA, ["association"])
    for ask in asks:
        shown = request_for(ask, recipe, prompts).messages[-1].content
        words = [career.options[i].text for i in ask.option_order]
        assert ", ".join(words) in shown
        assert shown.index(career.variants[ask.variant].slots[0]) < shown.index(
            career.variants[ask.variant].slots[1]
        )
        assert "$" not in shown


def test_score_is_the_published_one_in_both_orders(career: Question) -> None:
    follows = sorting(career, stigma_to=1, default_to=0)
    against = sorting(career, stigma_to=0, default_to=1)
    expected = 7 / 7.01 + 7 / 7.01 - 1
    for variant in (0, 1):
        assert score_of(career, say(career, variant, 0, follows)) == pytest.approx(expected)
        assert score_of(career, say(career, variant, 0, against)) == pytest.approx(-1)
    everything_to_one = sorting(career, stigma_to=0, default_to=0)
    assert score_of(career, say(career, 0, 0, everything_to_one)) == pytest.approx(7 / 14.01 - 1)


@pytest.mark.parametrize(
    "text",
    [
        "1. Office - Ben\n2. home - Julia",
        "**office** - ben\n* home: JULIA.",
        "• ben – office\n• julia — home",
        "office-ben\n\nhome-julia\nI hope this helps - bye",
    ],
)
def test_lists_emphasis_and_other_dashes_are_read(career: Question, text: str) -> None:
    terms = career.variants[0].slots
    text = re.sub("(?i)ben", terms[0], re.sub("(?i)julia", terms[1], text))
    assert score_of(career, say(career, 0, 0, text)) == pytest.approx(2 / 1.01 - 1)


@given(st.lists(st.integers(0, 1), min_size=14, max_size=14), st.permutations(range(14)))
def test_shuffled_lines_score_the_same_and_swapped_terms_turn_the_sign(
    given_to: list[int], lines: Sequence[int]
) -> None:
    question = CAREER
    terms = question.variants[0].slots

    def written(turn: int) -> str:
        return "\n".join(f"{question.options[i].text} - {terms[(given_to[i] + turn) % 2]}" for i in lines)

    straight = "\n".join(f"{o.text} - {terms[given_to[i]]}" for i, o in enumerate(question.options))
    score = score_of(question, say(question, 0, 0, straight))
    assert score is not None
    assert score_of(question, say(question, 1, 1, written(0))) == pytest.approx(score)
    turned = score_of(question, say(question, 0, 0, written(1)))
    if 0 < sum(given_to) < 14:
        assert turned == pytest.approx(-score, abs=0.03)


def test_mean_t_excluded_and_order_effect_of_a_toy_case(career: Question) -> None:
    follows = sorting(career, stigma_to=1, default_to=0)
    mixed = "\n".join(f"{o.text} - {career.variants[0].slots[i % 2]}" for i, o in enumerate(career.options))
    rows = [
        say(career, 0, 0, follows),
        say(career, 0, 1, follows),
        say(career, 1, 0, mixed),
        say(career, 1, 1, "I would rather not sort these."),
    ]
    found = {e.metric: e for e in effects(WHERE, [answered(career, rows)], {}) if e}
    high, low = 14 / 7.01 - 1, score_of(career, rows[2])
    assert low is not None
    assert found["d_mean"].value == pytest.approx((2 * high + low) / 3)
    assert found["d_mean"].n == found["t"].n == 3
    assert found["excluded"].value == 0.25
    assert found["order_effect"].value == pytest.approx(high - low)
    nothing = effects(WHERE, [answered(career, rows[3:])], {})
    assert [e.metric for e in nothing if e] == ["excluded"]


def test_model_that_follows_stereotypes_is_found_over_a_real_server(make_context: MakeContext) -> None:
    test = next(t for t in read_all(DATA / "association", AssociationTests)[1].tests if t.id == "power")

    def answer(messages: Messages, body: Body) -> str:
        asked = messages[-1]["content"]
        norm = next((t for t in test.default if t in asked), None)
        if norm is None or not all(word in asked for word in test.default_words):
            return "I cannot answer that."
        other = test.stigma[test.default.index(norm)]
        lines = [f"{w} - {norm}" for w in test.default_words] + [f"{w} - {other}" for w in test.stigma_words]
        return "\n".join(lines)

    asked = ask_family(
        make_context,
        answer,
        "association",
        families={"association": {"samples": 1, "templates": ["llm_iat"]}},
        attributes=["gender"],
        validate={"below_coverage": "report", "min_coverage": 0.2},
    )
    assert Counter(q.control for q in asked.questions) == {"none": 5 + 4 + 8, "placebo": 3}
    assert len(asked.responses) == 20 * 4 * 2
    assert {r.scoring for r in asked.responses} == {"sampled"}
    power = asked.only(metric="d_mean", level="domain", name="gender/power", condition="sorting")
    assert power.value == pytest.approx(8 / 4.01 - 1)
    assert (power.n, power.low, power.high) == (4, None, None)  # no interval from so few clusters
    assert asked.only(metric="excluded", level="domain", name="gender/career", condition="plain").value == 1
    assert asked.only(metric="d_mean", level="attribute", condition="plain").p_value == 2 / 2**4
    assert asked.problems == []


def test_unequal_terms_and_unknown_values_name_the_test(tmp_path: Path) -> None:
    folder = tmp_path / "association"
    folder.mkdir()
    text = (
        "id: x\ntitle: t\nsource: s\nlicence: MIT\ntests:\n  - {id: odd, superdomain: g, attribute: gender, "
        "values: [man, VALUE], default: [a, b], stigma: [c], default_words: [d], stigma_words: [e]}\n"
    )
    gender = read_attribute(DATA, "gender")
    recipe = recipe_of(families={"association": {}})
    for value, message in (("woman", "2 default terms and 1 stigma terms"), ("womann", "did you mean woman")):
        (folder / "x.yaml").write_text(text.replace("VALUE", value))
        with pytest.raises(InputError) as error:
            pairs(recipe, tmp_path, recipe.families["association"], [gender])
        assert message in str(error.value)
        assert "odd" in str(error.value)


def test_attributes_without_a_test_are_refused_with_a_hint() -> None:
    recipe = recipe_of(attributes=["beauty"], families={"association": {}})
    with pytest.raises(InputError, match="no template for beauty"):
        expand_family(recipe, DATA, "association")
    assert METHOD.family == "association"
