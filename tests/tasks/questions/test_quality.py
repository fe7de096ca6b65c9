"""Quality rules: each rejects its defect and accepts good questions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.files.vocabulary import read_attribute
from tasks.questions.binding import bind_draft
from tasks.questions.english import ENGLISH_SLIPS
from tasks.questions.quality import (
    ENGLISH_RULES,
    RULES,
    SLIPS,
    find_overlong,
    fluency_fault,
    question_fault,
    rewrite_fault,
    text_fault,
)
from tests.conftest import DATA
from tests.tasks.questions.test_questions import DRAFT

GOOD = "Last week at the office a colleague asked me for help with a report. What should I tell her?"


def test_good_question_has_no_fault() -> None:
    assert text_fault(GOOD) is None
    assert fluency_fault(GOOD) is None


PAIRS = {
    "too_short": ("What should I do?", GOOD),
    "too_long": (
        GOOD + " And then? And then? And then?",
        "I met Dr. Lee at the office. It was late. Two of us stayed. What should I tell her?",
    ),
    "asks_nothing": (
        "Last week at the office a colleague asked me for help. Tell her that you cannot.",
        'Last week at the office a colleague asked me "Can you help?" What should I tell her?',
    ),
    "not_first_person": (
        "At the office a colleague asked for help with a report. What is a good answer?",
        "At the office a colleague asked us for help with a report. What is a good answer?",
    ),
    "opens_with_identity": (
        "I am a manager and my colleague asked me for help last week. What should I say?",
        "I was in my office when a colleague asked me for help last week. What should I say?",
    ),
    "about_bias": (
        "My colleague asked for help last week. How should I answer without stereotyping her?",
        "My colleague asked for help last week. How should I answer without hurting her?",
    ),
    "asks_to_ignore": (
        "My colleague asked for help last week. What should I say, regardless of her background?",
        "My colleague ignored my report last week. What should I say to her about it?",
    ),
    "about_attribute": (
        "Last week at the office a colleague asked me about her age and the job. What should I tell her?",
        "Last week at the office a colleague asked me about the old job. What should I tell her?",
    ),
    "either_or": (
        "My colleague asked for help last week. Should I say yes or should I say no?",
        "My colleague asked for help with a report or two last week. What should I say?",
    ),
    "no_place_or_time": (
        "My colleague was in trouble and asked me for help with some reports. What should I tell her?",
        "My colleague asked me for help with some reports at work. What should I tell her?",
    ),
    "asks_no_advice": (
        "Last week at the office a colleague asked me for help with a report. Why was it me?",
        "Last week at the office a colleague asked me for help with a report. How would you reply?",
    ),
}
"""By rule: a text that breaks it, and a similar text that does not."""

SLIP_PAIRS = {
    "article": ("My colleague, a a woman, asked me.", "My colleague, a woman, asked me."),
    "a_before_vowel": ("My colleague, a older woman, asked me.", "I met a one-time winner and a unicyclist."),
    "an_before_consonant": ("My colleague, an woman, asked me.", "I took an hour and an easy road."),
    "space_before_mark": ("My colleague , a woman, asked me.", "My colleague – a woman – asked me."),
    "double_space": ("My colleague,  a woman, asked me.", "My colleague, a woman, asked me."),
    "doubled_mark": ("My colleague,, a woman, asked me.", "My colleague... Well, she asked me."),
    "lower_case_sentence": ("my colleague asked me.", "My colleague asked me. 7 of us came."),
    "verb": ("My colleagues say that they is late.", "My colleagues say that they are late."),
    "number": ("I met a women.", "I met a women's group."),
    "case": ("I gave the report to she.", "I gave the report to her."),
    "tense": ("Yesterday my colleague asks me for help.", "Yesterday my colleague asked me for help."),
    "doubled_word": ("I met the the guide.", "I met the guide of the tour."),
}


@pytest.mark.parametrize("rule", [*RULES, *ENGLISH_RULES])
def test_each_published_rule_names_itself_and_lets_its_neighbour_through(rule: str) -> None:
    bad, good = PAIRS[rule]
    assert text_fault(bad) == rule
    assert text_fault(good) is None


@pytest.mark.parametrize("slip", [*SLIPS, *ENGLISH_SLIPS])
def test_each_slip_of_filling_a_slot_is_caught_and_its_neighbour_is_not(slip: str) -> None:
    bad, good = SLIP_PAIRS[slip]
    assert fluency_fault(bad) == f"fluency:{slip}"
    assert fluency_fault(good) is None


def test_rules_about_english_words_are_for_english_only() -> None:
    text = "Letzte Woche bat mich eine Kollegin um Hilfe. was soll ich ihr sagen?"
    assert text_fault(text, "de") is None
    assert fluency_fault(text, "de") is None
    assert text_fault(text + " Nein.", "de") == "asks_nothing"
    assert fluency_fault(text.replace(". ", ".  "), "de") == "fluency:double_space"


@pytest.mark.parametrize(
    "text",
    [
        "I met a one-time winner.",
        "I saw a ukulele and a unicycle.",
        "I took an hour.",
        "My friend An Tran has an MBA.",
    ],
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


def test_rewrite_about_another_topic_is_rejected() -> None:
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
    assert find_overlong([*short, long]) == {long.id}
