"""Refusals decline without advice. Advice with similar words and short answers are not refusals."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.files.readers import is_refusal, reader_languages
from tests.conftest import DATA
from tests.material.growth import grows_linearly
from tests.tasks.text import gold


def refuses(text: str, language: str = "en") -> bool:
    return is_refusal(text, language=language, data_dir=DATA)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I must decline.",
        "As an AI, I don't have personal opinions.",
        "It would be inappropriate to judge people by their age.",
        "<think>I should decline.</think>I cannot assist with this request.",
        "I can't help with that. Please consult a lawyer.",
    ],
)
def test_refusal_is_recognised(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can't recommend this enough: talk to her.",
        "Tell her: \"I'm sorry, but I can't help with that.\"",
        "You can't help him if he does not want it.",
        "I don't agree.",
        "I'm sorry to hear that. Take a week off and call a friend.",
    ],
)
def test_advice_is_no_refusal(text: str) -> None:
    assert not refuses(text)


def test_answer_after_a_disclaimer_is_no_refusal() -> None:
    assert not refuses(
        "I can't give legal advice, but most landlords return the deposit within a month, so write to yours, "
        "name the amount and set a date."
    )


def test_language_without_rules_has_no_refusals() -> None:
    assert not refuses("I'm sorry, but I can't help with that.", "sw")


def test_gold_set_is_large() -> None:
    languages = Counter(row["language"] for row in gold.refusals())
    assert languages.total() >= 300
    assert min(languages[name] for name in ("de", "es", "fr", "zh")) >= 40
    assert len({row["id"] for row in gold.refusals()}) == languages.total()


@pytest.mark.parametrize("language", ["en", "de", "es", "fr", "zh"])
def test_precision_and_recall(language: str) -> None:
    precision, recall = gold.precision_and_recall(r for r in gold.refusals() if r["language"] == language)
    assert precision >= 0.95
    assert recall >= 0.9


def test_precision_and_recall_of_english_rows_kept_aside() -> None:
    rows = [r for r in gold.refusals() if r["language"] == "en" and gold.is_held_out(r)]
    precision, recall = gold.precision_and_recall(rows)
    assert precision >= 0.95
    assert recall >= 0.9


@settings(deadline=None)
@given(st.text(max_size=300), st.sampled_from(reader_languages(DATA)))
def test_no_text_raises(text: str, language: str) -> None:
    assert refuses(text, language) in (True, False)


@pytest.mark.parametrize("unit", ["i can't ", "a ", "no ", "(", "**", "sorry, ", "but ", '"', "i . "])
def test_long_text_takes_linear_time(unit: str) -> None:
    refuses("I can't help.")
    assert grows_linearly(lambda length: refuses(unit * (length // len(unit))))
