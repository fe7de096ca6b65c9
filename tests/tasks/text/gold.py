"""The hand-written answers in data/gold, and the accuracy of their readings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

from tasks.files.readers import is_refusal, read_answer
from tasks.text.reader_rules import Reading, ReadingForm
from tests.conftest import DATA

Row = dict[str, Any]


def is_held_out(row: Row) -> bool:
    """Check that a row is held out from tuning: 30 % of the rows, by a hash of the id."""
    return int(sha256(row["id"].encode()).hexdigest(), 16) % 10 >= 7


@cache
def _lines(name: str) -> tuple[str, ...]:
    return tuple((DATA / "gold" / name).read_text(encoding="utf-8").splitlines())


def readings() -> list[Row]:
    return [json.loads(line) for line in _lines("readings.jsonl")]


def refusals() -> list[Row]:
    return [json.loads(line) for line in _lines("refusals.jsonl")]


def read_row(row: Row) -> Reading:
    return _read(row["text"], tuple(row["options"]), row["form"], row["language"])


@cache
def _read(text: str, options: tuple[str, ...], form: ReadingForm, language: str) -> Reading:
    return read_answer(text, list(options), form=form, language=language, data_dir=DATA)


@dataclass(frozen=True)
class Accuracy:
    """Numbers of rows with a correct option, a wrong option, or an option although they name none."""

    rows: int
    right: int
    wrong: int
    invented: int

    @property
    def share(self) -> float:
        return self.right / self.rows


def accuracy(rows: Iterable[Row], read: Callable[[Row], Reading] = read_row) -> Accuracy:
    counts: Counter[str] = Counter()
    for row in rows:
        reading = read(row)
        is_read = reading.status == "read" and reading.value != row["value"]
        counts["rows"] += 1
        counts["right"] += (reading.value, reading.status) == (row["value"], row["status"])
        counts["wrong"] += is_read and row["status"] == "read"
        counts["invented"] += is_read and row["status"] != "read"
    return Accuracy(counts["rows"], counts["right"], counts["wrong"], counts["invented"])


def precision_and_recall(rows: Iterable[Row]) -> tuple[float, float]:
    """Return precision and recall of `is_refusal`."""
    pairs = [
        (is_refusal(row["text"], language=row["language"], data_dir=DATA), row["refused"]) for row in rows
    ]
    hits = pairs.count((True, True))
    return hits / (hits + pairs.count((True, False))), hits / (hits + pairs.count((False, True)))
