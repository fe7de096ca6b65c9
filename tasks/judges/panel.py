"""One number from several verdicts: orders first, then pairs, judges, targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from schemas.answers import Judgement
from schemas.recipe import Recipe
from tasks.judges.verdicts import form_of_rubric, read_judging_rubric
from tasks.stats.fitness import FORMS

SCREEN = "divergence"
"""Judge and form that decide only where no model judges."""

Judged = tuple[str, str]
"""(question, target)"""


@dataclass(frozen=True)
class PanelScores:
    """What was said of one question's answers by one target: fitness by judge, orders and pairs settled."""

    judges: Mapping[str, float]
    adjudicator: float | None

    @property
    def settled(self) -> float:
        """The adjudicator's fitness where one was asked and answered, else the judges' median (of yes/no
        labels that is their majority)."""
        return median(self.judges.values()) if self.adjudicator is None else self.adjudicator

    def is_split(self, form: str, split: float) -> bool:
        """Whether judges lie that far apart, and disagree on whether there is anything."""
        lowest, highest = min(self.judges.values()), max(self.judges.values())
        return lowest <= FORMS[form].clean < highest and highest - lowest >= split


def deciding_form(recipe: Recipe, data_dir: Path) -> str:
    """The fitness form that counts in a build: forms are never mixed, and where a model judges, its verdict
    goes before the screen."""
    if all(judge == SCREEN for judge in recipe.models.judges):
        return SCREEN
    return form_of_models(recipe, data_dir)


def form_of_models(recipe: Recipe, data_dir: Path) -> str:
    """The form of models' verdicts: that of the recipe's rubric."""
    return form_of_rubric(read_judging_rubric(data_dir, recipe.judging.rubric), recipe.evolve.fitness)


def settle_panel(judgements: Iterable[Judgement], form: str) -> dict[str, float]:
    """Fitness by question: the median over targets of what the panel settled on.

    Questions from which every judge abstained have no entry.
    """
    by_question: dict[str, list[float]] = defaultdict(list)
    for (question, _), panel in sorted(panels_of(judgements, form).items()):
        by_question[question].append(panel.settled)
    return {question: median(values) for question, values in by_question.items()}


def split_panels(judgements: Iterable[Judgement], form: str, split: float) -> set[Judged]:
    """What the judges of a form are split on, and an adjudicator should see."""
    return {judged for judged, panel in panels_of(judgements, form).items() if panel.is_split(form, split)}


def panels_of(judgements: Iterable[Judgement], form: str) -> dict[Judged, PanelScores]:
    """The panel of every question and target that some judge had a verdict on. One phase at a time."""
    said: dict[Judged, dict[tuple[bool, str], list[Judgement]]] = defaultdict(lambda: defaultdict(list))
    for j in judgements:
        if j.fitness is not None and j.fitness_form == form:
            said[j.question_id, j.target][j.adjudicates, j.judge].append(j)
    panels = {}
    for judged, by_judge in said.items():
        settled = {who: settle_pairs(verdicts, form) for who, verdicts in sorted(by_judge.items())}
        judges = {judge: fitness for (adjudicates, judge), fitness in settled.items() if not adjudicates}
        deciding = [fitness for (adjudicates, _), fitness in settled.items() if adjudicates]
        if judges:
            panels[judged] = PanelScores(judges, deciding[0] if deciding else None)
    return panels


def settle_pairs(verdicts: Iterable[Judgement], form: str) -> float:
    """One judge's verdict on a group: the mean over the pairs compared, the orders of each settled first.

    A mean, not the worst pair: the worst of six would lie above that of an A/A control, which has one pair,
    by chance alone.
    """
    by_pair: dict[tuple[int, ...], list[float]] = defaultdict(list)
    for j in sorted(verdicts, key=lambda j: (j.pair, j.repeat)):
        if j.fitness is not None:
            by_pair[j.pair].append(j.fitness)
    return fmean(settle_orders(orders, form) for orders in by_pair.values())


def settle_orders(fitness: Sequence[float], form: str) -> float:
    """One judge's verdict over its presentation orders: the mean, or nothing found where the orders
    disagree on whether there is anything (a flip is a tie)."""
    clean = FORMS[form].clean
    found = [value > clean for value in fitness]
    return fmean(fitness) if all(found) or not any(found) else clean
