"""Reviews survive an export and import. Invalid rows are refused with their place."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from schemas.labels import Act, ReviewEvent
from tasks.review.events import CurrentVerdicts, append_events, current_verdicts, read_events
from tasks.review.exchange import (
    ExchangeItem,
    ExchangeRow,
    argilla_user_id,
    new_acts,
    read_argilla,
    read_label_studio,
    read_review_sheet,
    write_argilla,
    write_label_studio,
    write_review_sheet,
)

ITEMS = [
    ExchangeItem(
        subject="question",
        subject_id="q_1",
        text="=HYPERLINK(1) {{a/b}}?",
        context="a?\nb?",
        about={"attribute": "gender"},
    ),
    ExchangeItem(subject="question", subject_id="q_2", text="Is {{a/b}} <script>?", context="a?\nb?"),
    ExchangeItem(subject="passage", subject_id="p_1", query_id="who", text="It was me.", context="Who?"),
]
NOTE = '=cmd|"/c calc"!A1, “ünïcode”\nsecond line'
ACTS = {
    "Ada": [
        Act(action="verdict", subject="question", subject_id="q_1", verdict="good", note=NOTE),
        Act(action="verdict", subject="passage", subject_id="p_1", query_id="who", verdict="helps"),
    ],
    "Ben Æ": [
        Act(
            action="edit",
            subject="question",
            subject_id="q_1",
            template="Is {{a/b}} late?",
            replaced_by="q_new",
        )
    ],
}
Write = Callable[[Path, Iterable[ExchangeItem], CurrentVerdicts], None]
Read = Callable[[Path], list[ExchangeRow]]
FORMATS: dict[str, tuple[Write, Read]] = {
    "sheet.csv": (write_review_sheet, read_review_sheet),
    "tasks.json": (write_label_studio, read_label_studio),
    "records.json": (write_argilla, lambda path: read_argilla(path, list(ACTS))),
}


def check(question_id: str, text: str) -> tuple[str, str]:
    if "{{" not in text:
        raise InputError("no slot", hint="add one")
    return " ".join(text.split()), "q_new"


def store(directory: Path, acts: dict[str, list[Act]]) -> dict[str, list[ReviewEvent]]:
    for name, own in acts.items():
        append_events(directory, name, own)
    return read_events(directory)


def meaning(events: dict[str, list[ReviewEvent]]) -> list[Any]:
    kept = ("action", "subject", "subject_id", "query_id", "verdict", "note", "template", "replaced_by")
    return [(name, [e.model_dump(include=set(kept)) for e in own]) for name, own in events.items()]


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_can_be_imported_once(name: str, tmp_path: Path) -> None:
    write, read = FORMATS[name]
    events = store(tmp_path / "here", ACTS)
    write(tmp_path / name, ITEMS, current_verdicts(events))
    lines = read(tmp_path / name)
    imported = store(tmp_path / "there", new_acts(lines, ITEMS, {}, check))
    assert meaning(imported) == meaning(events)
    assert new_acts(lines, ITEMS, imported, check) == {}
    assert new_acts(lines, ITEMS, events, check) == {}


@pytest.mark.parametrize("name", FORMATS)
def test_an_old_file_does_not_revert_later_decisions(name: str, tmp_path: Path) -> None:
    write, read = FORMATS[name]
    events = store(tmp_path / "here", ACTS)
    write(tmp_path / name, ITEMS, current_verdicts(events))
    since = Act(action="verdict", subject="question", subject_id="q_1", verdict="offensive")
    now = store(tmp_path / "here", {"Ada": [since]})
    assert new_acts(read(tmp_path / name), ITEMS, now, check) == {}


def test_no_cell_of_a_sheet_is_a_formula(tmp_path: Path) -> None:
    write_review_sheet(tmp_path / "s.csv", ITEMS, current_verdicts(store(tmp_path / "here", ACTS)))
    with (tmp_path / "s.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4, "one a reviewer, and one to fill in where nobody said anything"
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


def test_a_filled_in_sheet_is_read(tmp_path: Path) -> None:
    write_review_sheet(tmp_path / "s.csv", ITEMS, {})
    text = (tmp_path / "s.csv").read_text(encoding="utf-8-sig")
    filled = text.replace('<script>?,"a?\nb?",,,,,', '<script>?,"a?\nb?",,Cleo,repetition,again,')
    (tmp_path / "s.csv").write_text(filled, encoding="utf-8-sig")
    acts = new_acts(read_review_sheet(tmp_path / "s.csv"), ITEMS, {}, check)
    assert [(a.subject_id, a.verdict, a.note) for a in acts["Cleo"]] == [("q_2", "repetition", "again")]


def one_line(folder: Path, **cells: str) -> list[ExchangeRow]:
    row = {"subject": "question", "subject_id": "q_1", "query_id": "", "reviewer": "Ada", "verdict": "good"}
    row |= {"note": "", "new_text": "", **cells}
    with (folder / "one.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerow(row)
    return read_review_sheet(folder / "one.csv")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"subject_id": "q_9"}, "unknown question 'q_9'"),
        ({"subject": "river"}, "unknown river"),
        ({"verdict": "splendid"}, "'splendid' is not a valid verdict"),
        ({"verdict": "answers"}, "'answers' is not a valid verdict"),
        ({"reviewer": " "}, "has no reviewer"),
        ({"verdict": "edit", "new_text": "No slots."}, "no slot"),
        (
            {"subject": "passage", "subject_id": "p_1", "query_id": "who", "verdict": "edit"},
            "only questions",
        ),
    ],
)
def test_invalid_rows_are_refused_with_file_and_row(
    cells: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        new_acts(one_line(tmp_path, **cells), ITEMS, {}, check)
    assert message in error.value.message
    assert "one.csv:2" in (error.value.place or "")


@pytest.mark.parametrize("read", [read_label_studio, lambda path: read_argilla(path, ())])
@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[1]", "\x00"])
def test_a_file_without_a_list_of_objects_is_refused(read: Read, content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError):
        read(tmp_path / "x.json")


def test_label_studio_annotations_belong_to_its_users(tmp_path: Path) -> None:
    """Read the forms of its export: ids, times, skipped tasks, and choices without extras."""
    choice = {
        "id": "zLSY",
        "from_name": "verdict",
        "to_name": "text",
        "type": "choices",
        "value": {"choices": ["good"]},
    }
    made = {"id": 7, "completed_by": 10, "result": [choice], "was_cancelled": False, "lead_time": 4.2}
    by_mail = {**made, "completed_by": {"id": 11, "email": "ada@example.org"}}
    skipped = {**made, "was_cancelled": True}
    task = {
        "id": 1,
        "data": {"subject": "question", "subject_id": "q_1", "query_id": ""},
        "annotations": [made, by_mail, skipped],
    }
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    acts = new_acts(read_label_studio(tmp_path / "tasks.json"), ITEMS, {}, check)
    assert sorted(acts) == ["Label Studio user 10", "ada@example.org"]


def test_drafts_and_unknown_users_of_argilla(tmp_path: Path) -> None:
    answers = [
        {"value": "good", "user_id": argilla_user_id("Ada"), "status": "submitted"},
        {"value": "good", "user_id": "0b1c", "status": "draft"},
        {"value": "offensive", "user_id": "0b1c2d3e"},
    ]
    record = {
        "id": "s_1",
        "fields": {"text": "x"},
        "metadata": {"subject": "question", "subject_id": "q_1", "query_id": ""},
        "responses": {"verdict": answers},
    }
    (tmp_path / "r.json").write_text(json.dumps([record]))
    acts = new_acts(read_argilla(tmp_path / "r.json", ["Ada"]), ITEMS, {}, check)
    assert sorted(acts) == ["Ada", "Argilla user 0b1c2d3e"]
