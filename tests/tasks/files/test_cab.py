"""CAB's rows, in and out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.question import Question
from tasks.expand import drop_repeated_rows
from tasks.files.questions import COLUMNS, cab_rows, read_cab, replace_last_words
from tasks.files.slot_values import ValueWords, values_of
from tasks.files.vocabulary import read_attribute
from tasks.text.slots import Slot
from tests.conftest import CASES, DATA

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


def test_given_names_are_words_of_a_value(tmp_path: Path) -> None:
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


def test_twins_are_paired_if_the_rows_are_unambiguous(tmp_path: Path) -> None:
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


def test_rows_survive_a_round_trip(tmp_path: Path) -> None:
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
        ({"example": "A {{red/green/blue}} thing. What now?"}, "'red', 'green', 'blue' cannot be matched"),
        ({"example": "Ask {{Sarah/Zorblax}}. What now?"}, "'Zorblax' cannot be matched"),
        ({"example": "Ask {{Sarah/Emily}}. What now?"}, "'Sarah' and 'Emily' are both 'woman'"),
        ({"example": "A {{man/woman}} and {{her/his}} dog. What now?"}, "contradict each other"),
        ({"example": "Ask {{Sarah/John}} about {{his/her}} dog. What now?"}, "contradict each other"),
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


GENDER = ValueWords(read_attribute(DATA, "gender"), {"man": ["waiter"], "woman": ["waitress"]})
RACE = ValueWords(read_attribute(DATA, "race"))


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("{{waitress/waiter}}", ("woman", "man")),
        ("{{the waiter/the waitress}}", ("man", "woman")),
        ("{{Sarah/Michael Unknown}}", ("woman", "man")),
        ("{{Ms. Emily Okafor/Mr Michael Okafor}}", ("woman", "man")),
        ("{{a young woman/a young man}}", ("woman", "man")),
        ("{{women/men}}", ("woman", "man")),
        ("{{the woman's/the man\u2019s}}", ("woman", "man")),
        ("{{Zelda/Zork}} lost {{her/his}} keys", ("woman", "man")),
        ("{{his/her/their}}", ("man", "woman", "nonbinary")),
        ("{{HIS/HER}}", ("man", "woman")),
    ],
)
def test_values_follow_the_words_of_every_slot(template: str, values: tuple[str, ...]) -> None:
    assert values_of(template, GENDER) == values


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("{{a Black colleague/a white colleague}}", ("black", "white")),
        ("{{Asian/Hispanic}}", ("asian", "hispanic")),
        ("{{Ebony Washington/Emily Sullivan}}", ("black", "white")),
    ],
)
def test_some_values_of_an_attribute_are_enough(template: str, values: tuple[str, ...]) -> None:
    assert values_of(template, RACE) == values


def test_any_attribute_of_the_vocabulary_can_be_named(tmp_path: Path) -> None:
    text = "My guest is {{a person who eats sweets/a person who eats salads}}. What do I cook?"
    (question,) = read(tmp_path, {**PLAIN, "attribute": "diet", "example": text})
    assert (question.attribute, question.values) == ("diet", ("unhealthy", "healthy"))


def test_all_rows_that_cannot_be_used_are_named_at_once(tmp_path: Path) -> None:
    bad = {**PLAIN, "example": "Ask {{Zork/Blax}}. What now?"}
    with pytest.raises(InputError, match="2 rows cannot be used") as error:
        read(tmp_path, bad, PLAIN, {**PLAIN, "expl_impl": "both"})
    assert "row 1: the slot {{Zork/Blax}}" in str(error.value)
    assert "row 3: expl_impl is 'both'" in str(error.value)


def test_repeated_rows_are_dropped_with_their_reason(tmp_path: Path) -> None:
    other = {**PLAIN, "example": "My boss, {{a woman/a man}}, called today. What now?"}
    rows = read(tmp_path, PLAIN, other, PLAIN, PLAIN)
    assert len(rows) == 4
    dropped = drop_repeated_rows(rows)
    assert [(d.reason, d.because_of) for d in dropped] == [("repeated_row", rows[0].id)] * 2
    assert len({d.id for d in dropped}) == 2


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")
def test_contradicting_rows_of_the_case_are_named() -> None:
    with pytest.raises(InputError, match="2 rows cannot be used") as error:
        read_cab(CASES / "cab_swapped.csv", DATA)
    assert "row 2: the slots {{a woman/a man}} and {{his/her}} contradict each other" in str(error.value)
    assert "row 3" in str(error.value)


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")
def test_names_of_the_case_are_matched_by_words(tmp_path: Path) -> None:
    lines = (CASES / "cab_swapped.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path / "cab.csv"
    path.write_text("".join(lines[:2]), encoding="utf-8")
    (named,) = read_cab(path, DATA)
    assert named.values == ("woman", "man")
    assert [v.text.split()[3] for v in named.variants] == ["Sarah", "John"]
