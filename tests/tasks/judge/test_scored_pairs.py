"""Answers scored in pairs: a planted order is found in spite of wrong verdicts, and the effects follow it."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.answers import JUDGEMENTS, RESPONSES, Judgement, Response
from schemas.errors import InputError, ModelError
from schemas.question import QUESTIONS, Question
from schemas.recipe import Recipe
from tasks.families.contrasts import contrast_effects, scored_judgements
from tasks.files.vocabulary import read_attributes, read_concept
from tasks.judge import judge
from tasks.judges.scored_pairs import calls_per_answer
from tasks.stats.correlations import spearman
from tests.servers.openai_server import Body, Messages, OpenAIServer, message
from tests.tasks.judge.material import DATA, TARGET, make_context, make_question, make_response, put_table

LEVEL = re.compile(r"level (\d+)")


def planted_judge(flipped: float, seed: int = 0) -> Any:
    """Return a judge that names the answer of the higher level, but is wrong in a share of the pairs."""

    def answer(messages: Messages, body: Body) -> dict[str, Any]:
        text = messages[-1]["content"]
        levels = [int(n) for n in LEVEL.findall(text)]
        if "winner" not in text:
            return {"answer": f"The answer is of level {levels[0]}."}
        first, second = levels[0], levels[-1]
        better, worse = ("first", "second") if first > second else ("second", "first")
        wrong = random.Random(f"{seed} {text}").random() < flipped
        return {"reasoning": "By level.", "winner": worse if wrong else better}

    return answer


def answers_of_levels(questions: list[Question], levels: list[int]) -> list[Response]:
    """Give every version of every question one answer, whose text states its level."""
    remaining = iter(levels)
    return [
        make_response(q, v.index, 0, f"This is advice of level {next(remaining)}.", phase="holdout")
        for q in questions
        for v in q.variants
    ]


def judged(
    folder: Path, server: OpenAIServer, questions: list[Question], responses: list[Response], **judging: Any
) -> list[Judgement]:
    name = server.model("judge")
    context = make_context(
        folder,
        models={"targets": [TARGET], "judges": [name]},
        judging={"comparison": "pairwise_scored", **judging},
        budget={"free": [name]},
    )
    outcome = judge(
        context, put_table(folder, QUESTIONS, questions), put_table(folder, RESPONSES, responses), "holdout"
    )
    return list(outcome.tables[JUDGEMENTS])


def selected(count: int) -> list[Question]:
    return [make_question(n, label="accepted") for n in range(count)]


def test_a_group_that_is_treated_worse_has_a_contrast_below_zero(tmp_path: Path) -> None:
    questions = selected(12)
    rng = random.Random(1)
    levels = [level for _ in questions for level in (rng.randrange(100, 400), rng.randrange(500, 900))]
    with OpenAIServer(planted_judge(0.0)) as server:
        verdicts = judged(tmp_path, server, questions, answers_of_levels(questions, levels), opponents=6)
        calls = len(server.requests)
    assert calls == 24 * 3 + 24 * 6 // 2 + round(0.1 * 24 * 6 / 2)
    assert len(verdicts) == 12
    assert {v.abstention for v in verdicts} == {None}
    assert {v.fitness_form for v in verdicts} == {"pairwise"}
    attributes = {a.id: a for a in read_attributes(DATA, ["gender"])}
    scored = scored_judgements({q.id: q for q in questions}, verdicts, "pairwise")
    effects = {e.metric: e for e in contrast_effects(scored, attributes) if e.level == "attribute"}
    woman = effects["respect_contrast:woman"]
    assert woman.high is not None
    assert woman.high < 0 < (effects["respect_contrast:man"].low or 0)


def test_equal_answers_make_no_difference(tmp_path: Path) -> None:
    questions = selected(6)

    def ties(messages: Messages, body: Body) -> dict[str, Any]:
        return {"answer": "x"} if "winner" not in messages[-1]["content"] else {"winner": "tie"}

    with OpenAIServer(ties) as server:
        verdicts = judged(tmp_path, server, questions, answers_of_levels(questions, [5] * 12), opponents=4)
    assert [v.fitness for v in verdicts] == pytest.approx([0] * 6)


def test_a_judge_that_does_not_answer_stops_the_build(tmp_path: Path) -> None:
    questions = selected(4)
    with (
        OpenAIServer(planted_judge(0.0), faults=lambda number, body: message(content="")) as server,
        pytest.raises(ModelError),
    ):
        judged(tmp_path, server, questions, answers_of_levels(questions, list(range(8))))


def test_words_that_name_the_group_are_hidden(tmp_path: Path) -> None:
    questions = selected(3)
    responses = [
        r.model_copy(update={"text": f"{r.text} The woman should ask."})
        for r in answers_of_levels(questions, list(range(6)))
    ]
    with OpenAIServer(planted_judge(0.0)) as server:
        judged(tmp_path, server, questions, responses, opponents=2)
        prompts = [r.body["messages"][-1]["content"] for r in server.requests]
    assert not any("woman" in prompt for prompt in prompts)


@pytest.mark.slow
@pytest.mark.parametrize(("opponents", "least"), [(10, 0.83), (30, 0.94)])
def test_the_planted_order_of_200_texts_is_found_with_a_tenth_of_the_verdicts_flipped(
    tmp_path: Path, opponents: int, least: float
) -> None:
    questions = selected(100)
    levels = random.Random(7).sample(range(100, 999), 200)
    with OpenAIServer(planted_judge(0.1, seed=3)) as server:
        verdicts = judged(
            tmp_path, server, questions, answers_of_levels(questions, levels), opponents=opponents
        )
    found = {(v.question_id, s.version): s.score for v in verdicts for s in v.version_scores}
    planted = iter(levels)
    pairs = [(next(planted), found[q.id, v.index]) for q in questions for v in q.variants]
    assert spearman(np.array(pairs, dtype=float)) >= least


def test_calls_per_answer_are_those_of_the_formula() -> None:
    concept = read_concept(DATA, "respect")
    assert calls_per_answer(concept, 10) == pytest.approx(3 + 1.1 * 10 / 2)


def test_an_unknown_concept_is_named() -> None:
    with pytest.raises(InputError, match="there is no concept 'grace'"):
        read_concept(DATA, "grace")


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({"judges": ["divergence"]}, "needs a model"),
        ({"judges": ["openai:a"], "adjudicator": "openai:b"}, "no split panels"),
    ],
)
def test_recipes_that_cannot_be_judged_in_scored_pairs_are_refused(
    models: dict[str, Any], words: str
) -> None:
    recipe = {
        "name": "x",
        "attributes": ["gender"],
        "models": {"targets": [TARGET], **models},
        "families": {"open": {}},
        "judging": {"comparison": "pairwise_scored"},
    }
    with pytest.raises(ValueError, match=words):
        Recipe.model_validate(recipe)
