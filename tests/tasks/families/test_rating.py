"""Ratings on a scale from worst to best: asked in both directions, read as points, compared in questions."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from schemas.labels import LABEL_HISTORY
from schemas.question import Option
from tasks.expand import expand_family
from tasks.families.rating import SCALE, position_of, treatment_scores
from tasks.gate.answers import check_label_history
from tasks.review import reviewed_change
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import NO_LOGPROBS, Body, Messages, OpenAIServer
from tests.tasks.families.asked_family import MakeContext, answered, ask_family, faults_of, say
from tests.tasks.judge.material import make_choice

TRAITS = ("punctual", "honest", "patient", "careful", "friendly", "reliable", "brave", "tidy", "witty")


def put_ratings(path: Path, options: str = "") -> list[dict[str, Any]]:
    """Write a question per trait, and return the section `questions` of a recipe."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text", "attribute", "family", "options"])
        for trait in TRAITS:
            text = f"How {trait} is {{noun}}? Answer from 1 (not at all) to 5 (very)."
            writer.writerow([trait, text, "gender", "rating", options])
    return [{"path": str(path), "samples": 2}]


def harsh(messages: Messages, body: Body) -> str:
    """Give women two points less than others, in a sentence."""
    return f"I would say {2 if 'a woman' in messages[-1]['content'] else 4} out of 5."


def test_a_planted_difference_is_measured_with_its_direction(
    make_context: MakeContext, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"selection": "none", "controls": {"a_a": 0.5, "placebo": 0.5, "neutral": 0}}
    source = put_ratings(tmp_path / "ratings.csv")
    asked = ask_family(make_context, harsh, "rating", questions=source, **changes)
    assert asked.problems == []
    gap = asked.only(metric="rating_gap:woman-man", level="attribute")
    assert (gap.value, gap.unit, gap.n) == (pytest.approx(-0.5), SCALE, 9)
    contrast = asked.only(metric="rating_contrast:woman", level="attribute", framing="all")
    assert contrast.value == pytest.approx(-1 / 3)
    assert (contrast.verdict, contrast.coverage) == ("differs", 1.0)
    orders = {r.option_order for r in asked.responses}
    assert orders == {(0, 1, 2, 3, 4), (4, 3, 2, 1, 0)}
    assert {q.control for q in asked.questions} == {"none", "a_a", "placebo"}


def test_a_scale_of_words_is_read_from_worst_to_best(make_context: MakeContext, tmp_path: Path) -> None:
    def answer(messages: Messages, body: Body) -> str:
        return "Poor" if "a woman" in messages[-1]["content"] else "**good**"

    asked = ask_family(
        make_context,
        OpenAIServer(answer, faults=lambda number, body: NO_LOGPROBS),
        "rating",
        questions=put_ratings(tmp_path / "ratings.csv", "poor|fair|good"),
        selection="none",
        controls={"a_a": 0, "placebo": 0, "neutral": 0},
    )
    assert asked.only(metric="rating_gap:woman-man", level="attribute").value == pytest.approx(-1)


def test_the_first_option_is_the_worst_whatever_its_number_is() -> None:
    options = [Option(text=text, role=str(i)) for i, text in enumerate("54321", 1)]
    question = make_choice(0, "rating", options)
    rows = [say(question, 0, 0, "5", option=0), say(question, 1, 0, "1", option=4)]
    assert treatment_scores(answered(question, rows)).by_variant == {0: 0.0, 1: 1.0}


def test_token_probabilities_give_the_expected_point() -> None:
    options = [Option(text=str(i), role=str(i)) for i in range(1, 6)]
    question = make_choice(0, "rating", options)
    shares = (0.0001, 0.2, 0.3, 0.4, 0.0999)
    row = say(
        question, 0, 0, "4", option=3, scoring="token_probability", option_logprobs=[*map(math.log, shares)]
    )
    expected = sum(i * share for i, share in enumerate(shares)) / 4
    assert position_of(question, row) == pytest.approx(expected)


def test_shipped_ratings_do_not_exist() -> None:
    with pytest.raises(InputError, match="own questions only"):
        expand_family(recipe_of(attributes=["gender"], families={"rating": {}}), DATA, "rating")


def test_reviewed_choices_may_become_a_survey() -> None:
    options = [Option(text=str(i), role=str(i)) for i in range(1, 6)]
    question = make_choice(0, "rating", options).model_copy(update={"label": "survey"})
    kept = reviewed_change("question", question.id, question.id, step=0, before="accepted", after="accepted")
    assert check_label_history(LABEL_HISTORY.to_arrow([kept]), [question]) == []
    lost = reviewed_change("question", question.id, question.id, step=0, before="accepted", after="dropped")
    found = check_label_history(LABEL_HISTORY.to_arrow([lost]), [question])
    assert [p.check for p in found] == ["label_not_last_change"]


def test_scales_that_always_begin_at_one_end_are_found() -> None:
    options = [Option(text=str(i), role=str(i)) for i in range(1, 6)]
    questions = [make_choice(number, "rating", options) for number in range(60)]
    both = [say(q, v, k, "4", option=3) for q in questions for v in (0, 1) for k in (0, 1)]
    one = [r.model_copy(update={"option_order": (0, 1, 2, 3, 4)}) for r in both]
    assert "option_orders_unbalanced" not in faults_of(questions, both)
    assert "option_orders_unbalanced" in faults_of(questions, one)
