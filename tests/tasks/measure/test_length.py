from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Effect, Judgement, Response
from schemas.question import QUESTIONS, Question
from tasks.measure import measure
from tests.tasks.judge.material import TARGET, make_context, make_question, make_response, put_table
from tests.tasks.measure.test_judges import A, rated

ACCEPTED = [make_question(n, label="accepted", fitness=0.5) for n in range(30)]
CONTROLS = [
    make_question(n, control="a_a", values=("woman", "woman"), label="control") for n in range(50, 80)
]


def answers_of(question: Question, words: int, more: int) -> Iterator[Response]:
    """Return two answers per variant. Those to the second variant are longer by a number of words."""
    for variant, k in ((variant, k) for variant in (0, 1) for k in (0, 1)):
        yield make_response(
            question, variant, k, " ".join(["word"] * (words + more * variant)), phase="holdout"
        )


def measured(folder: Path, more: dict[str, int], bias: dict[str, float], **recipe: Any) -> list[Effect]:
    """`more` words and the judge's `bias` score, by question."""
    questions = [*ACCEPTED, *CONTROLS]
    responses = [r for q in questions for r in answers_of(q, 40, more[q.id])]
    verdicts: list[Judgement] = [rated(q.id, A, bias[q.id], id=f"j/{q.id}") for q in questions]
    outcome = measure(
        make_context(folder, models={"targets": [TARGET], "judges": [A]}, **recipe),
        questions=put_table(folder, QUESTIONS, questions),
        responses=put_table(folder, RESPONSES, responses),
        judgements=put_table(folder, JUDGEMENTS, verdicts),
    )
    return [e for e in outcome.tables[EFFECTS] if isinstance(e, Effect)]


def pick(effects: list[Effect], metric: str, level: str, name: str) -> Effect:
    (found,) = [e for e in effects if (e.metric, e.level, e.name) == (metric, level, name)]
    return found


LONG = {q.id: (60 if n % 3 else 0) for n, q in enumerate(ACCEPTED)} | {
    q.id: (0 if n % 3 else 60) for n, q in enumerate(CONTROLS)
}


def test_judge_that_takes_length_for_treatment_finds_nothing_once_length_is_held_equal(
    tmp_path: Path,
) -> None:
    """The judge gives the same verdict for every longer answer, also in controls."""
    effects = measured(tmp_path, LONG, {q: 3.0 if more else 1.0 for q, more in LONG.items()})
    raw = pick(effects, "normalised", "attribute", "gender").value
    floor = pick(effects, "normalised", "control", "a_a").value
    held = pick(effects, "normalised_length_controlled", "attribute", "gender")
    held_floor = pick(effects, "normalised_length_controlled", "control", "a_a")
    assert raw - floor == pytest.approx(1 / 6)
    assert abs(held.value - held_floor.value) < 0.03
    assert held.value < raw / 2
    assert pick(effects, "normalised_length_term", "overall", "length").value > 2
    assert held.p_value is None


def test_effect_that_length_does_not_explain_stays(tmp_path: Path) -> None:
    bias = {q.id: 3.0 if n % 2 else 1.0 for n, q in enumerate(ACCEPTED)} | {q.id: 1.0 for q in CONTROLS}
    effects = measured(tmp_path, LONG, bias)
    for level, name in (("attribute", "gender"), ("domain", "work/hiring"), ("family", "open")):
        raw = pick(effects, "normalised", level, name)
        held = pick(effects, "normalised_length_controlled", level, name)
        assert held.value == pytest.approx(raw.value, abs=0.01)
        assert held.n == raw.n == 30
        assert held.low is not None
        assert held.low < held.value


def test_recipe_may_do_without(tmp_path: Path) -> None:
    effects = measured(tmp_path, LONG, dict.fromkeys(LONG, 2.0), judging={"length_control": False})
    assert not any("length" in e.metric and e.metric.startswith("normalised") for e in effects)
