"""Datasets that are not ours: what is wrong in any dataset is told by file, column and row."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from schemas.validation import Finding
from tasks.checks.examination import Knowledge
from tasks.checks.foreign import examine_dataset

GOOD = [{"id": f"a{i}", "prompt": f"Why is the man number {i} late?", "label": "x"} for i in range(5)]


def checked(path: Path) -> dict[str, Finding]:
    return {f.check: f for f in examine_dataset(path, Knowledge()).validation.findings}


def jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_clean_file_passes(tmp_path: Path) -> None:
    assert checked(jsonl(tmp_path / "a.jsonl", list(GOOD))) == {}


def test_faults_are_told_by_column_and_row_number(tmp_path: Path) -> None:
    rows = [dict(row) for row in GOOD]
    rows[1]["prompt"] = "Why is {{he/she}} late?"
    rows[2]["prompt"] = "The cafÃ© is closed?"
    rows[3]["prompt"] = "Write to jo@example.org?"
    rows[4]["id"] = None
    rows[0]["label"] = "see https://example.org"
    found = checked(jsonl(tmp_path / "a.jsonl", [*rows, rows[1]]))
    assert {check: f.examples for check, f in found.items()} == {
        "slot_unfilled": ("2", "6"),
        "garbled_cell": ("3",),
        "personal_data": ("4",),
        "personal_data_in_cell": ("1",),
        "value_missing": ("5",),
        "row_repeated": ("6",),
    }
    assert found["slot_unfilled"].column == "prompt"
    assert found["slot_unfilled"].table == "a.jsonl"


def test_open_slots_belong_in_templates(tmp_path: Path) -> None:
    rows = [row | {"template": "Why is {{he/she}} late?"} for row in GOOD]
    assert checked(jsonl(tmp_path / "a.jsonl", rows)) == {}


def test_empty_cells_and_columns_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text,note\n1,hello,\n2,,\n", encoding="utf-8")
    found = checked(tmp_path / "a.csv")
    assert set(found) == {"cell_missing", "column_empty"}
    assert {f.severity for f in found.values()} == {"warning"}


def test_lists_of_texts_are_read(tmp_path: Path) -> None:
    rows = [{"query": "why?", "pos": ["because"], "neg": ["the cafÃ©", "no"]}]
    assert checked(jsonl(tmp_path / "a.jsonl", rows))["garbled_cell"].column == "neg"


def test_folder_of_files_is_one_dataset(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(GOOD), tmp_path / "a.parquet")
    jsonl(tmp_path / "b.jsonl", [{"question": "Is it {noun}?"}])
    examined = examine_dataset(tmp_path, Knowledge())
    assert examined.validation.rows == {"a.parquet": 5, "b.jsonl": 1}
    assert [f.table for f in examined.validation.findings] == ["b.jsonl"]


def test_file_without_rows_does_not_pass(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(GOOD).slice(0, 0), tmp_path / "a.parquet")
    assert checked(tmp_path / "a.parquet")["table_empty"].severity == "error"


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.xlsx"])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"a": 1, ')
    with pytest.raises(InputError, match=name):
        examine_dataset(tmp_path / name, Knowledge())
