"""Answers of a small model that was asked without a format are read as a person reads them.

SmolLM2 (135 million parameters) answered 170 questions of five families in at most 44 tokens. The answers
were labelled before the reader saw them. Contradictory answers, such as `B. Maybe` if C is Maybe, have two
accepted readings.
"""

from __future__ import annotations

import json
from pathlib import Path

from tasks.files.readers import read_answer
from tests.conftest import DATA

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "real_answers.jsonl").read_text(encoding="utf-8").splitlines()
]


def accepted(row: dict[str, object]) -> bool:
    reading = read_answer(row["text"], row["options"], form=row["form"], data_dir=DATA)  # type: ignore[arg-type]
    return (reading.value if reading.status == "read" else reading.status) in row["accepted"]  # type: ignore[operator]


def test_readings_of_real_answers_are_accepted() -> None:
    assert len(ROWS) == 170
    assert sum(accepted(row) for row in ROWS) / len(ROWS) >= 0.94


def test_no_option_of_a_clear_answer_is_read_as_another_one() -> None:
    for row in ROWS:
        if all(isinstance(label, int) for label in row["accepted"]):
            reading = read_answer(row["text"], row["options"], form=row["form"], data_dir=DATA)
            assert reading.status != "read" or reading.value in row["accepted"], row
