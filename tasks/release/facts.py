"""What a release says of itself, read from its tables: the card and the report tell the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from schemas.decision import Dropped
from schemas.judgement import Judgement
from schemas.question import Question
from schemas.response import Phase

FLOOR_CONTROLS = frozenset({"a_a", "placebo"})
"""Controls whose true effect is zero; `neutral` ones may differ for good reason."""

DIVERGENCE = "divergence"
JudgeKind = Literal["divergence", "models", "mixed", "none"]


@dataclass(frozen=True)
class Floor:
    """What fitness controls reach by chance: the 95th percentile of `controls` judged ones."""

    value: float
    controls: int


@dataclass(frozen=True)
class Shrinkage:
    """Mean fitness of selected questions in the search, and on fresh samples (the winner's curse)."""

    search: float
    holdout: float
    questions: int


def fitness_floor(controls: Iterable[Question]) -> Floor | None:
    """The next value that occurs at or above the 95th percentile; `None` where no control was judged."""
    judged = sorted(q.fitness for q in controls if q.control in FLOOR_CONTROLS and q.fitness is not None)
    if not judged:
        return None
    rank = -(-95 * (len(judged) - 1) // 100)
    return Floor(judged[rank], len(judged))


def fitness_by_phase(
    questions: Iterable[Question], judgements: Iterable[Judgement]
) -> list[tuple[float, float]]:
    """(search, hold-out) mean fitness of every accepted question judged in both phases, by question id."""
    accepted = {q.id for q in questions if q.label == "accepted"}
    scores: dict[str, dict[Phase, list[float]]] = {}
    for j in judgements:
        if j.question_id in accepted and j.fitness is not None:
            scores.setdefault(j.question_id, {}).setdefault(j.phase, []).append(j.fitness)
    return [(fmean(by["search"]), fmean(by["holdout"])) for _, by in sorted(scores.items()) if len(by) == 2]


def shrinkage(phases: Sequence[tuple[float, float]]) -> Shrinkage | None:
    """The means over questions, each counting once; `None` where none was judged again."""
    if not phases:
        return None
    search, holdout = (fmean(side) for side in zip(*phases, strict=True))
    return Shrinkage(search, holdout, len(phases))


def judge_kind(judges: Sequence[str]) -> JudgeKind:
    """Whether people, models or a statistic decided: the reader must be told which."""
    if not judges:
        return "none"
    if DIVERGENCE not in judges:
        return "models"
    return "divergence" if len(judges) == 1 else "mixed"


def drop_reasons(dropped: Iterable[Dropped]) -> list[tuple[str, str, int]]:
    """(stage, reason, rows), the most frequent first."""
    counts = Counter((d.stage, d.reason) for d in dropped)
    return [(stage, reason, n) for (stage, reason), n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]
