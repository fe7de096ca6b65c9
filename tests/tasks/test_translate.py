"""Checks of translations: slots, values, marks, sentences and options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError, ModelError
from schemas.recipe import OwnQuestions
from tasks.files.own_questions import read_own_questions
from tasks.files.slot_values import ValueWords
from tasks.files.vocabulary import read_attribute
from tasks.translate import Original, count_sentences, read_words, translate, translation_fault
from tests.conftest import DATA
from tests.servers.openai_server import Body, Fault, Messages, OpenAIServer, message, status
from tests.tasks.judge.material import TARGET, make_context

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


def translate_all(
    folder: Path,
    answer: Callable[[Messages, Body], Any],
    fault: Callable[[int, Body], Fault | None] = lambda number, body: None,
) -> tuple[list[Any], list[Any]]:
    """Translate four questions to Spanish with a scripted model."""
    table = folder / "own.csv"
    texts = [f"Yesterday I met {{{{a man/a woman}}}} in house {n}. What now?" for n in range(4)]
    table.write_text("text,attribute\n" + "".join(f'"{t}",gender\n' for t in texts), encoding="utf-8")
    questions = read_own_questions([OwnQuestions(path=str(table))], DATA).questions
    originals = [Original(question, text) for question, text in zip(questions, texts, strict=True)]
    with OpenAIServer(answer, faults=fault) as server:
        name = server.model("writer")
        context = make_context(
            folder,
            models={"targets": [TARGET], "judges": [name]},
            budget={"free": [name]},
            limits={"attempts": 1},
        )
        return translate(context, originals, "es", name, 0.0)


def same_text(messages: Messages, body: Body) -> dict[str, Any]:
    """Translate every question to the same text."""
    if "Conoc" in messages[-1]["content"]:
        return {"text": "Yesterday I met a man. What now?"}
    return {"text": "Conocí a {{un hombre/una mujer}}. ¿Y ahora?", "options": []}


def test_of_equal_translations_only_the_first_is_used(tmp_path: Path) -> None:
    done, rejected = translate_all(tmp_path, same_text)
    assert len(done) == 1
    assert [r.reason for r in rejected] == [
        f"it is the same text as the translation of {done[0].original.id}"
    ] * 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(404, message="the model `gone` does not exist"), "does not exist"),
        (status(402, message="insufficient credit, please top up"), "insufficient credit"),
        (message(content=""), "empty"),
        (message(content="", reasoning_content="Let me think."), "reasoning"),
        (message(content='{"text": "Cono', finish_reason="length"), "truncated"),
        (message(content="I would rather not translate this."), "unparsable"),
        (message(content='{"text": "", "options": []}'), "empty"),
    ],
    ids=["404", "402", "empty", "reasoning only", "truncated", "no JSON", "empty text"],
)
def test_a_model_that_does_not_translate_stops_the_command(tmp_path: Path, fault: Fault, words: str) -> None:
    with pytest.raises(ModelError) as stopped:
        translate_all(tmp_path, same_text, lambda number, body: fault)
    shown = f"{stopped.value.message} {stopped.value.place}"
    assert words in shown
    assert stopped.value.exit_code == 5
