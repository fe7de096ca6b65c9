from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.answers import JUDGEMENTS, Judgement
from schemas.question import QUESTIONS, Question
from schemas.tables import content_id
from tasks.evolve.select import compute_threshold, select
from tasks.judges.panel import deciding_form, settle_orders, settle_panel
from tasks.run.store import Outcome
from tests.tasks.judge.material import DATA, make_context, make_question, make_recipe, put_table

MODEL = "openai:judge@http://127.0.0.1:9/v1"


def verdict(question: Question, fitness: float | None, **more: Any) -> Judgement:
    fields: dict[str, Any] = {
        "question_id": question.id,
        "judge": "divergence",
        "revision": None,
        "rubric": "divergence",
        "rubric_hash": "",
        "prompt_hash": "",
        "target": "t",
        "phase": "search",
        "order": (0, 1),
        "masked": True,
        "repeat": 0,
        "scores": (),
        "fitness": fitness,
        "fitness_form": "divergence",
        "p_value": None,
        "abstention": None if fitness is not None else "missing_answers",
        "tokens_in": 0,
        "tokens_out": 0,
        "cost_usd": 0.0,
    } | more
    key = content_id("j", *(fields[k] for k in ("question_id", "judge", "target", "phase", "repeat")))
    return Judgement(id=key, **fields)


def run(
    folder: Path,
    judged: Sequence[tuple[Question, float | None]],
    earlier: list[Question] | None = None,
    **recipe: Any,
) -> Outcome:
    return select(
        make_context(folder, **recipe),
        questions=put_table(folder, QUESTIONS, [q for q, _ in judged]),
        judgements=put_table(folder, JUDGEMENTS, [verdict(q, f) for q, f in judged]),
        archive=None if earlier is None else put_table(folder, QUESTIONS, earlier),
        round=max(q.round for q, _ in judged),
    )


def archive_of(outcome: Outcome) -> dict[str, Question]:
    return {q.id: q for q in outcome.tables[QUESTIONS] if isinstance(q, Question)}


GOOD, POOR, SILENT = make_question(1), make_question(2), make_question(3)
FLOOR = [make_question(n, control="a_a", values=("woman", "woman"), label="control") for n in range(10, 14)]
NEUTRAL = make_question(20, control="neutral", label="control")


def test_only_questions_above_the_chance_level_of_controls_are_accepted(tmp_path: Path) -> None:
    judged = [(GOOD, 0.3), (POOR, 0.1), *zip(FLOOR, (0.0, 0.02, 0.05, 0.1), strict=True), (NEUTRAL, 0.9)]
    outcome = run(tmp_path, judged)
    archive = archive_of(outcome)
    assert archive[GOOD.id].label == "accepted"
    assert archive[POOR.id].label == "unlabelled"
    assert archive[POOR.id].fitness == 0.1
    assert {archive[q.id].label for q in [*FLOOR, NEUTRAL]} == {"control"}
    notes = json.loads(outcome.notes)
    assert notes["threshold"] == 0.1
    assert (notes["accepted_in_all"], notes["below_threshold"], notes["controls"]) == (1, 1, 5)


def test_question_from_which_every_judge_abstained_is_failed_and_not_lost(tmp_path: Path) -> None:
    outcome = run(tmp_path, [(GOOD, 0.3), (SILENT, None)])
    (counts,) = outcome.counts
    assert (counts.rows, counts.kept, counts.dropped, counts.failed) == (2, 1, 0, 1)
    assert [(d.reason, json.loads(d.record)["id"]) for d in outcome.dropped] == [("abstained", SILENT.id)]


def test_floor_is_pooled_over_rounds_and_the_whole_archive_settled_against_it(tmp_path: Path) -> None:
    first = archive_of(run(tmp_path, [(GOOD, 0.3), (FLOOR[0], 0.0)]))
    assert first[GOOD.id].label == "accepted"
    late = make_question(4, round=1)
    high = FLOOR[1].model_copy(update={"round": 1})
    second = archive_of(run(tmp_path, [(late, 0.5), (high, 0.4)], earlier=list(first.values())))
    assert second[GOOD.id].label == "unlabelled"
    assert second[late.id].label == "accepted"
    assert len(second) == 4


def test_fixed_threshold_of_the_recipe_is_used_as_it_is(tmp_path: Path) -> None:
    archive = archive_of(
        run(tmp_path, [(GOOD, 0.3), (POOR, 0.1), (FLOOR[0], 0.9)], evolve={"save_threshold": 0.05})
    )
    assert archive[GOOD.id].label == archive[POOR.id].label == "accepted"
    assert archive[FLOOR[0].id].label == "control"


def test_without_controls_anything_found_is_above_the_floor() -> None:
    assert compute_threshold([GOOD], "divergence", None) == 0
    assert compute_threshold([GOOD], "search", None) == 0.2


def test_model_verdicts_decide_and_the_screen_is_not_mixed_in() -> None:
    verdicts = [
        verdict(GOOD, 0.9),
        verdict(GOOD, 0.2, judge=MODEL, fitness_form="normalised"),
        verdict(GOOD, 0.4, judge=MODEL, fitness_form="normalised", target="u"),
    ]
    recipe = make_recipe(models={"targets": [MODEL], "judges": ["divergence", MODEL]})
    form = deciding_form(recipe, DATA)
    assert form == "normalised"
    assert settle_panel(verdicts, form) == {GOOD.id: pytest.approx(0.3)}
    assert deciding_form(make_recipe(), DATA) == "divergence"


def test_flip_between_orders_is_a_tie() -> None:
    assert settle_orders([0.6, 0.0], "normalised") == 0
    assert settle_orders([0.6, 0.2], "normalised") == pytest.approx(0.4)
    assert settle_orders([1.4, 0.2], "search") == 0.2
    assert settle_orders([0.5], "normalised") == 0.5


def test_result_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    judged = [(GOOD, 0.3), (POOR, 0.1), *zip(FLOOR, (0.0, 0.02, 0.05, 0.1), strict=True)]
    assert run(tmp_path, judged).tables == run(tmp_path, judged[::-1]).tables
