"""Stories that show a group: the preference for a continuation that comes from the description alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.answers import Response
from schemas.question import Question
from tasks.families.description_pair import difference_of, effects
from tasks.families.effects import Slice
from tasks.measure import measure_file
from tests.servers.openai_server import Body, Messages, Reply
from tests.tasks.families.asked_family import MakeContext, answered, ask_family, questions_of, say

WHERE = Slice("family", "description_pair", "description_pair", "all", "m")
ATTRIBUTES = (
    "body_size", "disability", "english_learner", "gender", "illness", "nationality", "religion",
    "sexual_orientation", "socioeconomic", "youth",
)  # fmt: skip
STORIES = [q for q in questions_of("description_pair", *ATTRIBUTES) if q.control == "none"]


def choose(question: Question, variant: int, sample: int, stereotype: bool) -> Response:
    return say(question, variant, sample, option=0 if stereotype else 1)


def scored(question: Question, variant: int, sample: int, probability: float) -> Response:
    logs = (math.log(probability * 0.5), math.log((1 - probability) * 0.5))
    return say(question, variant, sample, option=0, option_logprobs=logs, scoring="token_probability")


def test_there_are_enough_stories_that_name_no_group() -> None:
    assert len(STORIES) >= 60
    assert len({q.attribute for q in STORIES}) >= 4
    assert {q.framing for q in STORIES} == {"implicit"}
    for question in STORIES:
        assert [o.role for o in question.options] == ["stereotype", "anti_stereotype"]
        assert len(question.variants) == 2
        assert question.variants[0].text.count(".") >= 2
        name = question.options[0].text.split()
        assert name


def test_difference_of_samples_and_of_probabilities() -> None:
    story = STORIES[0]
    rows = [
        choose(story, 0, 0, True),
        choose(story, 0, 1, True),
        choose(story, 1, 0, True),
        choose(story, 1, 1, False),
    ]
    assert difference_of(answered(story, rows)) == 0.5
    rows = [scored(story, v, k, p) for v, k, p in [(0, 0, 0.8), (0, 1, 0.6), (1, 0, 0.3), (1, 1, 0.1)]]
    assert difference_of(answered(story, rows)) == pytest.approx(0.5)
    assert difference_of(answered(story, rows[:2])) is None


@given(st.lists(st.floats(0.01, 0.99), min_size=4, max_size=4))
def test_exchanging_the_descriptions_turns_the_sign(p: list[float]) -> None:
    def found(turn: int) -> dict[str, float]:
        cases = [
            answered(q, [scored(q, (v + turn) % 2, k, p[2 * v + k]) for v in (0, 1) for k in (0, 1)])
            for q in STORIES[:3]
        ]
        return {e.metric: e.value for e in effects(WHERE, cases, {}) if e and e.value is not None}

    straight, turned = found(0), found(1)
    assert straight["difference"] == pytest.approx(-turned["difference"])
    assert straight["stereotype"] == pytest.approx(turned["stereotype"])


def test_preference_independent_of_the_group_is_no_difference() -> None:
    cases = [answered(q, [choose(q, v, k, True) for v in (0, 1) for k in (0, 1)]) for q in STORIES[:12]]
    found = {e.metric: e for e in effects(WHERE, cases, {}) if e}
    assert (found["difference"].value, found["difference"].p_value) == (0, 1)
    assert found["stereotype"].value == 1
    assert found["invalid"].value == 0


def test_difference_in_every_story_is_surprising_and_one_story_is_not() -> None:
    cases = [answered(q, [choose(q, v, k, v == 0) for v in (0, 1) for k in (0, 1)]) for q in STORIES[:12]]
    many = {e.metric: e for e in effects(WHERE, cases, {}) if e}["difference"]
    one = {e.metric: e for e in effects(WHERE, cases[:1], {}) if e}["difference"]
    assert many.value == one.value == 1
    assert many.p_value is not None
    assert many.p_value < 0.01
    assert one.p_value == pytest.approx(1 / 3)


def test_model_that_reads_a_stereotype_into_a_description_is_found(make_context: MakeContext) -> None:
    expected = {q.variants[0].text: q.options[0].text for q in STORIES}

    def answer(messages: Messages, body: Body) -> Reply:
        shown = messages[-1]["content"]
        story, rest = shown.split("\n\n")[:2]
        wanted = expected.get(story)
        letter = "B" if wanted and f"B. {wanted}" in rest else "A"
        other = "A" if letter == "B" else "B"
        return Reply(letter, top=({letter: math.log(0.7), other: math.log(0.2)},))

    asked = ask_family(
        make_context,
        answer,
        "description_pair",
        families={"description_pair": {"samples": 2}},
        attributes=["youth", "socioeconomic"],
    )
    assert asked.problems == []
    assert {r.scoring for r in asked.responses} == {"token_probability"}
    effect = asked.only(metric="difference", level="attribute", name="youth")
    assert effect.value == pytest.approx(7 / 9 - 1 / 2, abs=1e-6)
    assert effect.p_value is not None
    assert effect.p_value < 0.01
    assert asked.only(metric="order_effect", level="attribute", name="youth").value == pytest.approx(0.25)


def test_recorded_choices_are_compared_between_the_descriptions(tmp_path: Path) -> None:
    rows = ["story,description,stereotype,other,response"]
    for i in range(40):
        rows.append(f"s{i},stereotyped,Sam rests.,Sam runs.,{'Sam rests.' if i < 30 else 'Sam runs.'}")
        rows.append(f"s{i},other,Sam rests.,Sam runs.,{'Sam rests.' if i < 10 else 'Sam runs.'}")
    path = tmp_path / "choices.csv"
    path.write_text("\n".join([*rows, "s41,other,Sam rests.,Sam runs.,Nobody."]) + "\n", encoding="utf-8")
    found = measure_file("description_pair", path, format="choices")
    assert found["difference"]["value"] == pytest.approx(0.5)
    assert found["difference"]["low"] > 0
    assert found["invalid"]["value"] == 1
