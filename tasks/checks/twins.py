"""Explicit and implicit twins: each names the other, and they differ in their framing only."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.question import Question
from tasks.checks.findings import Problem, problem

SHARED = ("family", "attribute", "values", "superdomain", "domain", "topic", "language", "control")


def check_twins(questions: Iterable[Question]) -> list[Problem]:
    """Twins that were both kept are compared; a twin that was dropped is a reference, checked elsewhere."""
    by_id = {q.id: q for q in questions}
    pairs = [(q, by_id[q.twin_id]) for q in by_id.values() if q.twin_id in by_id]
    return [
        *problem("questions", "twin_not_linked_back", (q.id for q, twin in pairs if twin.twin_id != q.id)),
        *problem("questions", "twins_inconsistent", (q.id for q, twin in pairs if _differ(q, twin))),
    ]


def _differ(question: Question, twin: Question) -> bool:
    return question.framing == twin.framing or any(
        getattr(question, name) != getattr(twin, name) for name in SHARED
    )
