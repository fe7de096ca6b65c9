"""`validate` finds the rows that `relabel` refuses."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.files.retrieval_check import find_bad_rows


def test_every_row_that_cannot_be_read_is_found_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [
        {"query": "q", "pos": ["p"], "neg": ["n"]},
        {"query": "q", "pos": "p", "neg": ["n"]},
        {"query": "q", "pos": ["p"], "neg": ["n", None]},
        {"query": "q", "pos": ["p"], "neg": None},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(find_bad_rows(path)) == [
        (f"{path}:2", "'pos' must be a list of texts"),
        (f"{path}:3", "'neg' must be a list of texts"),
    ]


def test_other_datasets_have_no_such_rows(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"question": "q", "label": 5}\n{"question": null}\n')
    assert list(find_bad_rows(path)) == []
    assert list(find_bad_rows(tmp_path / "absent.csv")) == []
