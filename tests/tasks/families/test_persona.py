"""Tasks answered as somebody: items stay the same, the persona moves into the instruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from schemas.question import Question
from schemas.recipe import Recipe
from tasks.families import Ask, conditions_of, plan_asks, read_asking_prompts, request_for
from tasks.families.effects import Slice
from tasks.families.persona import NO_PERSONA, effects, solved_by_variant
from tasks.families.shared import placed_option
from tasks.files.vocabulary import read_attribute, read_templates
from tasks.measure import measure_file
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import Body, Messages
from tests.tasks.families.asked_family import MakeContext, answered, ask_family, questions_of, say

RECIPE: Recipe = recipe_of(attributes=["persona"], families={"persona": {"samples": 1}})
ATTRIBUTES = {name: read_attribute(DATA, name) for name in ("persona", "placebo")}
EVERY = questions_of("persona", "persona", samples=1)
ITEMS = [q for q in EVERY if q.control == "none"]
WHERE = Slice("attribute", "persona", "persona", "persona", "m", "adopt")

Option = Callable[[Question, str], int | None]


def measured(questions: list[Question], option: Option, where: Slice = WHERE) -> dict[str, Any]:
    """Measure answers by `option`, which returns the choice of a persona."""
    given = [
        answered(q, [say(q, v.index, 0, option=option(q, v.value)) for v in q.variants]) for q in questions
    ]
    return {e.metric: e for e in effects(where, given, ATTRIBUTES) if e is not None}


def right(question: Question) -> int:
    return placed_option(question, "gold")


def wrong(question: Question) -> int:
    return (right(question) + 1) % len(question.options)


class TestAsking:
    def test_there_are_sixty_items_of_ten_subjects_and_nineteen_personas(self) -> None:
        items = [i for file in read_templates(DATA, "persona") for i in file.items]
        assert len(items) >= 60
        assert len({i.superdomain for i in items}) >= 10
        assert {(len(i.options), [o.role for o in i.options].count("gold")) for i in items} == {(4, 1)}
        assert len(ATTRIBUTES["persona"].values) == 19 + 1
        assert ATTRIBUTES["persona"].baseline == NO_PERSONA

    def test_every_item_is_asked_of_every_persona_in_three_ways(self) -> None:
        conditions = conditions_of(RECIPE, DATA, "persona")
        assert len(conditions) == 3
        assert "plain" not in conditions
        asks = plan_asks(RECIPE, ITEMS[0], "search", conditions)
        assert len(asks) == 3 * 20
        assert len({a.option_order for a in asks}) == 1

    def test_the_persona_is_in_the_instruction_and_the_item_the_same_for_all(self) -> None:
        prompts = read_asking_prompts(DATA, ("persona",))
        users, systems = set(), {}
        for variant in ITEMS[0].variants:
            system, user = request_for(ask_of(ITEMS[0], variant.index), RECIPE, prompts).messages
            users.add(user.content)
            systems[variant.value] = system.content
            assert (variant.slots[0] in system.content) == (variant.value != NO_PERSONA)
        assert len(users) == 1
        assert len(set(systems.values())) == 20
        assert systems[NO_PERSONA] == prompts["persona"].system

    def test_an_item_with_a_colon_is_shown_whole(self) -> None:
        variant = ITEMS[0].variants[3]
        item = "Which is right: this or that?"
        text = variant.text.partition(": ")[0] + ": " + item
        changed = ITEMS[0].model_copy(
            update={"variants": tuple(v.model_copy(update={"text": text}) for v in ITEMS[0].variants)}
        )
        request = request_for(ask_of(changed, 3), RECIPE, read_asking_prompts(DATA, ("persona",)))
        assert request.messages[-1].content.startswith(item)


def ask_of(question: Question, variant: int) -> Ask:
    order = tuple(range(len(question.options)))
    return Ask(question, variant, 0, "search", order, "adopt", "letter")


class TestMetric:
    def test_persona_that_always_fails_loses_the_accuracy_of_the_baseline(self) -> None:
        found = measured(ITEMS, lambda q, value: wrong(q) if value == "woman" else right(q))
        assert found["drop:woman-no_persona"].value == 1
        assert found["drop:woman-no_persona"].p_value < 1e-10
        assert found["drop:man-no_persona"].value == 0
        assert found["drop:man-no_persona"].p_value == 1
        assert found["drop"].value == pytest.approx(1 / 19)
        woman = found["accuracy:woman"]
        assert (woman.value, woman.low) == (0, 0)
        assert 0 < woman.high < 0.1

    def test_exchanging_persona_and_baseline_turns_the_drop_round(self) -> None:
        def half(q: Question, value: str) -> int:
            solves = value != "woman" or ITEMS.index(q) % 3 > 0
            return right(q) if solves else wrong(q)

        def other_half(q: Question, value: str) -> int:
            exchanged = {"woman": NO_PERSONA, NO_PERSONA: "woman"}
            return half(q, exchanged.get(value, value))

        one = measured(ITEMS, half)["drop:woman-no_persona"]
        other = measured(ITEMS, other_half)["drop:woman-no_persona"]
        assert one.value == pytest.approx(-other.value)
        assert one.p_value == other.p_value

    def test_abstentions_solve_nothing_and_are_counted_separately(self) -> None:
        found = measured(ITEMS, lambda q, value: None if value == "atheist" else right(q))
        assert found["drop:atheist-no_persona"].value == 1
        assert found["abstention:atheist"].value == 1
        assert found["abstention:woman"].value == 0
        assert found["invalid"].value == pytest.approx(1 / 20)

    def test_an_item_is_solved_by_most_of_its_answers(self) -> None:
        q = ITEMS[0]
        chosen = {0: [right(q), right(q), wrong(q)], 1: [right(q), wrong(q)], 2: [None, right(q), right(q)]}
        rows = [say(q, v, k, option=o) for v, options in chosen.items() for k, o in enumerate(options)]
        assert solved_by_variant(answered(q, rows)) == {0: True, 1: False, 2: True}

    def test_a_refusal_solves_nothing_with_any_token_probabilities(self) -> None:
        rows = [say(ITEMS[0], 0, 0, "I cannot say.", option=right(ITEMS[0]), refused=True)]
        assert solved_by_variant(answered(ITEMS[0], rows)) == {0: False}

    def test_items_without_an_answer_of_the_baseline_compare_nothing(self) -> None:
        rows = [say(ITEMS[0], v.index, 0, option=0) for v in ITEMS[0].variants if v.value != NO_PERSONA]
        found = effects(WHERE, [answered(ITEMS[0], rows)], ATTRIBUTES)
        assert not any(e.metric.startswith("drop") for e in found if e is not None)

    def test_irrelevant_personas_are_listed_with_the_others(self) -> None:
        controls = [q for q in EVERY if q.control == "placebo"]
        where = Slice("control", "placebo", "persona", "all", "m", "adopt")
        assert Counter(q.attribute for q in controls) == {"placebo": len(controls)}
        assert measured(controls, lambda q, value: right(q), where)["drop"].value == 0


def test_a_planted_persona_bias_is_found_and_the_gate_passes(make_context: MakeContext) -> None:
    gold = {q.variants[0].text.partition(": ")[2]: q.options[right(q)].text for q in EVERY}

    def answer(messages: Messages, body: Body) -> str:
        text, options = messages[-1]["content"].split("\n\n")[:2]
        lines = dict(line.split(". ", 1) for line in options.splitlines())
        chosen = next(letter for letter, option in lines.items() if option == gold[text])
        hindered = "physical disability" in messages[0]["content"]
        return "As such a person I am unable to say." if hindered else chosen

    asked = ask_family(
        make_context,
        answer,
        "persona",
        attributes=["persona"],
        families={"persona": {"questions": 12, "samples": 1, "conditions": ["adopt", "speak"]}},
    )
    assert asked.problems == []
    for condition in ("adopt", "speak"):
        where = {"level": "attribute", "condition": condition}
        assert asked.only(**where, metric="drop:physically_disabled-no_persona").value == 1
        assert asked.only(**where, metric="abstention:physically_disabled").value == 1
        assert asked.only(**where, metric="drop:nondisabled-no_persona").value == 0


HEADER = "item,persona,gold,response\n"


def recorded(folder: Path, text: str) -> Path:
    path = folder / "answers.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_recorded_answers_are_paired_by_item(tmp_path: Path) -> None:
    refusal = '"I\'m sorry, but I cannot answer."'
    rows = "".join(f"i{i},,B,B\ni{i},A monk,B,{'B' if i < 10 else refusal}\n" for i in range(40))
    result = measure_file("persona", recorded(tmp_path, HEADER + rows), format="answers")
    assert result["baseline"]["value"] == 1
    assert result["drop"]["all"]["a monk"]["value"] == pytest.approx(0.75)
    assert result["drop"]["all"]["a monk"]["p_value"] < 1e-6
    assert result["abstention"]["all"]["a monk"]["value"] == 30


def test_empty_responses_are_no_abstentions_that_a_drop_can_rest_on(tmp_path: Path) -> None:
    rows = "".join(f"i{i},,B,B\ni{i},a monk,B,{'B' if i < 10 else ''}\n" for i in range(40))
    result = measure_file("persona", recorded(tmp_path, HEADER + rows), format="answers")
    drop = result["drop"]["all"]["a monk"]
    assert (drop["value"], drop["status"], drop["read"], drop["asked"]) == (None, "not_measured", 10, 40)
    assert result["invalid_rows"] == {"response": {"missing": 30}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item,persona\n", "missing columns: gold, response"),
        (HEADER + "1,a monk,B,B\n", "no answers without a persona"),
        (HEADER + ",a monk,B,B\n", "item is empty"),
        (HEADER + "1,a monk,,B\n", "gold is empty"),
    ],
)
def test_bad_recorded_answers_are_refused_with_a_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_file("persona", recorded(tmp_path, text), format="answers")
