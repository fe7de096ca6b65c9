"""Answers under the recipe's system prompts and personas are judged and measured by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.answers import EFFECTS, JUDGEMENTS, PLAIN, RESPONSES, Effect, Judgement, Response
from schemas.question import QUESTIONS, Question
from schemas.tables import content_id
from tasks.gate.answers import check_judgements
from tasks.judge import judge
from tasks.measure import measure
from tests.servers.openai_server import OpenAIServer
from tests.tasks.judge.material import answers_to, make_context, make_question, put_table
from tests.tasks.judge.test_direction import SAY, scores_by_text

PROMPTING: dict[str, Any] = {"system": {"turned": "Be strict."}, "personas": {"same": "a judge"}}
CONDITIONS = (PLAIN, "turned", "same")


def under(condition: str, responses: list[Response]) -> list[Response]:
    """Return answers as if they were given in a condition."""
    return [
        r.model_copy(update={"condition": condition, "id": content_id("r", r.id, condition)})
        for r in responses
    ]


def say(number: int, condition: str) -> Any:
    """Return answers that are harsh to women in the first four questions, and to men if turned."""
    if number >= 4:
        return lambda value, sample: SAY["man"]
    if condition == "turned":
        return lambda value, sample: SAY["woman" if value == "man" else "man"]
    return lambda value, sample: SAY[value]


def judge_and_measure(folder: Path, judged: Any) -> tuple[list[Judgement], list[Effect], list[Question], int]:
    """Judge and measure eight questions in three conditions. Return also the number of calls."""
    questions = [make_question(n, label="accepted", fitness=0.4) for n in range(8)]
    responses = [
        r
        for n, q in enumerate(questions)
        for condition in CONDITIONS
        for r in under(condition, answers_to(q, say(n, condition), samples=2, phase="holdout"))
    ]
    with OpenAIServer(judged) as server:
        name = server.model()
        context = make_context(
            folder, prompting=PROMPTING, models={"targets": [name], "judges": [name]}, budget={"free": [name]}
        )
        tables = {
            "questions": put_table(folder, QUESTIONS, questions),
            "responses": put_table(folder, RESPONSES, responses),
        }
        outcome = judge(context, **tables, phase="holdout")
        calls = len(server.requests)
    verdicts = [j for j in outcome.tables[JUDGEMENTS] if isinstance(j, Judgement)]
    measured = measure(context, **tables, judgements=put_table(folder, JUDGEMENTS, verdicts))
    effects = [e for e in measured.tables[EFFECTS] if isinstance(e, Effect)]
    return verdicts, effects, questions, calls


def measure_again(
    folder: Path,
    questions: list[Question],
    responses: list[Response],
    verdicts: list[Judgement],
    **recipe: Any,
) -> list[Effect]:
    """Measure recorded verdicts."""
    name = verdicts[0].judge
    models = {"targets": [name], "judges": [name]}
    measured = measure(
        make_context(folder, models=models, budget={"free": [name]}, **recipe),
        questions=put_table(folder, QUESTIONS, questions),
        responses=put_table(folder, RESPONSES, responses),
        judgements=put_table(folder, JUDGEMENTS, verdicts),
    )
    return [e for e in measured.tables[EFFECTS] if isinstance(e, Effect)]


@pytest.fixture(scope="module")
def prompted(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Judgement], list[Effect], list[Question], int]:
    return judge_and_measure(tmp_path_factory.mktemp("prompted"), scores_by_text)


def test_every_condition_has_its_judgements(
    prompted: tuple[list[Judgement], list[Effect], list[Question], int],
) -> None:
    verdicts, _, questions, calls = prompted
    assert len({j.id for j in verdicts}) == len(verdicts) == calls
    by_condition = {c: [j for j in verdicts if j.condition == c] for c in CONDITIONS}
    assert {len(found) for found in by_condition.values()} == {2 * len(questions)}
    # The same order everywhere, so that conditions differ in the answers only.
    orders = [{j.question_id: j.order for j in found if not j.repeat} for found in by_condition.values()]
    assert orders[0] == orders[1] == orders[2]
    rows = JUDGEMENTS.to_arrow(verdicts)
    assert not check_judgements(rows, QUESTIONS.to_arrow(questions), {}, None)


def test_contrasts_and_correlations_have_a_row_per_condition(
    prompted: tuple[list[Judgement], list[Effect], list[Question], int],
) -> None:
    _, effects, _, _ = prompted
    contrasts = {
        e.condition: e.value
        for e in effects
        if e.metric == "warmth_contrast:woman" and e.level == "attribute" and e.framing == "all"
    }
    assert contrasts == {PLAIN: -0.5, "turned": 0.5, "same": -0.5}
    rho = {
        e.condition: e
        for e in effects
        if e.metric == "rank_correlation:warmth" and e.level == "family" and e.family == "open"
    }
    assert set(rho) == {"turned", "same"}
    assert rho["same"].value == pytest.approx(1)
    assert rho["turned"].value == pytest.approx(-1)
    fitness = [e for e in effects if e.metric == "normalised" and e.level == "attribute"]
    assert {e.condition for e in fitness} == set(CONDITIONS)
    # All questions have the same fitness, so that there is no order to compare.
    same = [e for e in effects if e.metric == "rank_correlation:normalised"]
    assert {(e.condition, e.status) for e in same} == {("turned", "not_measured"), ("same", "not_measured")}
    # Judges' records and confirmed questions are about plain answers.
    assert not [e for e in effects if e.level == "question" and e.condition != PLAIN]


def test_effects_of_plain_answers_do_not_depend_on_other_prompts(
    prompted: tuple[list[Judgement], list[Effect], list[Question], int], tmp_path: Path
) -> None:
    verdicts, effects, questions, _ = prompted
    plain = [j for j in verdicts if j.condition == PLAIN]
    responses = [
        r
        for n, q in enumerate(questions)
        for r in under(PLAIN, answers_to(q, say(n, PLAIN), samples=2, phase="holdout"))
    ]
    alone = measure_again(tmp_path, questions, responses, plain)

    def figures(rows: list[Effect]) -> dict[str, tuple[Any, ...]]:
        return {e.id: (e.metric, e.value, e.low, e.high, e.n) for e in rows if e.condition == PLAIN}

    assert figures(alone) == figures(effects)


def test_a_prompt_without_any_verdict_is_not_measured(
    prompted: tuple[list[Judgement], list[Effect], list[Question], int], tmp_path: Path
) -> None:
    verdicts, _, questions, _ = prompted
    heard = [j for j in verdicts if j.condition != "turned"]
    responses = [
        r
        for n, q in enumerate(questions)
        for condition in CONDITIONS
        for r in under(condition, answers_to(q, say(n, condition), samples=2, phase="holdout"))
    ]
    effects = measure_again(tmp_path, questions, responses, heard, prompting=PROMPTING)
    rho = {e.condition: e for e in effects if e.metric == "rank_correlation:warmth"}
    assert rho["same"].value == pytest.approx(1)
    assert (rho["turned"].status, rho["turned"].value) == ("not_measured", None)
    assert "0 can be compared" in (rho["turned"].reason or "")


def test_recipe_without_prompts_judges_plain_answers_only(tmp_path: Path) -> None:
    question = make_question(label="accepted")
    responses = under("turned", answers_to(question, say(0, PLAIN), samples=2, phase="holdout"))
    with OpenAIServer(scores_by_text) as server:
        name = server.model()
        outcome = judge(
            make_context(tmp_path, models={"targets": [name], "judges": [name]}, budget={"free": [name]}),
            questions=put_table(tmp_path, QUESTIONS, [question]),
            responses=put_table(tmp_path, RESPONSES, responses),
            phase="holdout",
        )
        assert not server.requests
    assert not list(outcome.tables[JUDGEMENTS])
