"""What people decide about questions and passages, one event at a time; nothing is ever rewritten.

A reviewer's events stand in one file of their own, `data/reviews/<benchmark>/<reviewer>.jsonl`, a line each,
oldest first. Ids are content, so what was decided holds in every run and release of the benchmark that still
asks the same question.
"""

from __future__ import annotations

from typing import Literal

from schemas.tables import Row

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
