"""Dialects by name, by text, and noise of the same strength. The order of persons does not matter."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.question import Question
from schemas.vocabulary import DialectTexts
from tasks.families import conditions_of, plan_asks, read_asking_prompts, request_for
from tasks.families.dialect import across, decision_gap_of, dialect_score, effects
from tasks.families.effects import Slice
from tasks.files.vocabulary import read_all, read_attribute
from tasks.text.similarity import ratio
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import Body, Messages
from tests.tasks.families.asked_family import MakeContext, answered, ask_family, questions_of, say

WHERE = Slice("family", "dialect", "dialect", "all", "m")
QUESTIONS = [q for q in questions_of("dialect", "dialect-de") if q.control == "none"]
ADJECTIVES = next(q for q in QUESTIONS if q.superdomain == "adjectives")
DECISIONS = next(q for q in QUESTIONS if q.superdomain == "decisions" and q.topic == ADJECTIVES.topic)


def assigned(question: Question, variant: int, *, as_stereotyped: bool) -> str:
    """Give every word to the stereotyped person, or every word to the other one."""
    standard, dialect = ("Person A", "Person B") if variant == 0 else ("Person B", "Person A")
    side = {"default": standard, "stigma": dialect}
    if not as_stereotyped:
        side = {"default": dialect, "stigma": standard}
    return "\n".join(f"{o.text} – {side[o.role]}" for o in question.options)


def test_seven_varieties_with_texts_and_the_licence_beside_them() -> None:
    (file,) = read_all(DATA / "dialects", DialectTexts)
    counted = Counter(text.value for text in file.texts)
    assert len(counted) == 7
    assert min(counted.values()) >= 8
    assert "Apache-2.0" in file.licence
    assert "CC BY-SA" in file.licence
    assert "Apache License" in (DATA / "dialects" / "LICENSE").read_text()
    assert {v.id for v in read_attribute(DATA, "dialect-de").values} == {*counted, file.standard}
    assert len(QUESTIONS) == 2 * len(file.texts)


def test_each_way_shows_its_own_and_variants_exchange_the_persons() -> None:
    recipe = recipe_of(families={"dialect": {"samples": 1}})
    prompts = read_asking_prompts(DATA, ["dialect"])
    conditions = conditions_of(recipe, DATA, "dialect")
    assert conditions == ("named", "shown", "noise")
    speech, standard, noise_a, dialect_speech, dialect, noisy = ADJECTIVES.variants[0].slots
    assert ADJECTIVES.variants[1].slots == (dialect_speech, dialect, noisy, speech, standard, noise_a)
    assert noise_a == standard
    assert abs(ratio(standard, noisy) - ratio(standard, dialect)) < 3
    shown = {
        (ask.condition, ask.variant): request_for(ask, recipe, prompts).messages[-1].content
        for ask in plan_asks(recipe, ADJECTIVES, "search", conditions)
    }
    for variant in (0, 1):
        named = shown["named", variant]
        assert named.count(standard) == 1
        assert dialect not in named
        assert speech in named
        assert dialect_speech in named
        for condition, other in (("shown", dialect), ("noise", noisy)):
            text = shown[condition, variant]
            assert (text.index(standard) < text.index(other)) is (variant == 0)
            assert dialect_speech not in text.replace(standard, "").replace(other, "")


@pytest.mark.parametrize("question", [ADJECTIVES, DECISIONS], ids=["adjectives", "decisions"])
@pytest.mark.parametrize("variant", [0, 1])
def test_score_follows_the_stereotype_in_both_orders_of_persons(question: Question, variant: int) -> None:
    for follows, sign in ((True, 1), (False, -1)):
        row = say(question, variant, 0, assigned(question, variant, as_stereotyped=follows))
        assert dialect_score(question, row) == pytest.approx(sign, abs=0.01)
        gap = decision_gap_of(question, row)
        assert gap == (sign if question is DECISIONS else None)
    assert dialect_score(question, say(question, variant, 0, "Das kann ich nicht sagen.")) is None


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), min_size=4, max_size=8))
def test_exchanging_the_sides_turns_the_sign(follows: list[bool]) -> None:
    def measured(turn: bool) -> float:
        rows = [
            say(ADJECTIVES, i % 2, i // 2, assigned(ADJECTIVES, i % 2, as_stereotyped=f is not turn))
            for i, f in enumerate(follows)
        ]
        return {e.metric: e.value for e in effects(WHERE, [answered(ADJECTIVES, rows)], {}) if e}["d_mean"]

    assert measured(False) == pytest.approx(-measured(True), abs=0.01)


def test_preference_for_person_a_is_an_order_effect_without_bias() -> None:
    rows = [say(ADJECTIVES, v, 0, assigned(ADJECTIVES, v, as_stereotyped=v == 0)) for v in (0, 1)]
    found = {e.metric: e for e in effects(WHERE, [answered(ADJECTIVES, rows)], {}) if e}
    assert found["d_mean"].value == pytest.approx(0, abs=0.01)
    assert found["order_effect"].value == pytest.approx(2, abs=0.01)


def test_effect_of_noise_is_subtracted() -> None:
    def asked(question: Question, condition: str, as_stereotyped: bool) -> object:
        rows = [
            say(question, v, 0, assigned(question, v, as_stereotyped=as_stereotyped), condition=condition)
            for v in (0, 1)
        ]
        return answered(question, rows, condition)

    same = [asked(q, c, True) for q in (ADJECTIVES, DECISIONS) for c in ("named", "shown", "noise")]
    found = {(e.level, e.metric): e.value for e in across(same, {}) if e}  # type: ignore[arg-type]
    assert found["family", "beyond_noise"] == 0
    assert found["family", "decision_gap_beyond_noise"] == 0
    other = [asked(ADJECTIVES, "shown", True), asked(ADJECTIVES, "noise", False)]
    found = {(e.level, e.metric): e.value for e in across(other, {}) if e}  # type: ignore[arg-type]
    assert found["domain", "beyond_noise"] == pytest.approx(2, abs=0.01)
    assert ("domain", "decision_gap_beyond_noise") not in found


def test_end_to_end_with_a_server_that_minds_any_strange_text(make_context: MakeContext) -> None:
    standards = {q.variants[0].slots[1] for q in QUESTIONS}

    def answer(messages: Messages, body: Body) -> str:
        text = messages[-1]["content"]
        words = text.partition("Personen zu: ")[2].splitlines()[0].split(", ")
        stigma = {o.text for q in (ADJECTIVES, DECISIONS) for o in q.options if o.role == "stigma"}
        if "denselben Text" in text:
            return "Das möchte ich nicht."
        of_a = text.partition("Person A:\n")[2].partition("\n\n")[0]
        good, bad = ("Person A", "Person B") if of_a in standards else ("Person B", "Person A")
        return "\n".join(f"{word} - {bad if word in stigma else good}" for word in words)

    asked = ask_family(
        make_context,
        answer,
        "dialect",
        families={"dialect": {"samples": 1, "questions": 10, "attributes": ["dialect-de"]}},
    )
    assert asked.problems == []
    assert Counter(q.control for q in asked.questions) == {"none": 10, "a_a": 2}
    assert len(asked.responses) == 12 * 2 * 3
    where = {"level": "family", "name": "dialect"}
    assert asked.only(metric="d_mean", condition="shown", **where).value == pytest.approx(1, abs=0.01)
    assert asked.only(metric="d_mean", condition="noise", **where).value == pytest.approx(1, abs=0.01)
    assert asked.only(metric="excluded", condition="named", **where).value == 1
    assert asked.only(metric="beyond_noise", **where).value == 0
    assert asked.only(metric="order_effect", condition="shown", **where).value == 0
