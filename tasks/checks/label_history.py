"""Labels and their history: steps without gaps, each change from where the last one ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.question import Question
from tasks.checks.columns import Mask, column, mask_of
from tasks.checks.findings import Problem, problem


def check_label_history(history: pa.Table, questions: Iterable[Question]) -> list[Problem]:
    """The histories of questions. A passage may stand in several rows of one query, each with its own first
    step, so its steps tell nothing."""
    changes = history.filter(pc.equal(history["subject_kind"], "question")).sort_by(
        [("subject_id", "ascending"), ("query_id", "ascending"), ("step", "ascending")]
    )
    subject, query = column(changes, "subject_id"), column(changes, "query_id")
    if not len(changes):
        return _check_labels({}, questions)
    same = np.zeros(len(changes), dtype=bool)
    same[1:] = _equal_to_last(subject) & _equal_to_last(query)
    steps = column(changes, "step").to_numpy(zero_copy_only=False)
    wanted = np.where(same, np.roll(steps, 1) + 1, 0)
    jumps = same & (
        column(changes, "before").to_numpy(zero_copy_only=False)
        != np.roll(column(changes, "after").to_numpy(zero_copy_only=False), 1)
    )
    last: dict[str, set[str]] = defaultdict(set)
    ends = pa.array(np.append(~same[1:], True))
    for name, label in zip(
        subject.filter(ends).to_pylist(), column(changes, "after").filter(ends).to_pylist(), strict=True
    ):
        last[name].add(label)
    return [
        *problem(
            "label_history", "steps_not_contiguous", subject.filter(pa.array(steps != wanted)).to_pylist()
        ),
        *problem("label_history", "history_broken", subject.filter(pa.array(jumps)).to_pylist()),
        *_check_labels(last, questions),
    ]


def _equal_to_last(values: pa.Array) -> Mask:
    return mask_of(pc.equal(values[1:], values[:-1]))


def _check_labels(last: dict[str, set[str]], questions: Iterable[Question]) -> list[Problem]:
    """A question that was judged against several has a history for each: its label is one of their ends."""
    rows = list(questions)
    unexplained = [q.id for q in rows if q.label == "hard_negative" and q.id not in last]
    contradicting = [q.id for q in rows if q.id in last and q.label not in last[q.id]]
    return [
        *problem("questions", "label_without_history", unexplained),
        *problem("questions", "label_not_last_change", contradicting),
    ]
