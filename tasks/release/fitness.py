"""What a release says of itself, read from its tables: the card and the report tell the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from schemas.answers import Judgement
from schemas.labels import Dropped
from schemas.question import Question
from tasks.judges.panel import SCREEN, settle_panel

FLOOR_CONTROLS = frozenset({"a_a", "placebo"})
"""Controls whose true effect is zero; `neutral` ones may differ for good reason."""

JudgeKind = Literal["divergence", "models", "mixed", "none"]


@dataclass(frozen=True)
class FitnessFloor:
    """What fitness controls reach by chance: the 95th percentile of `controls` judged ones."""

    value: float
    controls: int


@dataclass(frozen=True)
class Shrinkage:
    """Mean fitness of selected questions in the search, and on fresh samples (the winner's curse)."""

    search: float
    holdout: float
    questions: int


def fitness_floor(controls: Iterable[Question]) -> FitnessFloor | None:
    """The next value that occurs at or above the 95th percentile; `None` where no control was judged."""
    judged = sorted(q.fitness for q in controls if q.control in FLOOR_CONTROLS and q.fitness is not None)
    if not judged:
        return None
    rank = -(-95 * (len(judged) - 1) // 100)
    return FitnessFloor(judged[rank], len(judged))


def fitness_by_phase(
    questions: Iterable[Question], judgements: Sequence[Judgement]
) -> list[tuple[float, float]]:
    """(search, hold-out) fitness of every accepted question that was judged again, by question id."""
    form = deciding_fitness_form(judgements)
    again = settle_panel((j for j in judgements if j.phase == "holdout"), form) if form else {}
    return [
        (q.fitness, again[q.id])
        for q in sorted(questions, key=lambda q: q.id)
        if q.label == "accepted" and q.fitness is not None and q.id in again
    ]


def deciding_fitness_form(judgements: Iterable[Judgement]) -> str | None:
    """The form that the released scores are in: where a model judged, its verdicts go before the screen."""
    forms = sorted({j.fitness_form for j in judgements}, key=lambda form: (form == SCREEN, form))
    return forms[0] if forms else None


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
    if SCREEN not in judges:
        return "models"
    return "divergence" if len(judges) == 1 else "mixed"


def drop_reasons(dropped: Iterable[Dropped]) -> list[tuple[str, str, int]]:
    """(stage, reason, rows), the most frequent first."""
    counts = Counter((d.stage, d.reason) for d in dropped)
    return [(stage, reason, n) for (stage, reason), n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]
