"""Attribute files of a user are found beside the vocabulary, and only theirs travel in a release."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.recipe import OwnQuestions
from tasks.files.own_questions import read_own_questions
from tasks.files.own_vocabulary import overlay_attributes, own_attribute_files
from tasks.files.vocabulary import read_attribute, read_question_attributes
from tests.conftest import DATA, PROJECT

STUDY = PROJECT / "tests" / "material" / "study"
NAME = "migration_background"


def test_files_of_the_user_are_found_and_win(tmp_path: Path) -> None:
    own = tmp_path / "attributes"
    own.mkdir()
    text = (DATA / "attributes" / "gender.yaml").read_text(encoding="utf-8")
    (own / "gender.yaml").write_text(text.replace("title: Gender", "title: Mine", 1), encoding="utf-8")
    combined = overlay_attributes(DATA, [own, STUDY / "attributes"], tmp_path / "cache")
    assert read_attribute(combined, "gender").title == "Mine"
    assert read_attribute(combined, NAME, language="es").value("refugee").title == "Refugiada"
    assert read_attribute(combined, "age").title == read_attribute(DATA, "age").title
    assert (combined / "prompts" / "judge_comparative.md").is_file()
    assert overlay_attributes(DATA, [own, STUDY / "attributes"], tmp_path / "cache") == combined


def test_without_files_the_vocabulary_is_used_as_it_is(tmp_path: Path) -> None:
    assert overlay_attributes(DATA, [tmp_path / "nowhere", DATA / "attributes"], tmp_path / "cache") == DATA


def test_links_and_other_files_are_left_out(tmp_path: Path) -> None:
    own = tmp_path / "attributes"
    (own / "notes").mkdir(parents=True)
    (own / "notes" / "deep.yaml").write_text("id: deep\n", encoding="utf-8")
    (own / "linked.yaml").symlink_to(STUDY / "attributes" / f"{NAME}.yaml")
    assert overlay_attributes(DATA, [own], tmp_path / "cache") == DATA


def test_only_files_that_are_not_shipped_travel_with_questions(tmp_path: Path) -> None:
    combined = overlay_attributes(DATA, [STUDY / "attributes"], tmp_path / "cache")
    table = tmp_path / "own.csv"
    table.write_text(f"text,attribute\nI met {{noun}}.,{NAME}\nI met {{noun}}.,gender\n", encoding="utf-8")
    questions = read_own_questions([OwnQuestions(path=str(table))], combined).questions
    assert list(own_attribute_files(combined, questions)) == [f"es/{NAME}.yaml", f"{NAME}.yaml"]


def test_answers_in_a_language_are_masked_with_its_words(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text("text,attribute,language\nLlama {noun}.,gender,es\n", encoding="utf-8")
    questions = read_own_questions([OwnQuestions(path=str(table))], DATA).questions
    woman = read_question_attributes(DATA, questions)["gender"].value("woman")
    assert {"a woman", "una mujer"} <= set(woman.forms["noun"])


def test_a_file_in_a_folder_of_a_language_has_that_language_and_the_same_values(tmp_path: Path) -> None:
    own = tmp_path / "attributes" / "es"
    own.mkdir(parents=True)
    text = (DATA / "attributes" / "es" / "gender.yaml").read_text(encoding="utf-8")
    (own / "gender.yaml").write_text(text.replace("id: woman", "id: mujer"), encoding="utf-8")
    combined = overlay_attributes(DATA, [own.parent], tmp_path / "cache")
    with pytest.raises(InputError, match="unknown value of gender"):
        read_attribute(combined, "gender", language="es")
    (own / "gender.yaml").write_text(text.replace("language: es", "language: fr"), encoding="utf-8")
    combined = overlay_attributes(DATA, [own.parent], tmp_path / "cache")
    with pytest.raises(InputError, match="the language is 'fr', but the folder is 'es'"):
        read_attribute(combined, "gender", language="es")
