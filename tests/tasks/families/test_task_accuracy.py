"""Tasks with swapped names: counts are exact, groups are matched, and chance is not a difference."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.estimate import estimate
from tasks.families import Answered
from tasks.families.effects import Slice
from tasks.families.shared import placed_option
from tasks.families.task_accuracy import effects, names_in, template_answers
from tasks.files.vocabulary import read_attribute, read_attributes, read_templates
from tasks.gate.questions import check_groups
from tasks.measure import measure_file
from tests.conftest import DATA
from tests.servers.openai_server import Body, Messages
from tests.tasks.families.asked_family import MakeContext, answered, ask_family, questions_of, say

NAMES = ("names_gender", "names_race")
WHERE = Slice("attribute", "names_gender", "task_accuracy", "names_gender", "m")
HALF = [q for q in questions_of("task_accuracy", "names_gender", questions=200) if q.control == "none"]
NO_CONTROLS = {"a_a": 0, "placebo": 0, "neutral": 0}

Solves = Callable[[Question, int], bool]


def answers(questions: list[Question], solves: Solves, samples: int = 1) -> list[Answered]:
    made = []
    for q in questions:
        gold = placed_option(q, "gold")
        wrong = (gold + 1) % len(q.options)
        rows = [
            say(q, v.index, k, option=gold if solves(q, v.index) else wrong)
            for v in q.variants
            for k in range(samples)
        ]
        made.append(answered(q, rows))
    return made


def measured(questions: list[Question], solves: Solves, where: Slice = WHERE) -> dict[str, Any]:
    found = effects(where, answers(questions, solves), {})
    return {e.metric: e for e in found if e is not None}


class TestVocabulary:
    def test_there_are_two_hundred_templates_of_three_kinds_of_task(self) -> None:
        items = [i for file in read_templates(DATA, "task_accuracy") for i in file.items]
        kinds = Counter(i.superdomain for i in items)
        assert kinds["question_answering"] >= 90
        assert kinds["entailment"] >= 50
        assert kinds["sentiment"] >= 60
        assert sum(kinds.values()) >= 200

    def test_a_task_turns_on_the_name_in_nothing(self) -> None:
        pronouns = re.compile(r"\b(he|she|him|her|his|hers|himself|herself)\b", re.IGNORECASE)
        for file in read_templates(DATA, "task_accuracy"):
            for item in file.items:
                assert "{name}" in item.text
                assert not pronouns.search(item.text), item.id
                assert set(re.findall(r"\{(\w+)\}", item.text)) == {"name"}
                assert [o.role for o in item.options].count("gold") == 1
                assert 2 <= len(item.options) <= 5
                assert not any("{" in o.text for o in item.options)

    @pytest.mark.parametrize(("name", "values"), [("names_gender", 3), ("names_race", 4)])
    def test_there_are_fifty_names_for_every_value(self, name: str, values: int) -> None:
        attribute = read_attribute(DATA, name)
        assert (len(attribute.values), names_in(attribute)) == (values, 50)
        every = [n for v in attribute.values for n in v.forms["name"]]
        assert len(set(every)) == 50 * values

    def test_names_in_one_slot_share_their_surname_if_gender_varies(self) -> None:
        lists = [v.forms["name"] for v in read_attribute(DATA, "names_gender").values]
        for names in zip(*lists, strict=True):
            assert len({n.split()[-1] for n in names}) == 1


def count_names(attributes: list[Attribute]) -> int:
    return sum(len(a.values) * names_in(a) for a in attributes)


class TestCounts:
    def test_a_template_is_asked_with_three_hundred_and_fifty_names(self) -> None:
        assert count_names(read_attributes(DATA, NAMES)) == 150 + 200

    def test_every_template_meets_every_name_once(self, make_context: MakeContext) -> None:
        families = {"task_accuracy": {"samples": 1, "templates": ["entailment"]}}
        plan = estimate(make_context(attributes=NAMES, families=families, controls=NO_CONTROLS))
        templates = len(read_templates(DATA, "task_accuracy", ("entailment",))[0].items)
        assert plan.known_calls == templates * count_names(read_attributes(DATA, NAMES))
        assert plan.questions["task_accuracy"] == templates * 100

    @pytest.mark.parametrize("wanted", [1, 7, 30, 205])
    def test_number_of_drawn_questions_is_that_of_the_recipe(self, wanted: int) -> None:
        drawn = [q for q in questions_of("task_accuracy", *NAMES, questions=wanted) if q.control == "none"]
        assert len(drawn) == wanted
        assert len({v.text for q in drawn for v in q.variants}) == sum(len(q.variants) for q in drawn)

    def test_a_drawn_template_is_asked_with_ten_names_and_both_attributes_get_their_share(self) -> None:
        drawn = [q for q in questions_of("task_accuracy", *NAMES, questions=200) if q.control == "none"]
        cells = Counter((q.template_id, q.attribute) for q in drawn)
        assert set(cells.values()) == {10}
        assert Counter(attribute for _, attribute in cells) == dict.fromkeys(NAMES, 10)
        assert {q.superdomain for q in drawn} == {"question_answering", "entailment", "sentiment"}

    def test_an_attribute_without_names_is_refused(self) -> None:
        with pytest.raises(InputError, match="name lists of the same length"):
            questions_of("task_accuracy", "names_gender", "skin_tone")


class TestMetric:
    def test_group_that_always_fails_differs_by_everything(self) -> None:
        found = measured(HALF, lambda q, variant: variant != 1)
        assert found["max_min"].value == 1
        assert found["max_min_excess"].value > 0.4
        assert found["max_min_excess"].p_value == pytest.approx(0.001)
        assert found["accuracy:man"].value == 0
        assert found["accuracy:woman"].value == found["accuracy:nonbinary"].value == 1

    def test_which_group_fails_changes_nothing(self) -> None:
        one, other = (measured(HALF, lambda q, v, failing=i: v != failing) for i in (0, 2))
        assert one["max_min"].value == other["max_min"].value
        assert one["max_min_excess"].value == pytest.approx(other["max_min_excess"].value, abs=0.02)

    def test_a_model_that_is_always_right_or_always_wrong_has_no_difference(self) -> None:
        for right in (True, False):
            found = measured(HALF, lambda q, v, right=right: right)
            assert found["max_min"].value == found["max_min_excess"].value == 0
            assert found["max_min_excess"].p_value == 1

    def test_chance_alone_has_a_difference_but_no_excess(self) -> None:
        def coin(question: Question, variant: int) -> bool:
            return hash_of(question.id, variant) % 2 == 0

        found = measured(HALF, coin)
        excess = found["max_min_excess"]
        assert found["max_min"].value > 0.15
        assert excess.low is not None
        assert excess.low < 0 < excess.high
        assert excess.p_value > 0.05

    def test_a_name_with_equal_errors_is_no_difference_between_groups(self) -> None:
        confusing = {v.slots[0] for q in HALF for v in q.variants if hash_of(v.slots[0]) % 5 == 0}
        found = measured(HALF, lambda q, variant: q.variants[variant].slots[0] not in confusing)
        assert found["max_min"].value > 0
        assert found["max_min_excess"].p_value > 0.01

    def test_unreadable_answers_are_counted_and_not_scored(self) -> None:
        silent = [answered(q, [say(q, v.index, 0, "Hm.") for v in q.variants]) for q in HALF[:10]]
        found = {e.metric: e for e in effects(WHERE, silent, {}) if e is not None}
        assert found["invalid"].value == 1
        assert set(found) == {"invalid"}
        assert list(template_answers(silent)) == []

    def test_groups_of_an_a_a_control_are_its_two_variants(self) -> None:
        controls = [
            q for q in questions_of("task_accuracy", "names_gender", questions=200) if q.control == "a_a"
        ]
        where = Slice("control", "a_a", "task_accuracy", "all", "m")
        assert controls
        assert measured(controls, lambda q, variant: variant == 0, where)["max_min"].value == 1
        assert measured(controls, lambda q, variant: True, where)["max_min_excess"].value == 0


def hash_of(*parts: object) -> int:
    from schemas.tables import derived_seed

    return derived_seed(*map(str, parts))


def test_questions_and_answers_pass_the_gate_and_a_planted_difference_is_found(
    make_context: MakeContext,
) -> None:
    men = set(read_attribute(DATA, "names_gender").value("man").forms["name"])
    gold = {
        v.text: q.options[placed_option(q, "gold")].text
        for q in questions_of("task_accuracy", "names_gender", questions=60)
        for v in q.variants
    }

    def answer(messages: Messages, body: Body) -> str:
        shown = messages[-1]["content"]
        text, options = shown.split("\n\n")[:2]
        lines = dict(line.split(". ", 1) for line in options.splitlines())
        right = next(letter for letter, option in lines.items() if option == gold[text])
        wrong = next(letter for letter in lines if letter != right)
        return wrong if any(name in text for name in men) else right

    asked = ask_family(
        make_context,
        answer,
        "task_accuracy",
        attributes=["names_gender"],
        families={"task_accuracy": {"questions": 60, "samples": 1}},
    )
    assert asked.problems == []
    assert asked.only(level="attribute", metric="max_min").value == 1
    assert asked.only(level="attribute", metric="max_min_excess").p_value <= 0.01
    assert asked.only(level="control", name="a_a", metric="max_min").value == 0
    assert asked.only(level="attribute", metric="order_effect").value == pytest.approx(0, abs=0.25)


def test_the_gate_refuses_a_task_with_two_right_options() -> None:
    options = tuple(o.model_copy(update={"role": "gold"}) for o in HALF[0].options)
    problems = check_groups([HALF[0].model_copy(update={"options": options})])
    assert [p.check for p in problems] == ["options_unfit"]


HEADER = "template,task,group,gold,response\n"


def recorded(folder: Path, text: str) -> Path:
    path = folder / "answers.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_recorded_answers_are_measured_by_task(tmp_path: Path) -> None:
    rows = "".join(
        f"t{t},{task},{group},B,{'b.' if group == 'white' or task == 'qa' else 'A'}\n"
        for t in range(3)
        for task in ("qa", "nli")
        for group in ("white", "Black ")
        for _ in range(10)
    )
    result = measure_file("task_accuracy", recorded(tmp_path, HEADER + rows), format="answers")
    assert result["max_min"]["qa"]["value"] == 0
    assert result["max_min"]["nli"]["value"] == 1
    assert result["max_min"]["all"]["value"] == pytest.approx(0.5)
    assert result["max_min_excess"]["nli"]["p_value"] == pytest.approx(0.001)
    assert result["max_min"]["nli"]["clusters"] == 3


def test_recorded_rows_without_an_answer_are_counted(tmp_path: Path) -> None:
    rows = "t,qa,a,B,\nt,qa,a,B,B\nt,qa,b,B,B\n"
    path = recorded(tmp_path, HEADER + rows)
    assert measure_file("task_accuracy", path, format="answers")["accuracy"]["all"]["value"] is None
    result = measure_file("task_accuracy", path, format="answers", min_coverage=0.6)
    assert (result["invalid"]["value"], result["invalid"]["n"]) == (1, 3)
    assert result["accuracy"]["all"]["value"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("template,task,group\n", "missing columns: gold, response"),
        (HEADER, "no answers"),
        (HEADER + "t,qa,a,B,B\n", "no two groups"),
        (HEADER + "t,qa,,B,B\n", "group is empty"),
        (HEADER + "t,qa,a,,B\n", "gold is empty"),
    ],
)
def test_bad_recorded_answers_are_refused_with_a_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_file("task_accuracy", recorded(tmp_path, text), format="answers")
