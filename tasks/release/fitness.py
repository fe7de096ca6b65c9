"""Figures of a release that the card and the report share, computed from its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from schemas.answers import Judgement
from schemas.labels import Dropped
from schemas.question import SELECTED, Question
from tasks.judges.panel import SCREEN, settle_panel

FLOOR_CONTROLS = frozenset({"a_a", "placebo"})
"""Controls with a true effect of zero. Answers to `neutral` controls may differ for good reason."""

JudgeKind = Literal["divergence", "models", "mixed", "none"]


@dataclass(frozen=True)
class FitnessFloor:
    """The fitness that controls reach by chance."""

    value: float
    """95th percentile."""
    controls: int
    """Number of judged controls."""


@dataclass(frozen=True)
class Shrinkage:
    """The loss of fitness of selected questions on fresh samples (the winner's curse)."""

    search: float
    """Mean fitness in the search."""
    holdout: float
    """Mean fitness on hold-out samples."""
    questions: int


def compute_fitness_floor(controls: Iterable[Question]) -> FitnessFloor | None:
    """Return the 95th percentile of the fitness of controls, or `None` without judged controls."""
    judged = sorted(q.fitness for q in controls if q.control in FLOOR_CONTROLS and q.fitness is not None)
    if not judged:
        return None
    rank = -(-95 * (len(judged) - 1) // 100)
    return FitnessFloor(judged[rank], len(judged))


def pair_fitness_by_phase(
    questions: Iterable[Question], judgements: Sequence[Judgement]
) -> list[tuple[float, float]]:
    """Return the (search, hold-out) fitness of each accepted question with both, sorted by question id."""
    form = select_fitness_form(judgements)
    holdout = settle_panel((j for j in judgements if j.phase == "holdout"), form) if form else {}
    return [
        (q.fitness, holdout[q.id])
        for q in sorted(questions, key=lambda q: q.id)
        if q.label in SELECTED and q.fitness is not None and q.id in holdout
    ]


def select_fitness_form(judgements: Iterable[Judgement]) -> str | None:
    """Return the fitness form of the released scores. Verdicts of models take precedence over the screen."""
    forms = sorted({j.fitness_form for j in judgements}, key=lambda form: (form == SCREEN, form))
    return forms[0] if forms else None


def measure_shrinkage(phases: Sequence[tuple[float, float]]) -> Shrinkage | None:
    """Return the mean fitness in both phases, or `None` if no question has both."""
    if not phases:
        return None
    search, holdout = (fmean(side) for side in zip(*phases, strict=True))
    return Shrinkage(search, holdout, len(phases))


def classify_judges(judges: Sequence[str]) -> JudgeKind:
    """Return whether models, a statistic or both decided."""
    if not judges:
        return "none"
    if SCREEN not in judges:
        return "models"
    return "divergence" if len(judges) == 1 else "mixed"


def count_drop_reasons(dropped: Iterable[Dropped]) -> list[tuple[str, str, int]]:
    """Return (stage, reason, rows), most frequent first."""
    counts = Counter((d.stage, d.reason) for d in dropped)
    return [(stage, reason, n) for (stage, reason), n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]
