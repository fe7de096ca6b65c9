"""Labels change by appending: who changed what, from what, to what, and why."""

from __future__ import annotations

from typing import Literal

from schemas.tables import Row, Table

SubjectKind = Literal["question", "passage"]


class LabelChange(Row):
    """One entry of the history of one question's or passage's label."""

    id: str
    subject_id: str
    subject_kind: SubjectKind
    query_id: str
    """The query (or accepted question) against which the subject was judged."""
    step: int
    """Position in this subject's history for this query, from 0."""
    before: str
    after: str
    reason: str
    """`ranked_above_positive`, `evidence_below_positive`, `no_evidence`, `near_duplicate_of_positive`, …"""
    judge: str
    evidence: str | None
    """The verbatim span that decided, where there is one."""
    stage: str


LABEL_HISTORY: Table[LabelChange] = Table("label_history", LabelChange, key="id")
