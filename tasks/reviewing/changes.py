"""A label that people decided, as an entry of its history."""

from __future__ import annotations

from schemas.ids import content_id
from schemas.label import LabelChange, SubjectKind

PEOPLE = "people"
"""Who decided: never a name, as a release tells nobody's."""
REVIEWED = "reviewed"


def people_change(
    kind: SubjectKind, subject_id: str, query_id: str, *, step: int, before: str, after: str
) -> LabelChange:
    """One entry; `before` and `after` are equal where people confirmed a label."""
    return LabelChange(
        id=content_id("lc", kind, subject_id, query_id, step, before, after, REVIEWED, PEOPLE),
        subject_id=subject_id,
        subject_kind=kind,
        query_id=query_id,
        step=step,
        before=before,
        after=after,
        reason=REVIEWED,
        judge=PEOPLE,
        evidence=None,
        stage="review",
    )
