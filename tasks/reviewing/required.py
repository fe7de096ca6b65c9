"""How much people must look at before a release is made."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from schemas.question import Question
from schemas.recipe import Review


def accepted_questions(questions: Iterable[Question]) -> list[str]:
    """Ids of the accepted open questions, in order: those that the demanded share is of."""
    return sorted(
        q.id for q in questions if q.family == "open" and q.label == "accepted" and q.control == "none"
    )


def reviews_needed(section: Review, accepted: int) -> int:
    """How many of so many accepted questions people must settle."""
    return ceil(round(section.share * accepted, 9)) if section.required else 0
