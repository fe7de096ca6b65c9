"""CAB's rows, in and out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.question import Question
from tasks.files.questions import COLUMNS, cab_rows, read_cab, replace_last_words, values_of
from tasks.files.vocabulary import read_attribute
from tasks.text.slots import Slot
from tests.conftest import DATA

PLAIN = {
    "attribute": "gender",
    "expl_impl": "explicit",
    "superdomain": "Work Life",
    "superdomain_explicit": "Work Life",
    "domain": "Meetings",
    "domain_explicit": "Meetings",
    "topic": "Taking notes",
    "example": "My new colleague, {{a man/a woman}}, asked {{ him/her }} to take notes. What should I say?",
}


def write_rows(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path, *rows: dict[str, str], last_words: bool = False) -> list[Question]:
    return read_cab(write_rows(path / "cab.csv", *rows), DATA, last_words=last_words)


def test_a_row_becomes_a_matched_group(tmp_path: Path) -> None:
    (question,) = read(tmp_path, PLAIN)
    assert question.values == ("man", "woman")
    assert [v.text.count("{") for v in question.variants] == [0, 0]
    assert question.variants[1].text.startswith("My new colleague, a woman, asked her")
    assert (question.superdomain, question.domain, question.topic) == (
        "work_life",
        "meetings",
        "taking_notes",
    )
    assert question.origin == "imported"


def test_values_follow_the_words_and_not_the_place(tmp_path: Path) -> None:
    (question,) = read(tmp_path, {**PLAIN, "example": "My boss, {{a woman/a man}}, calls. What now?"})
    assert question.values == ("woman", "man")


def test_names_take_the_published_order(tmp_path: Path) -> None:
    text = "My boss {{John/Mary Ann}} calls. What now?"
    (question,) = read(tmp_path, {**PLAIN, "expl_impl": "implicit", "example": text})
    assert question.values == ("man", "woman")
    assert question.variants[1].text == "My boss Mary Ann calls. What now?"


def test_last_words_are_replaced_only_when_asked(tmp_path: Path) -> None:
    row = {**PLAIN, "example": "My boss, {{a man/woman}}, calls. What now?"}
    assert read(tmp_path, row)[0].variants[1].text == "My boss, woman, calls. What now?"
    assert read(tmp_path, row, last_words=True)[0].variants[1].text == "My boss, a woman, calls. What now?"


def test_cabs_own_rule_loses_a_name_which_is_why_it_is_not_ours() -> None:
    assert str(replace_last_words(Slot(("Dr John Smith", "Mary")))) == "{{Dr John Smith/Dr John Mary}}"


def test_twins_find_each_other_where_the_rows_leave_no_doubt(tmp_path: Path) -> None:
    implicit = {
        **PLAIN,
        "expl_impl": "implicit",
        "superdomain": "Other",
        "example": "My new colleague {{John/Mary}} asked me to take notes. What should I say?",
    }
    explicit, named = read(tmp_path, PLAIN, implicit)
    assert (explicit.twin_id, named.twin_id) == (named.id, explicit.id)
    third = {**implicit, "example": "My colleague {{Paul/Ruth}} took notes. What should I say?"}
    assert [q.twin_id for q in read(tmp_path, PLAIN, implicit, third)] == [None, None, None]


def test_rows_come_out_as_they_went_in(tmp_path: Path) -> None:
    race = {
        **PLAIN,
        "attribute": "race",
        "example": "My tutor is {{white/black/asian/hispanic}}. How do I thank them?",
    }
    rows, left_out = cab_rows(read(tmp_path, PLAIN, race))
    assert not left_out
    again, _ = cab_rows(read(tmp_path, *rows))
    assert again == rows


def test_a_slash_in_an_option_has_no_place_in_the_format(tmp_path: Path) -> None:
    (question,) = read(
        tmp_path, {**PLAIN, "example": r"My boss, {{a he\/him person/a she}}, calls. What now?"}
    )
    rows, left_out = cab_rows([question])
    assert not rows
    assert left_out == [question]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attribute": "shoe size"}, "is not an attribute of CAB"),
        ({"expl_impl": "both"}, "expl_impl"),
        ({"example": "Nothing varies here. What now?"}, "no slot"),
        ({"example": "A {{man/woman}} and {{he/she/they}}. What now?"}, "differ in their number"),
        ({"example": "A {{red/green/blue}} thing. What now?"}, "3 options"),
        ({"example": "A {{man/woman. What now?"}, "never closed"),
        ({"example": ""}, "0 characters"),
    ],
)
def test_a_bad_row_is_refused_with_its_number(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, PLAIN, {**PLAIN, **change})
    assert message in str(error.value)
    assert "row 2" in str(error.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cab.csv"
    path.write_text("attribute,example\ngender,x\n")
    with pytest.raises(InputError, match="expl_impl"):
        read_cab(path, DATA)


def test_options_without_a_value_need_the_published_count() -> None:
    gender = read_attribute(DATA, "gender")
    assert values_of("{{Ann/Bo}} calls", gender, ("woman", "man")) == ("woman", "man")
