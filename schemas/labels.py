"""Candidate sets, dropped rows, label changes and review events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from schemas.errors import GateError
from schemas.tables import Row, Table


class Passage(Row):
    """A text that may answer a query. `extra` is a JSON object with the other fields of the file."""

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
    """JSON object with the other columns of the file."""


CANDIDATES: Table[CandidateSet] = Table("candidates", CandidateSet, key="id")


class Dropped(Row):
    """A row that left the pipeline. `record` is the row itself as JSON.

    Of an item of material, it holds the title, date and source only.
    """

    id: str
    kind: Literal["question", "response", "judgement", "passage", "material"]
    stage: str
    reason: str
    because_of: str | None
    """Id of the row that replaced it, such as the kept duplicate."""
    similarity: float | None
    """0 to 100 for duplicates, else `None`."""
    text: str
    record: str


DROPPED: Table[Dropped] = Table("dropped", Dropped, key="id")


class StageCounts(Row):
    """Row counts of one stage. `rows = kept + dropped + failed`."""

    stage: str
    unit: str
    """Unit of the counts: `questions`, `requests`, `groups`, `candidates`, …"""
    rows: int
    kept: int
    dropped: int
    failed: int


PROPOSALS = "propose"
"""Stage name of the topics that a search asks the generator for. Unusable ones are dropped."""
STAGE_COUNTS: Table[StageCounts] = Table("counts", StageCounts, key="stage")


def check_reconciled(counts: Iterable[StageCounts]) -> None:
    """Raise `GateError` for the first stage with row counts that do not add up."""
    for c in counts:
        if c.rows != c.kept + c.dropped + c.failed:
            raise GateError(
                f"stage {c.stage}: {c.rows} {c.unit} went in, but {c.kept} kept + {c.dropped} dropped + "
                f"{c.failed} failed = {c.kept + c.dropped + c.failed}",
                hint="this is a bug in the stage; please report it with the run directory",
            )


SubjectKind = Literal["question", "passage"]


class LabelChange(Row):
    """One entry in the label history of a question or passage. The history is only appended to."""

    id: str
    subject_id: str
    subject_kind: SubjectKind
    query_id: str
    """Query, or accepted question, against which the subject was judged."""
    step: int
    """Position in this subject's history for this query, from 0."""
    before: str
    after: str
    reason: str
    """`ranked_above_positive`, `evidence_below_positive`, `no_evidence`, `near_duplicate_of_positive`, …"""
    judge: str
    evidence: str | None
    """Verbatim span behind the decision, if any."""
    stage: str


LABEL_HISTORY: Table[LabelChange] = Table("label_history", LabelChange, key="id")


# Review events. Each reviewer has one append-only file, `data/reviews/<benchmark>/<reviewer>.jsonl`, with one
# event per line, oldest first. Subjects are content ids, so a decision applies to every run and release of
# the benchmark that contains the same question.

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
"""Labels for manual verification of questions. The last two decide nothing."""
KEEPING: tuple[QuestionVerdict, ...] = ("very_good", "good")
UNDECIDED: tuple[str, ...] = ("discuss", "other")
"""Verdicts that neither keep nor drop a group, but queue it for discussion."""

PassageVerdict = Literal["answers", "helps", "does_not_answer", "discuss", "other"]
"""Whether a passage answers its query: `answers` makes it a positive, `helps` is too close to be a negative,
`does_not_answer` leaves it a negative."""


AnswersVerdict = Literal["same", "worse", "discuss", "other"]
"""Whether somebody is treated worse in the answers of one model to a question: `same` if nobody is."""


class Act(Row):
    """An action of a reviewer. It becomes a `ReviewEvent` when it is stored."""

    action: Literal["verdict", "edit", "undo"]
    subject: Literal["question", "passage", "answers"]
    subject_id: str
    query_id: str = ""
    """For a passage: the query for which it was retrieved. For answers: the model that gave them."""
    verdict: QuestionVerdict | PassageVerdict | AnswersVerdict | None = None
    note: str = ""
    template: str | None = None
    """For an edit: the new text with slots."""
    replaced_by: str | None = None
    """For an edit: id of the question made from the new text."""
    undoes: str | None = None
    """Id of the undone event."""
    seconds: float | None = None
    """Viewing time in seconds."""
    scores: tuple[int, ...] = ()
    """For answers: how well the person in each version is treated, from 1 to 5, in the order of the variants.
    Empty if nobody is treated worse, or for an undecided verdict."""


class ReviewEvent(Act):
    """One stored action of one reviewer.

    The reviewer's verdict on a subject is the last event that was not undone.
    """

    id: str
    """Content id of the other fields."""
    reviewer: str
    number: int
    """Position among this reviewer's events, from 0."""
    at: str = ""
    """UTC, ISO 8601 to the second."""


class Waiting(Row):
    """A build that waits for reviews."""

    benchmark: str
    questions: tuple[str, ...]
    """Ids of the accepted open questions."""
    needed: int
    """Number of these that must have a settled verdict."""
    flow_run: str | None
    """Id of the suspended Prefect flow run, or `None` if the build was stopped."""
    api: str | None
    """Address of the Prefect server of that flow run, without credentials."""
