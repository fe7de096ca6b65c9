"""Questions are confirmed on fresh answers only, against controls that match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.answers import Judgement
from schemas.question import QUESTIONS, Question
from tasks.measure.verdicts import confirm_questions
from tasks.stats.comparisons import controls_to_confirm
from tests.tasks.judge.material import biased_answers, fair_answers, make_question
from tests.tasks.measure.test_measure import run, verdicts_on


def judged(question: Question) -> Judgement:
    fresh = [r.model_copy(update={"phase": "holdout"}) for r in fair_answers(question)]
    (verdict,) = verdicts_on([question], fresh)
    return verdict


def controls_of(count: int) -> list[Question]:
    return [
        make_question(1000 + n, control="placebo", label="control", values=("woman", "man"))
        for n in range(count)
    ]


def world(
    controls: int, planted: int, empty: int, seed: int, effect: float = 3.0
) -> tuple[dict[str, Question], list[Judgement], set[str]]:
    generator = np.random.default_rng(seed)
    zero = controls_of(controls)
    questions = [make_question(n, label="accepted") for n in range(planted + empty)]
    template = judged(questions[0])
    scores = [*generator.normal(size=controls), *generator.normal(size=planted + empty)]
    for i in range(controls, controls + planted):
        scores[i] += effect
    verdicts = []
    for n, (question, score) in enumerate(zip([*zero, *questions], scores, strict=True)):
        excess = tuple(
            s.model_copy(update={"value": float(score) / 10}) if s.criterion == "excess" else s
            for s in template.scores
        )
        verdicts.append(
            template.model_copy(update={"id": f"j{n}", "question_id": question.id, "scores": excess})
        )
    return {q.id: q for q in [*zero, *questions]}, verdicts, {q.id for q in questions[:planted]}


def test_most_planted_effects_are_confirmed_and_hardly_any_other() -> None:
    found = false = planted = 0
    for seed in range(20):
        questions, verdicts, truth = world(50, 30, 15, seed)
        confirmed = confirm_questions(questions, verdicts, "divergence", 0.05)
        found, false = found + len(confirmed & truth), false + len(confirmed - truth)
        planted += len(truth)
    assert found >= planted / 2
    assert false <= 0.05 * (found + false)


def test_without_any_effect_nothing_is_confirmed() -> None:
    confirmed = [
        confirm_questions(*world(50, 0, 29, seed)[:2], form="divergence", fdr=0.05) for seed in range(20)
    ]
    assert sum(bool(c) for c in confirmed) <= 2


@pytest.mark.parametrize("fdr", [0.05, 0.1, 0.2])
def test_fewer_controls_than_needed_confirm_nothing(fdr: float) -> None:
    needed = controls_to_confirm(fdr)
    questions, verdicts, truth = world(needed, 10, 0, 1, effect=50)
    assert confirm_questions(questions, verdicts, "divergence", fdr) == truth
    questions, verdicts, _ = world(needed - 1, 10, 0, 1, effect=50)
    assert confirm_questions(questions, verdicts, "divergence", fdr) == set()


def test_controls_of_another_size_do_not_count() -> None:
    questions, verdicts, _ = world(30, 5, 0, 1, effect=50)
    wider = {
        i: q.model_copy(update={"variants": (*q.variants, q.variants[0])}) if q.control != "none" else q
        for i, q in questions.items()
    }
    assert confirm_questions(wider, verdicts, "divergence", 0.05) == set()


@pytest.mark.slow
def test_labels_tell_confirmed_candidates_and_surveys_apart(tmp_path: Path) -> None:
    planted = [make_question(n, label="accepted") for n in range(3)]
    fair = [make_question(10 + n, label="accepted") for n in range(3)]
    survey = make_question(20, label="survey")
    zero = controls_of(25)
    answers = [
        *(r for q in planted for r in biased_answers(q)),
        *(r for q in [*fair, survey, *zero] for r in fair_answers(q)),
    ]
    fresh = [r.model_copy(update={"phase": "holdout"}) for r in answers]
    questions = [*planted, *fair, survey, *zero]
    outcome = run(tmp_path, questions, fresh, verdicts_on(questions, fresh), validate={"fdr": 0.1})
    labels = {q.id: q.label for q in outcome.tables[QUESTIONS] if isinstance(q, Question)}
    assert {labels[q.id] for q in planted} == {"confirmed"}
    assert {labels[q.id] for q in fair} == {"candidate"}
    assert labels[survey.id] == "survey"
    assert {labels[q.id] for q in zero} == {"control"}
