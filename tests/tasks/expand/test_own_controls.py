"""Own questions have placebo controls if their slots hold words that the irrelevant attribute also has."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from schemas.question import Question
from schemas.recipe import OwnQuestions, Recipe
from tasks.expand import complete_families, expand_family
from tasks.files.own_questions import read_own_questions
from tasks.text.slots import parse_slots
from tests.conftest import DATA


def controls_of(folder: Path, rows: list[tuple[str, str, str]], family: str = "open") -> list[Question]:
    path = folder / "own.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "attribute", "language"])
        writer.writerows(rows)
    sources = (OwnQuestions(path=str(path), family=family),)
    recipe = Recipe.model_validate(
        {
            "name": "mine",
            "models": {"targets": ["openai:a"]},
            "questions": [sources[0].model_dump(exclude_none=True)],
            "controls": {"a_a": 0, "placebo": 1, "neutral": 0},
        }
    )
    table = read_own_questions(sources, DATA)
    questions = expand_family(complete_families(recipe, table), DATA, family, table)
    return [q for q in questions if q.control != "none"]


@pytest.mark.parametrize(
    ("text", "attribute", "language", "expected"),
    [
        ("My boss, {noun}, is late. What now?", "gender", "en", "a person whose library card ends in"),
        ("{Noun} is late. What now?", "gender", "en", "A person whose library card ends in"),
        ("I met {{a woman/a man}}. What now?", "gender", "en", "a person whose library card ends in"),
        ("Are {noun_plural} late?", "migration", "en", "people whose library cards end in"),
        ("Mi vecina, {noun}, llega tarde. ¿Qué hago?", "migration", "es", "una persona cuyo carné"),
        ("Ma voisine, {noun}, est en retard. Que faire ?", "migration", "fr", "une personne dont la carte"),
    ],
)
def test_a_placebo_replaces_every_word_of_the_values(
    tmp_path: Path, text: str, attribute: str, language: str, expected: str
) -> None:
    (control,) = controls_of(tmp_path, [(text, attribute, language)])
    assert (control.control, control.label, control.language) == ("placebo", "control", language)
    assert control.attribute.startswith("placebo")
    assert len(set(control.values)) == len(control.values) > 1
    assert all(expected in variant.text for variant in control.variants)
    assert len({variant.text for variant in control.variants}) == len(control.variants)
    (slot,) = [part for part in parse_slots(control.template) if not isinstance(part, str)]
    assert all(expected in option for option in slot.options)


@pytest.mark.parametrize(
    "text",
    [
        "My boss, {noun}, is late with {possessive} work. What now?",  # nobody has a placebo's pronoun
        "My {{waitress/waiter}} is late. What now?",
        "{{John/Mary}} is late. What now?",
    ],
)
def test_a_text_with_other_words_has_no_placebo(tmp_path: Path, text: str) -> None:
    assert controls_of(tmp_path, [(text, "gender", "en")]) == []


def test_the_share_is_drawn_and_the_draw_is_stable(tmp_path: Path) -> None:
    rows = [(f"My boss, {{noun}}, is late on day {n}. What now?", "gender", "en") for n in range(7)]
    first = controls_of(tmp_path, rows)
    assert len(first) == 7
    assert controls_of(tmp_path, list(reversed(rows))) == first
