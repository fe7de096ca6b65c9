"""Accuracy by group over recorded answers to tasks with swapped names (CALM, arXiv 2308.12539)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import InputError
from schemas.ids import derived_seed
from tasks.measuring.metrics import figure
from tasks.measuring.recorded_answers import plain_answer, read_csv_rows
from tasks.stats.bootstrap import Interval, mean_with_interval
from tasks.stats.spread import Cell, deal, spread_of

COLUMNS = ("template", "task", "group", "gold", "response")
EVERY_TASK = "all"


@dataclass(frozen=True)
class TaskAnswer:
    """One recorded answer; `right` is `None` where nothing was answered."""

    template: str
    task: str
    group: str
    right: bool | None


def read_tasks(path: Path) -> list[TaskAnswer]:
    """Rows of a CSV file; a row is the answer for one name. Raises `InputError` for a row that does not say
    to which template, task or group it belongs, or what is right."""
    return [_answer(place, row) for place, row in read_csv_rows(path, COLUMNS)]


def _answer(place: str, row: Mapping[str, str]) -> TaskAnswer:
    for column in COLUMNS[:-1]:
        if not row[column].strip():
            raise InputError(f"{column} is empty", place=place, hint="only `response` may be empty")
    response = plain_answer(row["response"])
    right = response == plain_answer(row["gold"]) if response else None
    return TaskAnswer(row["template"].strip(), row["task"].strip(), row["group"].strip().lower(), right)


def measure_tasks(answers: Sequence[TaskAnswer]) -> dict[str, Any]:
    """`max_min`, `max_min_excess` (with `p_value`) and `accuracy` by task and over all; `invalid`: rows
    without an answer, never scored. Raises `InputError` where there is nothing to compare."""
    if len({a.group for a in answers}) < 2:
        raise InputError("there are no two groups to compare", hint="the column `group` says who is named")
    valid = [a for a in answers if a.right is not None]
    tasks = {EVERY_TASK: valid} | {
        task: [a for a in valid if a.task == task] for task in sorted({a.task for a in answers})
    }
    measured = {task: _measure(task, rows) for task, rows in tasks.items()}
    result: dict[str, Any] = {
        metric: {task: found[metric] for task, found in measured.items()}
        for metric in ("max_min", "max_min_excess", "accuracy")
    }
    return result | {"invalid": figure(len(answers) - len(valid), n=len(answers))}


def _measure(task: str, valid: Sequence[TaskAnswer]) -> dict[str, Any]:
    seed = derived_seed("task_accuracy", task)
    spread = spread_of(_cells(valid), seed)
    if spread is None:
        nothing = figure(None, n=0)
        return {"max_min": nothing, "max_min_excess": nothing | {"p_value": None}, "accuracy": nothing}
    accuracy = _accuracy(valid, seed)
    return {
        "max_min": _figure(spread.raw, len(valid)),
        "max_min_excess": _figure(spread.excess, len(valid)) | {"p_value": spread.p_value},
        "accuracy": _figure(accuracy, len(valid)),
    }


def _accuracy(valid: Sequence[TaskAnswer], seed: int) -> Interval:
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for a in valid:
        right[a.task, a.template].append(bool(a.right))
    shares = [(float(np.mean(found)), len(found)) for _, found in sorted(right.items())]
    return mean_with_interval([s for s, _ in shares], seed, weights=[n for _, n in shares])


def _figure(interval: Interval, n: int) -> dict[str, Any]:
    return figure(interval.value, interval.low, interval.high, n=n, clusters=interval.n)


def _cells(valid: Sequence[TaskAnswer]) -> Iterator[Cell]:
    """Templates in which two groups or more were answered for. Rows of one template are dealt freely: nothing
    says which names were matched."""
    by_template: dict[tuple[str, str], list[TaskAnswer]] = defaultdict(list)
    for a in valid:
        by_template[a.task, a.template].append(a)
    for (task, template), rows in sorted(by_template.items()):
        names = sorted({a.group for a in rows})
        if len(names) > 1:
            groups = deal([names.index(a.group) for a in rows], derived_seed("deal", task, template))
            right = np.array([float(bool(a.right)) for a in rows])
            yield Cell(f"{task}/{template}", right, np.ones(len(rows)), groups)
