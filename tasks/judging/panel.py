"""One number from several verdicts: orders first, then judges and targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, median

from schemas.judgement import Judgement
from schemas.recipe import Models
from tasks.stats.fitness import FORMS

SCREEN = "divergence"
"""Judge and form that decide only where no model judges."""


def deciding_form(models: Models, fitness: str) -> str:
    """The fitness form that counts in a build: forms are never mixed, and where a model judges, its verdict
    goes before the screen. `fitness` is the recipe's choice of published form."""
    return fitness if any(judge != SCREEN for judge in models.judges) else SCREEN


def settle_panel(judgements: Iterable[Judgement], form: str) -> dict[str, float]:
    """Fitness by question: the median over judges and targets of what each said in all its orders.

    Questions from which every judge abstained have no entry.
    """
    said: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for j in judgements:
        if j.fitness is not None and j.fitness_form == form:
            said[j.question_id][(j.judge, j.target)].append(j.fitness)
    return {
        question: median(settle_orders(orders, form) for orders in by_judge.values())
        for question, by_judge in sorted(said.items())
    }


def settle_orders(fitness: Sequence[float], form: str) -> float:
    """One judge's verdict over its presentation orders: the mean, or nothing found where the orders
    disagree on whether there is anything (a flip is a tie)."""
    clean = FORMS[form].clean
    found = [value > clean for value in fitness]
    return fmean(fitness) if all(found) or not any(found) else clean
