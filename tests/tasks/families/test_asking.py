"""Prompts of families, and the reading of answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from schemas.errors import InputError
from schemas.question import Question
from tasks.expand import expand_family
from tasks.families import (
    CHOICE_TOKENS,
    Ask,
    allowed_answers,
    method_of,
    plan_asks,
    read_ask,
    read_asking_prompts,
    request_for,
)
from tests.conftest import DATA, recipe_of

CHOICES = recipe_of(
    attributes=["beauty", "gender"],
    families={"completion": {"questions": 2, "samples": 3}, "decision": {"questions": 1, "samples": 2}},
)


@pytest.fixture(scope="module")
def completion() -> Question:
    return expand_family(CHOICES, DATA, "completion")[0]


@pytest.fixture(scope="module")
def decision() -> Question:
    return next(q for q in expand_family(CHOICES, DATA, "decision") if q.control == "none")


def test_every_option_is_first_once_per_cycle_of_samples(completion: Question) -> None:
    asks = [a for a in plan_asks(CHOICES, completion, "search") if a.variant == 0]
    assert Counter(a.option_order[0] for a in asks) == {0: 1, 1: 1, 2: 1}


def test_variants_of_a_question_see_the_same_order(completion: Question) -> None:
    asks = plan_asks(CHOICES, completion, "search")
    for k in range(3):
        assert len({a.option_order for a in asks if a.sample == k}) == 1


def test_labels_follow_the_options_not_the_order_shown(completion: Question) -> None:
    ask = Ask(completion, 0, 0, "search", (2, 0, 1), form="letter")
    assert ask.labels == ("B", "C", "A")
    request = request_for(ask, CHOICES, read_asking_prompts(DATA, ("completion",)))
    shown = request.messages[-1].content
    assert f"A. {completion.options[2].text}" in shown
    assert request.decoding.top_logprobs > 0
    assert request.decoding.max_tokens == CHOICE_TOKENS


def test_yes_and_no_need_no_letters(decision: Question) -> None:
    assert {ask.form for ask in plan_asks(CHOICES, decision, "search")} == {"word"}
    assert {label.lower() for label in Ask(decision, 0, 0, "search", (0, 1), form="word").labels} == {
        "yes",
        "no",
    }


def test_free_question_is_shown_as_it_is() -> None:
    recipe = recipe_of()
    question = expand_family(recipe, DATA, "open")[0]
    request = request_for(plan_asks(recipe, question, "search")[0], recipe, {})
    assert [m.content for m in request.messages] == [question.variants[0].text]
    assert request.decoding.top_logprobs == 0


def test_seeds_differ_between_variants_samples_and_phases() -> None:
    recipe = recipe_of(holdout={"samples": 2})
    question = expand_family(recipe, DATA, "open")[0]
    asks = [a for phase in ("search", "holdout") for a in plan_asks(recipe, question, phase)]
    seeds = [request_for(a, recipe, {}).decoding.seed for a in asks]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(
    ("answer", "option"),
    [
        ("A", 2),
        ("b.", 0),
        ("(C) because", 1),
        ("Answer: B", 0),
        ("Z", None),
        ("", None),
        ("I cannot say.", None),
        ("An apple", None),
    ],
)
def test_letter_names_the_option_that_was_shown_there(
    answer: str, option: int | None, completion: Question
) -> None:
    assert read_ask(Ask(completion, 0, 0, "search", (2, 0, 1), form="letter"), answer, DATA).value == option


def test_option_named_by_its_words_counts_unless_two_are_named(completion: Question) -> None:
    ask = Ask(completion, 0, 0, "search", (2, 0, 1), form="letter")
    words = [o.text for o in completion.options]
    assert read_ask(ask, f"It must be {words[1].upper()}.", DATA).value == 1
    assert read_ask(ask, f"Either {words[0]} or {words[2]}", DATA).status == "unreadable"


@pytest.mark.parametrize(
    ("answer", "role"), [("Yes.", "yes"), ("NO", "no"), ("no, never", "no"), ("maybe", None)]
)
def test_yes_no_answer_is_read_by_its_first_word(answer: str, role: str | None, decision: Question) -> None:
    chosen = read_ask(Ask(decision, 0, 0, "search", (0, 1), form="word"), answer, DATA).value
    assert (None if chosen is None else decision.options[int(chosen)].role) == role


def test_forced_choices_allow_only_the_options_of_their_order(
    completion: Question, decision: Question
) -> None:
    orders = [(2, 0, 1), (0, 1, 2)]
    held = {allowed_answers(Ask(completion, 0, 0, "search", order, form="letter")) for order in orders}
    assert held == {("A", "B", "C")}
    assert allowed_answers(Ask(decision, 0, 0, "search", (1, 0), form="word")) == ("No", "Yes")
    assert allowed_answers(Ask(decision, 0, 0, "search", (1, 0), form="text")) == ()


def test_answer_is_free_if_declining_is_measured(decision: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    free = replace(method_of("decision"), free_to_decline=True)
    monkeypatch.setattr("tasks.families.method_of", lambda family: free)
    assert allowed_answers(Ask(decision, 0, 0, "search", (1, 0), form="word")) == ()


def test_a_question_is_asked_in_its_own_language_or_not_at_all() -> None:
    recipe = recipe_of(attributes=["gender-de"], families={"decision": {"questions": 2}})
    prompts = read_asking_prompts(DATA, ["decision"])
    question = next(q for q in expand_family(recipe, DATA, "decision") if q.control == "none")
    ask = plan_asks(recipe, question, "search", ("fair",))[0]
    request = request_for(ask, recipe, prompts)
    assert "beantworte" in request.messages[0].content
    assert "diskriminiere" in request.messages[-1].content
    assert request.decoding.choices == ("Ja", "Nein")
    english = {name: prompt for name, prompt in prompts.items() if not name.startswith("de/")}
    with pytest.raises(InputError, match="no prompt for condition 'fair' in language 'de'") as caught:
        request_for(ask, recipe, english)
    assert "data/prompts/de/ask_decision.fair.md" in (caught.value.hint or "")
