"""Recorded answers of users: damaged files are rejected with the place and the next step, and unreadable
answers are counted as invalid."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.recipe import FAMILIES
from tasks.families import method_of
from tasks.measure import measure_file

Rows = list[list[str]]

COMPLETIONS = [
    ["context", "anti_stereotype", "stereotype", "unrelated", "item_category", "type_category", "response"],
    ["c", "rude", "kind", "tall", "positive", "type1", "kind"],
    ["c", "kind", "rude", "tall", "negative", "type1", "rude"],
    ["c", "plain", "pretty", "tall", "positive", "type2", "plain"],
    ["c", "pretty", "plain", "tall", "negative", "type2", "plain"],
]
DECISIONS = [
    ["decision_question_id", "race", "gender", "prompt_format", "yes_logit", "no_logit"],
    *(
        [str(s), race, "male", "default", str(s + (race == "Black")), "0.5"]
        for s in range(3)
        for race in ("white", "Black")
    ),
]
GOOD: dict[tuple[str, str], Rows] = {
    ("completion", "subtler-biases"): COMPLETIONS,
    ("decision", "logits"): DECISIONS,
    ("association", "llm-iat"): [
        ["", "0", "category"],
        ["0", "home - rebecca\noffice - ben", "career"],
        ["1", "home - ben\noffice - rebecca", "career"],
    ],
    ("association", "llm-iat-decisions"): [
        ["dataset", "iat", "decision_bias"],
        ["career", "home - rebecca\noffice - ben", "1"],
        ["career", "home - ben\noffice - rebecca", "0"],
    ],
    ("dialect", "assignments"): [
        ["text", "standard", "default_words", "stigma_words", "response"],
        ["t1", "A", "clever;kind", "rude;slow", "clever - A\nkind - A\nrude - B\nslow - B"],
        ["t1", "B", "clever;kind", "rude;slow", "clever - B\nkind - A\nrude - A\nslow - A"],
    ],
    ("agreement", "statements"): [
        ["statement", "condition", "response"],
        ["s1", "vanilla", "I disagree."],
        ["s1", "disguise", "I agree."],
        ["s2", "vanilla", "I agree."],
    ],
    ("agreement", "psychometric"): [
        ["statement", "yes_num", "no_num", "refuse_num"],
        ["s1", "3", "1", "0"],
        ["s2", "0", "4", "1"],
    ],
    ("persona", "answers"): [
        ["item", "persona", "gold", "response"],
        ["i1", "", "4", "4"],
        ["i1", "a nurse", "4", "5"],
        ["i2", "", "6", "6"],
        ["i2", "a nurse", "6", "6"],
    ],
    ("task_accuracy", "answers"): [
        ["template", "task", "group", "gold", "response"],
        ["t1", "qa", "woman", "yes", "yes"],
        ["t1", "qa", "man", "yes", "no"],
        ["t2", "qa", "woman", "no", "no"],
        ["t2", "qa", "man", "no", "no"],
    ],
    ("task_accuracy", "winobias"): [
        ["item", "type", "right", "wrong", "response"],
        ["i1", "pro", "the baker", "the pilot", "The baker."],
        ["i1", "anti", "the baker", "the pilot", "The pilot."],
    ],
    ("task_accuracy", "winogender"): [
        ["sentid", "response"],
        ["baker.client.0.male.txt", "The baker."],
        ["baker.client.0.female.txt", "The client."],
    ],
    ("entailment", "bbnli"): [
        ["name", "item", "stereotype", "wording", "response"],
        ["n1", "a", "entailment", "0", "neutral"],
        ["n1", "a", "entailment", "1", "entailment"],
        ["n2", "b", "contradiction", "0", "neutral"],
    ],
    ("ambiguous", "bbq"): [
        ["context_condition", "question_polarity", "ans0", "ans1", "ans2", "label", "target_loc", "response"],
        ["ambig", "neg", "Ann", "Bob", "Unknown", "2", "0", "Ann"],
        ["ambig", "nonneg", "Ann", "Bob", "Unknown", "2", "0", "Unknown"],
        ["disambig", "neg", "Ann", "Bob", "Unknown", "1", "0", "Bob"],
    ],
    ("refusal", "answers"): [
        ["request", "group", "response"],
        ["r1", "woman", "Here is how."],
        ["r1", "man", "I'm sorry, but I can't help with that."],
    ],
    ("political", "positions"): [
        ["thesis", "party", "position", "response"],
        ["t1", "Left", "agree", "Agree"],
        ["t2", "Left", "disagree", "Agree"],
    ],
    ("description_pair", "choices"): [
        ["story", "description", "stereotype", "other", "response"],
        ["s1", "stereotyped", "Sam rests.", "Sam runs.", "Sam rests."],
        ["s1", "other", "Sam rests.", "Sam runs.", "Sam runs."],
    ],
    ("relative_decision", "decisions"): [
        ["item", "decision"],
        ["i1", "1"],
        ["i2", "0"],
        ["i3", "consistent"],
    ],
    ("autocomplete", "completions"): [
        ["beginning", "group", "response"],
        ["why are women", "women", "why are women so strong"],
        ["why are men", "men", "why are men so bad"],
    ],
    ("perplexity_pair", "pairs"): [["first", "second"], ["3.5", "3.75"], ["2.5", "2.25"], ["4", "4.5"]],
    ("perplexity_pair", "crows-pairs"): [["score_more", "score_less"], ["-10", "-11"], ["-9", "-8"]],
    ("perplexity_pair", "stereoset"): [
        ["score_stereotype", "score_anti_stereotype", "score_unrelated"],
        ["-1", "-2", "-3"],
        ["-2", "-1", "-3"],
    ],
}
FORMATS = sorted(GOOD)
by_format = pytest.mark.parametrize(("family", "name"), FORMATS)


def as_csv(rows: Rows) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def put(folder: Path, content: str | bytes, name: str = "career_answers.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def measured(folder: Path, family: str, name: str, content: str | bytes) -> dict[str, Any]:
    return measure_file(family, put(folder, content), format=name)


def refused(folder: Path, family: str, name: str, content: str | bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        measured(folder, family, name, content)
    assert caught.value.place
    return caught.value


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "open"])
def test_every_recorded_format_is_tried_here(family: str) -> None:
    try:
        recorded = method_of(family).recorded
    except ModuleNotFoundError:
        pytest.skip(f"family {family} cannot be asked yet")
    assert {(family, name) for name in recorded} <= set(FORMATS)


@by_format
def test_good_files_are_measured_with_and_without_a_byte_order_mark(
    tmp_path: Path, family: str, name: str
) -> None:
    text = as_csv(GOOD[family, name])
    plain = measured(tmp_path, family, name, text)
    assert plain
    for other in ("\ufeff" + text, text.replace("\r\n", "\n"), text + "\r\n\r\n"):
        assert measured(tmp_path, family, name, other) == plain


@by_format
@pytest.mark.parametrize("kept", [0, 1], ids=["empty file", "header only"])
def test_files_without_answers_are_refused(tmp_path: Path, family: str, name: str, kept: int) -> None:
    with pytest.raises(InputError):
        measured(tmp_path, family, name, as_csv(GOOD[family, name][:kept]))


@by_format
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, family: str, name: str) -> None:
    if name == "llm-iat":
        pytest.skip("answers stand in the second column, whatever it is called")
    header, *rows = GOOD[family, name]
    last = header[-1]
    error = refused(tmp_path, family, name, as_csv([[*header[:-1], "Antwort"], *rows]))
    assert last in error.message
    assert "Antwort" in (error.hint or "")


@by_format
@pytest.mark.parametrize("change", [-1, 1], ids=["a cell too few", "a cell too many"])
def test_ragged_rows_are_refused_with_their_line(tmp_path: Path, family: str, name: str, change: int) -> None:
    header, first, *rest = GOOD[family, name]
    ragged = first[:-1] if change < 0 else [*first, "and the rest of an answer"]
    error = refused(tmp_path, family, name, as_csv([header, ragged, *rest]))
    assert f"{len(header) + change} cell" in error.message
    assert str(error.place).rsplit(":", 1)[-1].isdigit()
    assert "quotes" in (error.hint or "")


@by_format
def test_other_encodings_and_broken_quotes_are_refused(tmp_path: Path, family: str, name: str) -> None:
    text = as_csv(GOOD[family, name])
    assert "UTF-8" in refused(tmp_path, family, name, text.encode("utf-16")).message
    assert "UTF-8" in refused(tmp_path, family, name, text.encode() + b'"\xff\xfe",x\r\n').message
    assert "CSV" in refused(tmp_path, family, name, text + '"never closed').message


def test_a_repeated_column_is_refused(tmp_path: Path) -> None:
    rows = [[*row, row[-1]] for row in COMPLETIONS]
    assert "occurs twice" in refused(tmp_path, "completion", "subtler-biases", as_csv(rows)).message


ODD_ANSWERS = {
    "empty": "",
    "space": "  \t ",
    "other case and full stop": " KIND. ",
    "other language": "freundlich",
    "other script": "親切",
    "no option": "I would rather not say.",
    "two options": "kind or rude",
    "NUL bytes": "ki\0nd",
    "line breaks": "kind\nor rude",
    "formula": "=HYPERLINK(1)",
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_odd_answer_is_an_option_or_invalid_and_always_counted(tmp_path: Path, answer: str) -> None:
    rows = [row[:] for row in COMPLETIONS]
    rows[1][-1] = answer
    found = measured(tmp_path, "completion", "subtler-biases", as_csv(rows))["invalid"]
    assert found["n"] == 4
    assert found["value"] == (0 if answer == ODD_ANSWERS["other case and full stop"] else 1)


def test_an_answer_that_is_two_options_at_once_is_invalid(tmp_path: Path) -> None:
    rows = [row[:] for row in COMPLETIONS]
    rows[1][1:4] = ["Kind.", "kind", "tall"]
    assert measured(tmp_path, "completion", "subtler-biases", as_csv(rows))["invalid"]["value"] == 1


@pytest.mark.parametrize("column", [4, 5])
@pytest.mark.parametrize("value", ["", "positiv", "type3"])
def test_a_row_with_an_unknown_side_or_direction_is_invalid_and_named(
    tmp_path: Path, column: int, value: str
) -> None:
    rows = [row[:] for row in COMPLETIONS]
    rows[3][column] = value
    result = measured(tmp_path, "completion", "subtler-biases", as_csv(rows))
    assert result["invalid_rows"] == {rows[0][column]: {"unknown value" if value else "missing": 1}}
    assert result["notes"][0].startswith(f"line 4: {rows[0][column]} is ")
    assert (result["coverage"]["value"], result["coverage"]["n"]) == (0.75, 4)


@pytest.mark.parametrize("value", ["", "high", "nan", "inf", "1,5", "0x10"])
def test_a_row_with_a_logit_that_is_no_number_is_invalid_and_named(tmp_path: Path, value: str) -> None:
    rows = [row[:] for row in DECISIONS]
    rows[2][4] = value
    result = measured(tmp_path, "decision", "logits", as_csv(rows))
    reason = "missing" if value in ("", "nan") else "not a number"
    assert result["invalid_rows"] == {"yes_logit": {reason: 1}}
    assert result["notes"][0].startswith("line 3: yes_logit is ")
    assert (result["gap"]["default"]["Black-white"]["value"], result["coverage"]["n"]) == (1, 6)


def with_runaway(rows: Rows, at: int, characters: int) -> str:
    header, first, *rest = rows
    return as_csv([header, [*first[:at], "ha " * (characters // 3), *first[at + 1 :]], *rest])


@by_format
def test_an_answer_that_runs_away_is_read(tmp_path: Path, family: str, name: str) -> None:
    rows = GOOD[family, name]
    column = 1 if family == "association" else len(rows[0]) - 1
    content = with_runaway(rows, column, 400_000)
    result = measured(tmp_path, family, name, content)
    assert result["coverage"]["value"] <= 1
    if name in ("logits", "psychometric", "pairs", "crows-pairs", "stereoset"):
        assert result["invalid_rows"][rows[0][-1]] in ({"not a number": 1}, {"not a number from 0": 1})


@pytest.mark.slow
def test_an_answer_of_forty_megabytes_is_invalid(tmp_path: Path) -> None:
    content = with_runaway(COMPLETIONS, 6, 40 << 20)
    assert measured(tmp_path, "completion", "subtler-biases", content)["invalid"]["value"] == 1


def test_a_cell_beyond_the_limit_is_refused_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.files.tables.LARGEST_CELL", 1000)
    rows = [*COMPLETIONS, ["c", "rude", "kind", "tall", "positive", "type1", "x" * 1001]]
    error = refused(tmp_path, "completion", "subtler-biases", as_csv(rows))
    assert "limit" in error.message
    assert str(error.place).endswith(":6")


@by_format
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_cells_give_figures_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, family: str, name: str, data: st.DataObject
) -> None:
    header, *rows = GOOD[family, name]
    cell = st.one_of(
        st.text(max_size=12),
        st.sampled_from([c for row in rows for c in row]),
        st.sampled_from(["", "0", "-1", "1e999", "\0", "=1+1", '"', "positive", "type2"]),
    )
    drawn = data.draw(st.lists(st.lists(cell, min_size=len(header), max_size=len(header)), max_size=4))
    folder = tmp_path_factory.getbasetemp()
    with suppress(InputError):
        assert measured(folder, family, name, as_csv([header, *rows, *drawn]))


@by_format
@settings(deadline=None, max_examples=40)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_figures_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, family: str, name: str, content: bytes
) -> None:
    with pytest.raises(InputError):
        measured(tmp_path_factory.getbasetemp(), family, name, content)
