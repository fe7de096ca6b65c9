"""A rubric as a judge reads it, and as its answer must look."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, create_model

from schemas.judgement import Score
from schemas.vocabulary import Criterion, Rubric


def describe_criteria(rubric: Rubric) -> str:
    """The criteria as a list: what is asked, the range, what the points of the scale mean."""
    return "\n\n".join(_describe(criterion) for criterion in rubric.criteria)


def _describe(criterion: Criterion) -> str:
    points = "\n".join(f"  {point}: {meaning}" for point, meaning in sorted(criterion.anchors.items()))
    return f"- {criterion.id} ({criterion.low} to {criterion.high}): {criterion.question}\n{points}"


def verdict_type(rubric: Rubric) -> type[BaseModel]:
    """The answer's type: per criterion, reasoning and then a score out of its range. The range is spelt out
    as an enumeration, which servers enforce where they ignore bounds."""
    fields: dict[str, Any] = {c.id: (_scored(c), ...) for c in rubric.criteria}
    return create_model("Verdict", __config__=_CLOSED, **fields)


def _scored(criterion: Criterion) -> type[BaseModel]:
    points = tuple(range(criterion.low, criterion.high + 1))
    fields: dict[str, Any] = {"reasoning": (str, ...), "score": (Literal[points], ...)}
    return create_model(f"{criterion.id.title()}Score", __config__=_CLOSED, **fields)


_CLOSED = ConfigDict(extra="forbid")


def read_scores(verdict: BaseModel) -> tuple[Score, ...]:
    """The scores of a verdict, in the order of the rubric."""
    return tuple(
        Score(criterion=name, value=float(said["score"]), reasoning=said["reasoning"])
        for name, said in verdict.model_dump().items()
    )
