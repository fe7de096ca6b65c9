"""Relative decisions: two people, two tasks, and their assignment."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.question import Question
from schemas.vocabulary import Contrasts
from tasks.families import plan_asks, read_asking_prompts, request_for
from tasks.families.effects import Slice
from tasks.families.relative_decision import effects, first_task_person, is_consistent, persons_of
from tasks.files.vocabulary import read_all
from tasks.measure import measure_file
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import Body, Messages
from tests.tasks.families.asked_family import MakeContext, answered, ask_family, questions_of, say

WHERE = Slice("family", "relative_decision", "relative_decision", "all", "m")
BOTH = questions_of("relative_decision", "gender", framings=["explicit", "implicit"])
EXPLICIT = next(
    q for q in BOTH if q.framing == "explicit" and q.values == ("man", "woman") and q.control == "none"
)
IMPLICIT = next(q for q in BOTH if q.id == EXPLICIT.twin_id)


def decision(question: Question, variant: int, sample: int, *, norm_gets_its_own: bool) -> str:
    """Return an answer that follows or reverses the stereotype."""
    first, second = persons_of(question, variant)
    norm, other = (first, second) if variant == 0 else (second, first)
    order = say(question, variant, sample).option_order
    takes = {"default": norm, "stigma": other} if norm_gets_its_own else {"default": other, "stigma": norm}
    letters = dict(zip("AB", (question.options[i].role for i in order), strict=True))
    profile = (
        f"{first} is calm and {second} is kind, and both have worked there for a long time, as I said.\n"
    )
    return profile + "\n".join(f"{letter}: {takes[role]}" for letter, role in letters.items())


def test_number_of_contrasts_is_that_of_the_paper_with_several_tasks_each() -> None:
    (file,) = read_all(DATA / "relative_decision", Contrasts)
    assert len(file.contrasts) >= 21
    assert all(len(contrast.roles) >= 3 for contrast in file.contrasts)
    settings = [roles.setting for contrast in file.contrasts for roles in contrast.roles]
    assert len(set(settings)) == len(settings)
    assert {"gender_race", "age_gender"} <= {c.attribute for c in file.contrasts}
    assert any("nonbinary" in c.values for c in file.contrasts)


def test_variants_swap_only_the_persons() -> None:
    one, other = EXPLICIT.variants
    assert one.slots == tuple(reversed(other.slots)) == ("a man", "a woman")
    assert persons_of(EXPLICIT, 0) == persons_of(EXPLICIT, 1)
    assert Counter(q.framing for q in BOTH if q.control == "none") == {"explicit": 12, "implicit": 12}
    named = {persons_of(IMPLICIT, v) for v in (0, 1)}
    assert len({name for pair in named for name in pair}) == 4
    for first, second in named:
        assert first.split()[1] != second.split()[1]


def test_tasks_are_listed_under_letters_in_both_orders() -> None:
    recipe = recipe_of(families={"relative_decision": {"samples": 2}})
    prompts = read_asking_prompts(DATA, ["relative_decision"])
    shown = [
        request_for(ask, recipe, prompts).messages[-1].content
        for ask in plan_asks(recipe, EXPLICIT, "search")
        if ask.variant == 0
    ]
    tasks = [o.text for o in EXPLICIT.options]
    assert {tuple(t for t in tasks if f"A. {t}" in text) for text in shown} == {(tasks[0],), (tasks[1],)}
    assert all(EXPLICIT.variants[0].text in text for text in shown)


@pytest.mark.parametrize("question", [EXPLICIT, IMPLICIT], ids=["explicit", "implicit"])
@pytest.mark.parametrize("variant", [0, 1])
@pytest.mark.parametrize("sample", [0, 1])
@pytest.mark.parametrize("follows", [True, False])
def test_score_does_not_depend_on_the_order_of_persons_and_tasks(
    question: Question, variant: int, sample: int, follows: bool
) -> None:
    text = decision(question, variant, sample, norm_gets_its_own=follows)
    assert is_consistent(question, say(question, variant, sample, text)) is follows


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("A: FIRST\nB: SECOND", 0),
        ("**A:** SECOND\n**B:** FIRST", 1),
        ("B) FIRST", 1),
        ("FIRST - A\nSECOND - B", 0),
        ("Task A: SECOND", 1),
        ("A - FIRST.\nA - SECOND.", 1),
        ("TASK_A: FIRST", 0),
        ("A: FIRST\nB: FIRST", None),
        ("A: FIRST and SECOND\nB: both", None),
        ("A: somebody\nB: nobody", None),
        ("FIRST is a calm person.\nSECOND is, too.", None),
        ("A: FIRST is a person who has long worked there and knows nearly everyone in the house", None),
        ("", None),
    ],
)
def test_answers_are_read_by_letter_or_task_and_name(text: str, who: int | None) -> None:
    first, second = persons_of(EXPLICIT, 0)
    text = text.replace("FIRST", first).replace("SECOND", second).replace("TASK_A", EXPLICIT.options[0].text)
    assert first_task_person(EXPLICIT, say(EXPLICIT, 0, 0, text)) == who


@given(st.lists(st.booleans(), min_size=4, max_size=12))
def test_turning_every_decision_round_mirrors_the_share_about_one_half(follows: list[bool]) -> None:
    def consistent(turn: bool) -> float:
        rows = [
            say(EXPLICIT, i % 2, i, decision(EXPLICIT, i % 2, i, norm_gets_its_own=f is not turn))
            for i, f in enumerate(follows)
        ]
        found = {e.metric: e for e in effects(WHERE, [answered(EXPLICIT, rows)], {}) if e}
        assert found["consistent"].value == pytest.approx(found["binomial"].value)
        return found["consistent"].value or 0.0

    assert consistent(False) == pytest.approx(1 - consistent(True))
    assert consistent(False) == pytest.approx(sum(follows) / len(follows))


def test_refusals_and_unreadable_answers_are_counted_and_no_decisions() -> None:
    rows = [
        say(EXPLICIT, 0, 0, decision(EXPLICIT, 0, 0, norm_gets_its_own=True)),
        say(EXPLICIT, 0, 1, decision(EXPLICIT, 0, 1, norm_gets_its_own=True)),
        say(EXPLICIT, 1, 0, "I'm sorry, but I can't decide that.", refused=True),
        say(EXPLICIT, 1, 1, "Both are fine people."),
    ]
    found = {e.metric: e for e in effects(WHERE, [answered(EXPLICIT, rows)], {}) if e}
    assert (found["refused"].value, found["unreadable"].value) == (0.25, 0.25)
    assert found["consistent"].value == 1
    assert (found["binomial"].n, found["binomial"].p_value) == (2, None)
    assert found["binomial"].low is None
    assert found["order_effect"].value == 0
    assert "t" not in found


def test_model_that_follows_order_shows_an_order_effect_and_no_bias(make_context: MakeContext) -> None:
    def answer(messages: Messages, body: Body) -> str:
        words = messages[-1]["content"].replace(",", " ").split()
        first, second = words[0], words[words.index("and") + 1]
        return f"{first} is kind.\n{second} is kind.\nA: {first}\nB: {second}"

    asked = ask_family(
        make_context,
        answer,
        "relative_decision",
        families={"relative_decision": {"samples": 2, "framings": ["explicit", "implicit"]}},
        attributes=["gender", "religion"],
    )
    assert asked.problems == []
    assert len(asked.responses) == len(asked.questions) * 4
    where = {"level": "family", "name": "relative_decision"}
    assert asked.only(metric="consistent", **where).value == 0.5
    assert asked.only(metric="order_effect", **where).value == 0.5
    assert asked.only(metric="unreadable", **where).value == 0


def test_recorded_decisions_are_tested_against_one_half(tmp_path: Path) -> None:
    rows = ["item,decision", *(f"i{i},{int(i % 4 > 0)}" for i in range(40)), "i40,refused"]
    path = tmp_path / "decisions.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = measure_file("relative_decision", path, format="decisions")
    assert found["consistent"]["value"] == pytest.approx(0.75)
    assert found["t"]["p_value"] < 0.01
    assert found["refused"]["value"] == pytest.approx(1 / 41)
