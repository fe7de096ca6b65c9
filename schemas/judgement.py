"""Judgements: one judge's structured scores of one group, or of two of its variants, in one order."""

from __future__ import annotations

from schemas.response import Phase
from schemas.tables import Row, Table


class Score(Row):
    """One criterion of a rubric."""

    criterion: str
    value: float
    reasoning: str


class Judgement(Row):
    """A verdict, or an abstention with its reason; never a default score."""

    id: str
    question_id: str
    judge: str
    revision: str | None
    rubric: str
    rubric_hash: str
    prompt_hash: str
    target: str
    """The model whose answers were judged."""
    phase: Phase
    order: tuple[int, ...]
    """Variant indices in the order the judge saw them."""
    pair: tuple[int, ...] = ()
    """The two variants that were compared, the lower index first; empty where all were shown at once."""
    masked: bool
    """Whether words that name the group were hidden from the judge."""
    repeat: int
    adjudicates: bool = False
    """Whether this verdict was asked for because the panel was split, and decides for it."""
    scores: tuple[Score, ...]
    """A yes/no check is 1 or 0; one that did not apply has no score."""
    fitness: float | None
    fitness_form: str
    """`normalised`, `search`, `boolean` or `divergence`: forms are never mixed."""
    p_value: float | None
    abstention: str | None
    tokens_in: int
    tokens_out: int
    cost_usd: float

    def score(self, criterion: str) -> float:
        """That criterion's value; `KeyError` where the rubric has no such criterion."""
        for score in self.scores:
            if score.criterion == criterion:
                return score.value
        raise KeyError(criterion)


JUDGEMENTS: Table[Judgement] = Table(
    "judgements", Judgement, key="id", references=(("question_id", "questions.id"),)
)
