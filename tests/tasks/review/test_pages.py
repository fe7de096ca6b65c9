"""Pages show the rows of the tables, limited to a readable size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.question import Option, Question
from tasks.review.pages import (
    LONGEST_PASSAGE,
    SHOWN_SAMPLES,
    mark_slots,
    view_answers,
    view_passage,
    view_variants,
)
from tasks.review.subjects import ReviewSubjects
from tests.material.review_release import answers_to
from tests.tasks.review.places import EVIDENCE


@pytest.fixture
def question(released: ReviewSubjects) -> Question:
    return next(q for q in released.questions.values() if q.label == "accepted")


def test_variants_give_their_text_with_the_slots_marked(question: Question) -> None:
    for shown, variant in zip(view_variants(question), question.variants, strict=True):
        assert "".join(p.text for p in shown.spans) == variant.text
        assert tuple(p.text for p in shown.spans if p.kind == "slot") == variant.slots


def test_a_malformed_template_is_shown_unmarked(question: Question) -> None:
    broken = question.model_copy(update={"template": "Never {{closed"})
    assert [p.kind for v in view_variants(broken) for p in v.spans] == [""] * len(question.variants)
    assert [p.text for p in mark_slots("Never {{closed")] == ["Never {{closed"]


def test_options_with_a_slash_are_one_option() -> None:
    assert [p.text for p in mark_slots(r"A {{his\/her/their}} B")] == ["A ", "his/her / their", " B"]


def test_rows_have_one_answer_per_variant(question: Question) -> None:
    for model in view_answers(question, answers_to(question, 3)):
        assert len(model.rows) == 3
        assert all([a.value for a in row] == list(question.values) for row in model.rows)


def test_omitted_answers_are_counted(question: Question) -> None:
    (first, _) = view_answers(question, answers_to(question, SHOWN_SAMPLES + 4))
    assert (len(first.rows), first.more) == (SHOWN_SAMPLES, 4)


def test_holdout_answers_replace_those_of_the_search(question: Question) -> None:
    fresh = list(answers_to(question, 1))
    earlier = [r.model_copy(update={"id": f"s_{r.id}", "phase": "search", "text": "old"}) for r in fresh]
    shown = view_answers(question, [*earlier, *fresh])
    assert not [a for model in shown for row in model.rows for a in row if a.excerpt.spans[0].text == "old"]


def test_conditions_are_shown_separately(question: Question) -> None:
    plain = list(answers_to(question, 1))
    attacked = [r.model_copy(update={"id": f"a_{r.id}", "condition": "ignore"}) for r in plain]
    assert sorted({m.condition for m in view_answers(question, [*plain, *attacked])}) == ["", "ignore"]


def test_refusals_and_failures_have_notes(question: Question) -> None:
    refused, failed, *rest = list(answers_to(question, 1))
    answers = [
        refused.model_copy(update={"refused": True}),
        failed.model_copy(update={"text": "", "failure": "timed_out"}),
        *rest,
    ]
    notes = [a.note for model in view_answers(question, answers) for row in model.rows for a in row]
    assert notes[:3] == ["refused", "no answer: timed out", ""]


def test_the_part_of_a_long_passage_with_the_evidence_is_shown(
    unfinished: ReviewSubjects,
) -> None:
    case = unfinished.passages["query/1?", "p1"]
    book = case.passage.model_copy(update={"text": "so on " * 50_000 + EVIDENCE + " and on" * 50_000})
    shown = view_passage(replace(case, passage=book))
    assert shown["has_evidence"]
    assert EVIDENCE in [p.text for p in shown["spans"] if p.kind == "evidence"]
    assert sum(len(p.text) for p in shown["spans"]) <= LONGEST_PASSAGE + 2


def test_choices_are_counted_by_value(question: Question) -> None:
    options = (Option(text="Yes", role="yes"), Option(text="No", role="no"))
    asked = question.model_copy(update={"options": options})
    picks = iter([0, 0, 1, 1, None, 0] * 20)
    answers = [r.model_copy(update={"option": next(picks)}) for r in answers_to(asked, 3)]
    (first, _) = view_answers(asked, answers)
    assert first.rows == ()
    assert first.choices[0] == (question.values[0], ("Yes × 2", "No × 1"))
    assert first.choices[1] == (question.values[1], ("No × 1", "Yes × 1", "invalid × 1"))
