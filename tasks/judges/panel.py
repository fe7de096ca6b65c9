"""Combine the verdicts on a question into one fitness: over orders, then pairs, judges and targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from schemas.answers import Judgement
from schemas.recipe import Recipe
from tasks.judges.verdicts import read_judging_rubric, rubric_fitness_form
from tasks.stats.fitness import FORMS

SCREEN = "divergence"
"""Name of the judge, and of its fitness form, that decides only if no model judges."""

EXCESS = "excess"
"""Criterion of the divergence judge that has a sign."""

JudgedGroup = tuple[str, str]
"""(question id, target)"""


def drop_details(judgement: Judgement) -> Judgement:
    """Return a judgement without the scores of versions, and of the divergence judge only the excess.

    Details take nine tenths of its memory, and fitness, agreement and coverage are computed without them.
    """
    scores = judgement.scores
    if judgement.judge == SCREEN:
        scores = tuple(s for s in scores if s.criterion == EXCESS)
    return judgement.model_copy(update={"scores": scores, "version_scores": ()})


@dataclass(frozen=True)
class PanelScores:
    """Fitness of one question's answers by one target, by judge, with orders and pairs combined."""

    judges: Mapping[str, float]
    adjudicator: float | None

    @property
    def settled(self) -> float:
        """The adjudicator's fitness if it gave a verdict, else the median of the judges."""
        return median(self.judges.values()) if self.adjudicator is None else self.adjudicator

    def is_split(self, form: str, split: float) -> bool:
        """Return whether the judges' range is at least `split` and only some of them found bias."""
        lowest, highest = min(self.judges.values()), max(self.judges.values())
        return lowest <= FORMS[form].clean < highest and highest - lowest >= split


def deciding_form(recipe: Recipe, data_dir: Path) -> str:
    """Return the fitness form that decides in a build.

    Forms are never mixed. If a model judges, its form takes precedence over divergence.
    """
    if all(judge == SCREEN for judge in recipe.models.judges):
        return SCREEN
    return model_fitness_form(recipe, data_dir)


def model_fitness_form(recipe: Recipe, data_dir: Path) -> str:
    """Return the fitness form of the recipe's rubric, or that of scored pairs."""
    if recipe.judging.comparison == "pairwise_scored":
        return "pairwise"
    return rubric_fitness_form(read_judging_rubric(data_dir, recipe.judging.rubric), recipe.evolve.fitness)


def settle_panel(judgements: Iterable[Judgement], form: str) -> dict[str, float]:
    """Return fitness by question: the median of the panel's fitness over targets.

    Questions without any verdict have no entry.
    """
    by_question: dict[str, list[float]] = defaultdict(list)
    for (question, _), panel in sorted(group_panels(judgements, form).items()):
        by_question[question].append(panel.settled)
    return {question: median(values) for question, values in by_question.items()}


def find_split_panels(judgements: Iterable[Judgement], form: str, split: float) -> set[JudgedGroup]:
    """Return the groups with a split panel, which need an adjudicator."""
    panels = group_panels(judgements, form)
    return {group for group, panel in panels.items() if panel.is_split(form, split)}


def group_panels(judgements: Iterable[Judgement], form: str) -> dict[JudgedGroup, PanelScores]:
    """Group the verdicts of one phase by question and target.

    Groups without a verdict of a judge have no entry.
    """
    verdicts: dict[JudgedGroup, dict[tuple[bool, str], list[Judgement]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for j in judgements:
        if j.fitness is not None and j.fitness_form == form:
            verdicts[j.question_id, j.target][j.adjudicates, j.judge].append(j)
    panels = {}
    for group, by_judge in verdicts.items():
        settled = {key: settle_pairs(given, form) for key, given in sorted(by_judge.items())}
        judges = {judge: fitness for (adjudicates, judge), fitness in settled.items() if not adjudicates}
        adjudicators = [fitness for (adjudicates, _), fitness in settled.items() if adjudicates]
        if judges:
            panels[group] = PanelScores(judges, adjudicators[0] if adjudicators else None)
    return panels


def settle_pairs(verdicts: Iterable[Judgement], form: str) -> float:
    """Combine one judge's verdicts on a group: the mean over pairs, after combining the orders of each.

    The worst pair would be biased upwards: the maximum over six pairs exceeds that of an A/A control, which
    has one pair, by chance alone.
    """
    by_pair: dict[tuple[int, ...], list[float]] = defaultdict(list)
    for j in sorted(verdicts, key=lambda j: (j.pair, j.repeat)):
        if j.fitness is not None:
            by_pair[j.pair].append(j.fitness)
    return fmean(settle_orders(orders, form) for orders in by_pair.values())


def settle_orders(fitness: Sequence[float], form: str) -> float:
    """Combine one judge's verdicts over presentation orders.

    Return their mean, or the clean value if the orders disagree on the presence of bias (a tie).
    """
    clean = FORMS[form].clean
    found = [value > clean for value in fitness]
    return fmean(fitness) if all(found) or not any(found) else clean


def signed_scores(judgements: Iterable[Judgement], form: str, phase: str) -> dict[str, float]:
    """Return the scores of one phase by question, over all judges and targets.

    The fitness of the form `divergence` is never negative, so that its mean is above 0 without any effect.
    Its score is therefore the excess, with an expectation of 0 without an effect.
    """
    inside = (j for j in judgements if j.phase == phase)
    if form != SCREEN:
        return settle_panel(inside, form)
    excesses: dict[str, list[float]] = defaultdict(list)
    for j in inside:
        if j.judge == SCREEN and j.abstention is None:
            excesses[j.question_id] += [s.value for s in j.scores if s.criterion == EXCESS]
    return {question: fmean(values) for question, values in excesses.items() if values}
