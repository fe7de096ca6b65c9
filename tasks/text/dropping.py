"""A question leaves with its reason and its whole record."""

from __future__ import annotations

from schemas.decision import Dropped
from schemas.ids import content_id
from schemas.question import Question


def drop_question(
    question: Question,
    *,
    stage: str,
    reason: str,
    because_of: str | None = None,
    similarity: float | None = None,
) -> Dropped:
    """The record of a question that goes no further. Its id depends on question, stage and reason."""
    return Dropped(
        id=content_id("x", question.id, stage, reason),
        kind="question",
        stage=stage,
        reason=reason,
        because_of=because_of,
        similarity=similarity,
        text=question.template,
        record=question.model_dump_json(),
    )
