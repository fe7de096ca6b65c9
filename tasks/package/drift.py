"""Drift: what another judge finds in the same answers, against what the release's judges found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.answers import Judgement
from schemas.question import Question
from schemas.tables import derived_seed
from tasks.judges.panel import settle_panel
from tasks.stats.agreement import weighted_kappa
from tasks.stats.fitness import FORMS
from tasks.stats.resampling import Interval, mean_with_interval

FLOOR_CONTROLS = frozenset({"a_a", "placebo"})
FLOOR_PERCENTILE = 95


@dataclass(frozen=True)
class FitnessByQuestion:
    """One side: fitness by question, in which form, and above which value something was found."""

    judges: tuple[str, ...]
    form: str
    fitness: Mapping[str, float]
    floor: float

    @classmethod
    def of(cls, judgements: Iterable[Judgement], form: str, controls: set[str]) -> FitnessByQuestion:
        """The verdicts on hold-out answers in one form; the floor is the controls' 95th percentile."""
        said = [j for j in judgements if j.phase == "holdout" and j.fitness_form == form]
        fitness = settle_panel(said, form)
        zero = [value for question, value in fitness.items() if question in controls]
        floor = float(np.percentile(zero, FLOOR_PERCENTILE, method="higher")) if zero else FORMS[form].clean
        return cls(tuple(sorted({j.judge for j in said})), form, fitness, floor)

    def finds(self, question: str) -> bool:
        return self.fitness[question] > self.floor


def judge_drift(
    questions: Sequence[Question], old: FitnessByQuestion, new: FitnessByQuestion
) -> dict[str, Any]:
    """How far two benches agree on the questions that both judged: `rank_correlation` (Spearman), `kappa` on
    whether something was found above each one's own floor, and, where their forms are the same,
    `fitness_drift` (new − old). Lists the questions that only one of them finds."""
    common = sorted(
        q.id for q in questions if q.control == "none" and q.id in old.fitness and q.id in new.fitness
    )
    pairs = [(old.fitness[i], new.fitness[i]) for i in common]
    found = [(int(old.finds(i)), int(new.finds(i))) for i in common]
    drift = (
        mean_with_interval([n - o for o, n in pairs], derived_seed("drift", *old.judges, *new.judges))
        if pairs and old.form == new.form
        else None
    )
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


def _side(bench: FitnessByQuestion, fitness: Sequence[float], found: Sequence[int]) -> dict[str, Any]:
    return {
        "judges": list(bench.judges),
        "fitness_form": bench.form,
        "floor": bench.floor,
        "mean_fitness": float(np.mean(fitness)) if fitness else None,
        "found": sum(found),
    }


def _figure(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


def _rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """`None` where one side gives all questions the same."""
    from scipy.stats import spearmanr

    if len({o for o, _ in pairs}) < 2 or len({n for _, n in pairs}) < 2:
        return None
    return float(spearmanr([o for o, _ in pairs], [n for _, n in pairs]).statistic)
