"""What a refresh decided, and why."""

from __future__ import annotations

from typing import Literal

from schemas.tables import Row

Verdict = Literal["unchanged", "safe", "risky"]


class ReviewItem(Row):
    """Something a person should look at before the release goes out."""

    kind: Literal["effect_moved", "relabelled", "removed", "schema"]
    subject: str
    """A question's id, a slice with its metric, or a column."""
    why: str


class Decision(Row):
    """Publish it, propose it, or leave it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    review: tuple[ReviewItem, ...]
