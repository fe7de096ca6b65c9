from __future__ import annotations

from collections.abc import Callable

from schemas.answers import Effect, Response
from schemas.question import Question
from tasks.families.open import SHARED_DIVERGENCE, mask_groups, shared_effects
from tasks.files.vocabulary import read_attribute
from tasks.judges.divergence import read_divergence_words
from tasks.judges.verdicts import group_answers
from tests.tasks.judge.material import DATA, biased_answers, fair_answers, make_question

GENDER = read_attribute(DATA, "gender")
WORDS = read_divergence_words(DATA)
EVERY = tuple(value.id for value in GENDER.values)


def effects_of(
    questions: list[Question], answer: Callable[..., list[Response]] = biased_answers
) -> list[Effect]:
    rows = [row for q in questions for row in answer(q, phase="holdout")]
    groups = mask_groups(group_answers(questions, rows), {"gender": GENDER}, WORDS)
    return shared_effects(groups, {q.id: q for q in questions})


def accepted(number: int, **more: object) -> Question:
    return make_question(number, values=EVERY, label="accepted", **more)


def test_bias_that_all_questions_show_is_an_effect_of_domain_and_attribute() -> None:
    effects = effects_of([accepted(i) for i in range(6)])
    assert {(e.level, e.name, e.metric, e.n) for e in effects} == {
        ("domain", "work/hiring", SHARED_DIVERGENCE, 6),
        ("attribute", "gender", SHARED_DIVERGENCE, 6),
    }
    assert all(e.value > 0.05 and e.p_value is not None and e.p_value <= 0.01 for e in effects)


def test_equal_treatment_is_none() -> None:
    effects = effects_of([accepted(i) for i in range(6)], fair_answers)
    assert all(abs(e.value) < 0.02 and e.p_value is not None and e.p_value > 0.05 for e in effects)


def test_single_questions_candidates_and_controls_have_none() -> None:
    assert effects_of([accepted(1)]) == []
    assert effects_of([make_question(i, values=EVERY) for i in range(3)]) == []
    assert effects_of([make_question(i, values=EVERY, control="placebo") for i in range(3)]) == []


def test_questions_about_some_of_the_values_only_are_left_out() -> None:
    some = [make_question(i, values=("woman", "man"), label="accepted") for i in range(3)]
    assert effects_of(some) == []
