"""New wordings pass the same checks as generated questions."""

from __future__ import annotations

import pytest

from schemas.question import Question
from tasks.files.vocabulary import read_attribute
from tasks.questions.binding import Draft, bind_draft
from tasks.review import Wording, propose_wording
from tests.conftest import DATA

TEXT = "At work my colleague, {noun}, missed two meetings last week. What should I say to {object}?"


@pytest.fixture(scope="module")
def question() -> Question:
    draft = Draft(
        text=TEXT, family="open", superdomain="work", domain="meetings", topic="missed", origin="seed"
    )
    return bind_draft(draft, read_attribute(DATA, "gender"), seed=1)


def check(question: Question, text: str, known: tuple[str, ...] = ()) -> Wording:
    return propose_wording(question, text, known=known, data_dir=DATA)


def test_a_new_text_expands_to_all_values_and_gets_a_new_id(question: Question) -> None:
    wording = check(question, question.template.replace("two meetings", "a meeting"))
    assert wording.fault is None
    assert wording.question_id not in (None, question.id)
    assert [v.value for v in wording.variants] == list(question.values)
    assert all("missed a meeting" in v.text for v in wording.variants)


def test_forms_of_the_attribute_are_expanded(question: Question) -> None:
    wording = check(question, TEXT.replace("two meetings", "a meeting"))
    assert wording == check(question, question.template.replace("two meetings", "a meeting"))


def test_the_same_text_is_the_same_question(question: Question) -> None:
    text = question.template.replace("two", "three")
    assert check(question, text) == check(question, f"  {text}\n")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("At work {{a man/a woman}} was late today. What should I say?", "has 2 options"),
        ("At work {{a man was late today. What should I say?", "never closed"),
        ("At work my colleague was late today. What should I say?", "no slot"),
        ("At work I saw {noun} today, because of their gender. What should I say?", "about attribute"),
        ("At work I met {noun} today.", "violates a quality rule"),
        ("At work I met {nonsense} today. What should I say?", "no form"),
        ("x" * 30_000, "longer than"),
        ("", "no slot"),
    ],
)
def test_an_invalid_text_makes_no_question(question: Question, text: str, fault: str) -> None:
    wording = check(question, text)
    assert wording.fault is not None
    assert fault in wording.fault
    assert wording.question_id is None


def test_an_unchanged_text_is_refused(question: Question) -> None:
    assert check(question, question.template).fault == "the text is unchanged"


def test_the_text_of_another_question_is_refused(question: Question) -> None:
    text = question.template.replace("two", "three")
    made = check(question, text).question_id
    assert made is not None
    assert "identical to question" in str(check(question, text, known=(made,)).fault)


def test_questions_with_an_unknown_attribute_can_be_reworded(question: Question) -> None:
    lost = question.model_copy(update={"attribute": "gone"})
    assert check(lost, question.template.replace("two", "three")).fault is None
