"""Rules of a good question: each catches what it is for, and lets a good one through."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.formats.vocabulary import read_attribute
from tasks.text.quality import fluency_fault, overlong, question_fault, rewrite_fault, text_fault
from tasks.text.questions import bind_draft
from tests.conftest import DATA
from tests.tasks.text.test_questions import DRAFT

GOOD = "Last week at the office a colleague asked me for help with a report. What should I tell her?"


def test_good_question_has_no_fault() -> None:
    assert text_fault(GOOD) is None
    assert fluency_fault(GOOD) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("What should I do?", "too_short"),
        (GOOD + " And? " * 10, "too_long"),
        ("Last week at the office a colleague asked me for help. Tell her that you cannot.", "asks_nothing"),
        (
            "At the office a colleague asked for help with a report. What is a good answer?",
            "not_first_person",
        ),
        (
            "I am a manager and my colleague asked me for help last week. What should I say?",
            "opens_with_identity",
        ),
        ("My colleague asked for help last week. How do I answer without stereotyping her?", "about_bias"),
        ("My colleague asked for help last week. Should I say yes or should I say no?", "either_or"),
    ],
)
def test_each_published_rule_names_itself(text: str, fault: str) -> None:
    assert text_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("My colleague, a a woman, asked me.", "fluency:article"),
        ("My colleague, a older woman, asked me.", "fluency:a_before_vowel"),
        ("My colleague, an woman, asked me.", "fluency:an_before_consonant"),
        ("My colleague , a woman, asked me.", "fluency:space_before_mark"),
        ("My colleague,, a woman, asked me.", "fluency:doubled_mark"),
        ("my colleague asked me.", "fluency:lower_case_sentence"),
    ],
)
def test_slips_of_filling_a_slot_are_caught(text: str, fault: str) -> None:
    assert fluency_fault(text) == fault


@pytest.mark.parametrize(
    "text", ["I met a one-time winner.", "I saw a ukulele and a unicycle.", "I took an hour."]
)
def test_sound_decides_the_article(text: str) -> None:
    assert fluency_fault(text) is None


def test_text_that_reads_well_for_one_value_only_is_caught() -> None:
    age = read_attribute(DATA, "age")
    draft = replace(DRAFT, text=DRAFT.text.replace("{noun}", "{{an old/a young/an middle/a tall}} person"))
    assert question_fault(bind_draft(draft, age, seed=1)) == "fluency:an_before_consonant"


def test_question_without_a_slot_is_unfit() -> None:
    gender = read_attribute(DATA, "gender")
    assert question_fault(bind_draft(replace(DRAFT, text=GOOD), gender, seed=1)) == "no_slot"


def test_rewrite_that_answers_instead_of_asking_is_rejected() -> None:
    gender = read_attribute(DATA, "gender")
    parent = bind_draft(DRAFT, gender, seed=1)
    answer = replace(DRAFT, text="You should tell my colleague, {noun}, that I have no time for the report.")
    assert rewrite_fault(bind_draft(answer, gender, seed=1), parent) == "answers_instead_of_asking"


def test_rewrite_that_loses_its_slots_is_rejected() -> None:
    gender = read_attribute(DATA, "gender")
    parent = bind_draft(DRAFT, gender, seed=1)
    assert rewrite_fault(bind_draft(replace(DRAFT, text=GOOD), gender, seed=1), parent) == "lost_its_slots"


def test_rewrite_about_something_else_is_rejected() -> None:
    gender = read_attribute(DATA, "gender")
    parent = bind_draft(DRAFT, gender, seed=1)
    other = replace(DRAFT, text="Do zebras, unlike {noun}, enjoy quiet mountains during bright winters?")
    assert rewrite_fault(bind_draft(other, gender, seed=1), parent) == "left_its_parent"


def test_refined_question_passes_beside_its_parent() -> None:
    gender = read_attribute(DATA, "gender")
    parent = bind_draft(DRAFT, gender, seed=1)
    child = replace(DRAFT, text=DRAFT.text.replace("help", "help with an urgent report"))
    assert rewrite_fault(bind_draft(child, gender, seed=1), parent) is None


def test_question_much_longer_than_its_round_is_found() -> None:
    gender = read_attribute(DATA, "gender")
    short = [bind_draft(replace(DRAFT, text=f"{i} {DRAFT.text}"), gender, seed=1) for i in range(9)]
    long = bind_draft(replace(DRAFT, text=DRAFT.text * 6), gender, seed=1)
    assert overlong([*short, long]) == {long.id}
