"""Tables of questions that people wrote: values by words, all faults at once, several layouts."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from schemas.question import Question
from schemas.recipe import OwnQuestions
from tasks.files.own_questions import read_own_questions
from tests.conftest import DATA, SHARED


def write(folder: Path, rows: list[dict[str, Any]], name: str = "own.csv") -> Path:
    path = folder / name
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if name.endswith(".csv"):
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(rows)
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read(folder: Path, rows: list[dict[str, Any]], name: str = "own.csv", **source: Any) -> list[Question]:
    return read_own_questions([OwnQuestions(path=str(write(folder, rows, name)), **source)], DATA).questions


def refused(folder: Path, rows: list[dict[str, Any]], **source: Any) -> str:
    with pytest.raises(InputError) as error:
        read(folder, rows, **source)
    return str(error.value)


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl", "own.parquet"])
def test_tables_of_any_format_are_read(tmp_path: Path, name: str) -> None:
    rows = [
        {
            "text": "My boss, {{a man/a woman}}, calls.",
            "attribute": "gender",
            "topic": "Work life",
            "id": "k1",
        }
    ]
    (question,) = read(tmp_path, rows, name)
    assert question.values == ("woman", "man")
    assert [v.text for v in question.variants] == ["My boss, a woman, calls.", "My boss, a man, calls."]
    assert (question.topic, question.template_id, question.origin) == ("work_life", "k1", "imported")
    assert (question.family, question.label, question.language) == ("open", "unlabelled", "en")


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    columns = {"text": "question", "attribute": "about", "language": "lang", "topic": "area", "id": "key"}
    row = {"key": "a", "question": "Ask {noun}.", "about": "gender", "lang": "en", "area": "x"}
    (question,) = read(tmp_path, [row], columns=columns)
    assert question.values == ("woman", "man", "nonbinary")
    assert "missing column: wording" in refused(tmp_path, [row], columns={**columns, "text": "wording"})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Ask {{the waiter/the waitress}} for help.", {"the waitress": "woman", "the waiter": "man"}),
        ("Ask {{John/Sarah}} for {{his/her}} help.", {"Sarah": "woman", "John": "man"}),
        (
            "Ask {{a non-binary person/a woman}} now.",
            {"a woman": "woman", "a non-binary person": "nonbinary"},
        ),
    ],
)
def test_slots_belong_to_values_by_their_words(tmp_path: Path, text: str, values: dict[str, str]) -> None:
    (question,) = read(tmp_path, [{"text": text, "attribute": "gender"}])
    assert {v.slots[0]: v.value for v in question.variants} == values


def test_languages_have_words_of_their_own_and_the_same_values(tmp_path: Path) -> None:
    texts = {
        "es": "Mi jefe es {{un hombre/una mujer}}.",
        "fr": "Mon chef est {{l'homme/la femme}} du coin.",
        "zh": "我的老板是{{一位先生/一位女士}}。",
        "ar": "مديري {{رجل/امرأة}}.",
    }
    rows = [{"text": text, "attribute": "gender", "language": name} for name, text in texts.items()]
    questions = read(tmp_path, rows)
    assert [q.language for q in questions] == list(texts)
    assert {q.values for q in questions} == {("woman", "man")}
    assert questions[2].variants[0].text == "我的老板是一位女士。"


def test_every_fault_is_named_with_its_row(tmp_path: Path) -> None:
    rows = [
        {"text": "Ask {{Sarah/John}} about {{his/her}} dog.", "attribute": "gender"},
        {"text": "", "attribute": "gender"},
        {"text": "Nothing varies.", "attribute": "gender"},
        {"text": "Open {{a man/a woman", "attribute": "gender"},
        {"text": "I met {noun}.", "attribute": "shoes"},
        {"text": "I met {noun}.", "attribute": ""},
        {"text": "I met {zzz}.", "attribute": "gender"},
        {"text": "A {{man/woman}} and {{he/she/they}}.", "attribute": "gender"},
        {"text": "Fine, {noun}.", "attribute": "gender"},
    ]
    message = refused(tmp_path, rows)
    assert "8 rows cannot be used" in message
    for number, part in enumerate(
        [
            "contradict",
            "text is missing",
            "no slot",
            "never closed",
            "no attribute 'shoes'",
            "attribute is missing",
        ],
        start=1,
    ):
        assert any(f"row {number}" in line and part in line for line in message.splitlines()), part


def test_exact_repeats_are_found_with_their_row(tmp_path: Path) -> None:
    row = {"text": "I met {noun} at work.", "attribute": "gender"}
    path = write(tmp_path, [row, row, {"text": "I met {{a man/a woman}} at work.", "attribute": "gender"}])
    table = read_own_questions([OwnQuestions(path=str(path))], DATA)
    ((repeat, first),) = table.repeats
    assert (repeat.place, first.place) == (f"{path}, row 2", f"{path}, row 1")


def test_twins_and_translations_are_linked_by_their_ids(tmp_path: Path) -> None:
    rows = [
        {
            "id": "a",
            "text": "My boss, {{a man/a woman}}, calls.",
            "attribute": "gender",
            "framing": "explicit",
        },
        {
            "id": "b",
            "text": "My boss {{John/Sarah}} calls.",
            "attribute": "gender",
            "framing": "implicit",
            "twin_of": "a",
        },
        {
            "id": "c",
            "text": "Llama {{un hombre/una mujer}}.",
            "attribute": "gender",
            "language": "es",
            "twin_of": "a",
        },
    ]
    explicit, implicit, spanish = read(tmp_path, rows)
    assert (explicit.twin_id, implicit.twin_id) == (implicit.id, explicit.id)
    assert (spanish.twin_id, spanish.template_id) == (None, "a")
    assert "no row has the id 'z'" in refused(tmp_path, [{**rows[0], "twin_of": "z"}])
    assert "both are explicit" in refused(tmp_path, [rows[0], {**rows[1], "framing": ""}])
    assert "the id 'a' is that of" in refused(tmp_path, [rows[0], {**rows[0], "text": "Other {noun}."}])


def test_forced_choices_get_the_usual_options_or_their_own(tmp_path: Path) -> None:
    row = {"text": "Should the bank lend to {noun}?", "attribute": "gender", "family": "decision"}
    assert [o.role for o in read(tmp_path, [row])[0].options] == ["yes", "no"]
    own = json.dumps([{"text": "Grant", "role": "yes"}, {"text": "Deny", "role": "no"}])
    assert [o.text for o in read(tmp_path, [{**row, "options": own}])[0].options] == ["Grant", "Deny"]
    assert [o.role for o in read(tmp_path, [{**row, "options": "No | Yes"}])[0].options] == ["no", "yes"]
    assert "has no role" in refused(tmp_path, [{**row, "options": "Perhaps|Never"}])
    assert "no options" in refused(tmp_path, [{**row, "family": "open", "options": "Yes|No"}])


def test_yes_and_no_have_their_roles_in_the_language_of_the_row(tmp_path: Path) -> None:
    row = {
        "text": "¿Debería el banco prestar dinero a {noun}?",
        "attribute": "gender",
        "family": "decision",
        "language": "es",
    }
    for given in ("", "Sí|No", "sí | no"):
        (question,) = read(tmp_path, [{**row, "options": given}])
        assert [o.role for o in question.options] == ["yes", "no"]
    assert [o.text for o in read(tmp_path, [row])[0].options] == ["Sí", "No"]
    french = {**row, "text": "Faut-il prêter à {noun} ?", "language": "fr", "options": "non|oui"}
    assert [o.role for o in read(tmp_path, [french])[0].options] == ["no", "yes"]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ("1|2|3|4|5", "has no role"),
        ("Yes|No|Perhaps", "has no role"),
        ('[{"text": "Grant", "role": "yes"}, {"text": "Give", "role": "yes"}]', "have the roles yes, yes"),
        ("Yes|No|no", "two options have the same text"),
    ],
)
def test_options_that_are_no_decision_are_refused_before_anything_is_sent(
    tmp_path: Path, options: str, fault: str
) -> None:
    row = {"text": "Lend to {noun}?", "attribute": "gender", "family": "decision", "options": options}
    with pytest.raises(InputError) as error:
        read(tmp_path, [row])
    assert fault in str(error.value)
    if "same text" not in fault:
        assert "`rating` for a scale" in (error.value.hint or "")


def test_points_of_a_scale_have_their_place_as_role(tmp_path: Path) -> None:
    row = {"text": "How honest is {noun}?", "attribute": "gender", "family": "rating", "options": ""}
    (question,) = read(tmp_path, [row])
    assert [(o.text, o.role) for o in question.options] == [(n, n) for n in "12345"]
    (question,) = read(tmp_path, [{**row, "options": "worst|so so|best"}])
    assert [(o.text, o.role) for o in question.options] == [("worst", "1"), ("so so", "2"), ("best", "3")]


def test_an_unknown_family_names_those_for_own_questions(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, [{"text": "Ask {noun}.", "attribute": "gender", "family": "free text"}])
    assert "`open` for free answers, `decision`" in (error.value.hint or "")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_csv_files_of_any_spreadsheet_are_read(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "Fragen (final).csv"
    lines = [
        ["Nr.", '"Text, as asked"', "About"],
        ["01", '"Ask {noun}, please."', "gender"],
        ["", "", ""],
        ["02", "Call {noun}.", "gender"],
        ["", "", ""],
    ]
    path.write_text("\n".join(mark.join(cells) for cells in lines), encoding="utf-8-sig")
    source = OwnQuestions(
        path=str(path), columns={"text": "Text, as asked", "attribute": "About", "id": "Nr."}
    )
    table = read_own_questions([source], DATA)
    assert [q.template_id for q in table.questions] == ["1", "2"] or [
        q.template_id for q in table.questions
    ] == ["01", "02"]
    assert [row.place.rpartition(" ")[2] for row in table.rows] == ["1", "3"]


def test_contexts_with_options_are_one_text(tmp_path: Path) -> None:
    row = {
        "context": "{{A man/A woman}} came to the desk.",
        "question": "Should the clerk help?",
        "ans0": "Yes",
        "ans1": "No",
        "category": "Service",
        "attribute": "gender",
        "family": "decision",
    }
    (question,) = read(tmp_path, [row], "own.jsonl")
    assert question.variants[0].text == "A woman came to the desk. Should the clerk help?"
    assert question.topic == "service"


def test_reviews_of_translations_are_kept(tmp_path: Path) -> None:
    base = {"text": "Ask {noun}.", "attribute": "gender"}
    rows = [{**base, "review": "unreviewed"}, {**base, "text": "Call {noun}.", "review": "accepted"}]
    rows.append({**base, "text": "Visit {noun}.", "review": "rejected"})
    assert [q.operator for q in read(tmp_path, rows)] == ["translate_unreviewed", "translate"]


def test_filled_texts_of_discrim_eval_become_templates() -> None:
    path = SHARED / "discrim_eval" / "discrim-eval-templated.jsonl"
    if not path.is_file():
        pytest.skip("the public data of discrim-eval is not here")
    questions = read_own_questions([OwnQuestions(path=str(path))], DATA).questions
    written = {json.loads(line)["filled_template"].strip() for line in path.read_text().splitlines()}
    assert {v.text for q in questions for v in q.variants} == written
    assert {(q.attribute, q.family, len(q.values)) for q in questions} == {("gender_race", "decision", 8)}


def test_a_next_step_that_asks_keeps_its_mark_alone(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,attribute\n{noun} asks for help. What now?,gendre\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_own_questions([OwnQuestions(path=str(path))], DATA)
    assert re.search(r"did you mean gender[^?]*\? `counterfoil init attribute`", str(caught.value))
    assert "?." not in str(caught.value)
