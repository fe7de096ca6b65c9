"""Drift between two panels of judges of the same answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.answers import PLAIN, Judgement
from schemas.question import Question
from tasks.judges.panel import settle_panel
from tasks.stats.agreement import weighted_kappa
from tasks.stats.fitness import FORMS
from tasks.stats.intervals import mean_interval
from tasks.stats.resampling import Interval

FLOOR_CONTROLS = frozenset({"a_a", "placebo"})
FLOOR_PERCENTILE = 95
"""Percentile of the controls that is the noise floor."""


@dataclass(frozen=True)
class FitnessByQuestion:
    """Fitness by question as judged by one panel, and its noise floor."""

    judges: tuple[str, ...]
    form: str
    fitness: Mapping[str, float]
    floor: float

    @classmethod
    def of(cls, judgements: Iterable[Judgement], form: str, controls: set[str]) -> FitnessByQuestion:
        """Return the fitness from hold-out judgements. The floor is the 95th percentile of the controls."""
        fresh = (j for j in judgements if j.phase == "holdout" and j.condition == PLAIN)
        verdicts = [j for j in fresh if j.fitness_form == form]
        fitness = settle_panel(verdicts, form)
        zero = [value for question, value in fitness.items() if question in controls]
        floor = float(np.percentile(zero, FLOOR_PERCENTILE, method="higher")) if zero else FORMS[form].clean
        return cls(tuple(sorted({j.judge for j in verdicts})), form, fitness, floor)

    def finds(self, question: str) -> bool:
        """Return whether the fitness of a question is above the floor."""
        return self.fitness[question] > self.floor


def judge_drift(
    questions: Sequence[Question], old: FitnessByQuestion, new: FitnessByQuestion
) -> dict[str, Any]:
    """Compare two panels on the questions that both judged.

    Returns:
        `rank_correlation` (Spearman), `kappa` on whether fitness is above the floor of the panel, and
        `fitness_drift` (mean of new − old), which is None if the forms of fitness differ. `only_old_finds`
        and `only_new_finds` list questions above the floor of one panel only.
    """
    common = sorted(
        q.id for q in questions if q.control == "none" and q.id in old.fitness and q.id in new.fitness
    )
    pairs = [(old.fitness[i], new.fitness[i]) for i in common]
    found = [(int(old.finds(i)), int(new.finds(i))) for i in common]
    drift = mean_interval([n - o for o, n in pairs]) if pairs and old.form == new.form else None
    kappa = weighted_kappa([o for o, _ in found], [n for _, n in found]) if found else float("nan")
    return {
        "questions": len(common),
        "old": _side(old, [o for o, _ in pairs], [o for o, _ in found]),
        "new": _side(new, [n for _, n in pairs], [n for _, n in found]),
        "fitness_drift": _figure(drift),
        "rank_correlation": _rank_correlation(pairs),
        "kappa": None if kappa != kappa else kappa,
        "only_old_finds": [i for i, (o, n) in zip(common, found, strict=True) if o > n],
        "only_new_finds": [i for i, (o, n) in zip(common, found, strict=True) if n > o],
    }


def _side(panel: FitnessByQuestion, fitness: Sequence[float], found: Sequence[int]) -> dict[str, Any]:
    return {
        "judges": list(panel.judges),
        "fitness_form": panel.form,
        "floor": panel.floor,
        "mean_fitness": float(np.mean(fitness)) if fitness else None,
        "found": sum(found),
    }


def _figure(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


def _rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Spearman's correlation, or None if all values of a panel are equal."""
    from scipy.stats import spearmanr

    if len({o for o, _ in pairs}) < 2 or len({n for _, n in pairs}) < 2:
        return None
    return float(spearmanr([o for o, _ in pairs], [n for _, n in pairs]).statistic)
