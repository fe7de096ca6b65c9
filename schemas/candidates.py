"""Candidate sets: a query with its positives and its hard negatives."""

from __future__ import annotations

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
