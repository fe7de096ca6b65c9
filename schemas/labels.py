"""Candidate sets: a query with its positives and its hard negatives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from schemas.errors import GateError
from schemas.tables import Row, Table


class Passage(Row):
    """A text that may answer a query. `extra` is a JSON object: what the file held beside the text."""

    id: str
    text: str
    title: str | None = None
    score: float | None = None
    extra: str = "{}"


class CandidateSet(Row):
    """One row of a retrieval training set, or one accepted question with its near misses."""

    id: str
    query_id: str
    query: str
    positives: tuple[Passage, ...]
    negatives: tuple[Passage, ...]
    extra: str = "{}"
    """JSON object: columns of the file that are carried through."""


CANDIDATES: Table[CandidateSet] = Table("candidates", CandidateSet, key="id")


# What became of every row: kept, or dropped with a stage, a reason and what it lost to.


class Dropped(Row):
    """A row that left the pipeline. `record` is the row itself as JSON: nothing disappears."""

    id: str
    kind: Literal["question", "response", "judgement", "passage"]
    stage: str
    reason: str
    because_of: str | None
    """Id of the row that it lost to (its duplicate, its better), where there is one."""
    similarity: float | None
    """0 to 100, where the reason is a duplicate."""
    text: str
    record: str


DROPPED: Table[Dropped] = Table("dropped", Dropped, key="id")


class StageCounts(Row):
    """What went through one stage. `rows = kept + dropped + failed`, always."""

    stage: str
    unit: str
    """What is counted: `questions`, `requests`, `groups`, `candidates`, …"""
    rows: int
    kept: int
    dropped: int
    failed: int


STAGE_COUNTS: Table[StageCounts] = Table("counts", StageCounts, key="stage")


def check_reconciled(counts: Iterable[StageCounts]) -> None:
    """Raise `GateError` naming the first stage whose rows do not add up."""
    for c in counts:
        if c.rows != c.kept + c.dropped + c.failed:
            raise GateError(
                f"stage {c.stage}: {c.rows} {c.unit} went in, but {c.kept} kept + {c.dropped} dropped + "
                f"{c.failed} failed = {c.kept + c.dropped + c.failed}",
                hint="this is a defect of the stage: please report it with the run directory",
            )


# Labels change by appending: who changed what, from what, to what, and why.


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


# What people decide about questions and passages, one event at a time; nothing is ever rewritten.
#
# A reviewer's events stand in one file of their own, `data/reviews/<benchmark>/<reviewer>.jsonl`, a line
# each,
# oldest first. Ids are content, so what was decided holds in every run and release of the benchmark that
# still
# asks the same question.


QuestionVerdict = Literal[
    "very_good",
    "good",
    "too_specific",
    "wrong_grammar",
    "question_unclear",
    "repetition",
    "multiple_choice",
    "offensive",
    "discuss",
    "other",
]
"""The labels by which questions are verified by hand; the last two decide nothing."""
KEEPING: tuple[QuestionVerdict, ...] = ("very_good", "good")
UNDECIDED: tuple[str, ...] = ("discuss", "other")
"""Remarks that keep and drop nothing: they put the group into the queue of what people must talk about."""

PassageVerdict = Literal["answers", "helps", "does_not_answer", "discuss", "other"]
"""Whether a passage answers its query: `answers` makes it a positive, `helps` is too close to be a negative,
`does_not_answer` leaves it a negative."""


class Act(Row):
    """What a reviewer does; storing it makes an event of it."""

    action: Literal["verdict", "edit", "undo"]
    subject: Literal["question", "passage"]
    subject_id: str
    query_id: str = ""
    """Of a passage: the query it was retrieved for."""
    verdict: QuestionVerdict | PassageVerdict | None = None
    note: str = ""
    template: str | None = None
    """Of an edit: the question's new text, with slots."""
    replaced_by: str | None = None
    """Of an edit: the id of the question that the new text makes."""
    undoes: str | None = None
    """Id of the event that is taken back."""
    seconds: float | None = None
    """How long the reviewer looked at it."""


class ReviewEvent(Act):
    """One act of one reviewer. The last event on a subject that was not undone is what the reviewer says."""

    id: str
    """Content id of all the rest."""
    reviewer: str
    number: int
    """Position among this reviewer's events, from 0."""
    at: str = ""
    """UTC, ISO 8601 to the second."""


class Waiting(Row):
    """A build that waits for people."""

    benchmark: str
    questions: tuple[str, ...]
    """Ids of the accepted open questions."""
    needed: int
    """How many of them must have a settled verdict."""
    flow_run: str | None
    """Id of the suspended Prefect flow run; none where the build was stopped."""
    api: str | None
    """Address of the Prefect server that knows the run, without credentials."""
