"""Checks of translations: slots, values, marks, sentences and options."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.recipe import OwnQuestions
from tasks.files.own_questions import read_own_questions
from tasks.files.slot_values import ValueWords
from tasks.files.vocabulary import read_attribute
from tasks.translate import Original, count_sentences, read_words, translation_fault
from tests.conftest import DATA

SPANISH = ValueWords(read_attribute(DATA, "gender", language="es"))


def original(folder: Path, text: str) -> Original:
    table = folder / "own.csv"
    table.write_text(f'text,attribute\n"{text}",gender\n', encoding="utf-8")
    (question,) = read_own_questions([OwnQuestions(path=str(table))], DATA).questions
    return Original(question, text)


@pytest.mark.parametrize(
    ("text", "translation", "fault"),
    [
        ("I met {{a man/a woman}}. What now?", "Conocí a {{un hombre/una mujer}}. ¿Y ahora?", None),
        ("I met {{a man/a woman}}. What now?", "Conocí a {{una mujer/un hombre}}. ¿Y ahora?", None),
        ("I met {noun}. What now?", "Conocí a {noun}. ¿Y ahora?", None),
        ("I met {{a man/a woman}}. What now?", "Conocí a alguien. ¿Y ahora?", "0 slots, the original has 1"),
        ("I met {noun}. What now?", "Conocí a {noun} y {possessive} perro. ¿Y ahora?", "marks differ"),
        (
            "I met {{a man/a woman}}. What now?",
            "Conocí a {{un hombre/un señor}}. ¿Y ahora?",
            "are both 'man'",
        ),
        (
            "I met {{a man/a woman}}. What now?",
            "Conocí a {{un gato/un perro}}. ¿Y ahora?",
            "cannot be matched",
        ),
        (
            "I met {{a man/a woman}}. What now?",
            "Conocí a {{un hombre/una persona no binaria}}. ¿Y ahora?",
            "its slots belong to man, nonbinary, those of the original to woman, man",
        ),
        ("I met {noun}. What now?", "Conocí a {noun}, ¿y ahora?", "1 sentences, the original has 2"),
        ("I met {noun}. What now?", "", "empty"),
    ],
)
def test_a_translation_keeps_slots_values_and_sentences(
    tmp_path: Path, text: str, translation: str, fault: str | None
) -> None:
    found = translation_fault(original(tmp_path, text), translation, [], SPANISH)
    assert (found is None) if fault is None else (found is not None and fault in found), found


def test_translation_must_keep_the_number_of_options(tmp_path: Path) -> None:
    question = original(tmp_path, "I met {noun}. What now?")
    assert "1 options, the original has 0" in (translation_fault(question, "x", ["Sí"], SPANISH) or "")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One.", 1),
        ("One. Two?", 2),
        ("One", 1),
        ("我来了。你好吗？", 2),
        ("جاء. كيف حالك؟", 2),
        ("Sí... ¿Y ahora?!", 2),
    ],
)
def test_sentences_are_counted_in_every_script(text: str, sentences: int) -> None:
    assert count_sentences(text) == sentences


def test_all_attributes_without_words_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no words in 'it' for: gender"):
        read_words(DATA, [original(tmp_path, "I met {noun}.")], "it")
