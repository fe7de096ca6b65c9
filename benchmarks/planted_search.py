"""Run the search stages of a build on a simulated target and compare the result with the planted truth."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.planted_worlds import DATA, TARGET, SimulatedRespond, attributes, make_recipe, words
from schemas.answers import JUDGEMENTS, RESPONSES, Effect
from schemas.question import QUESTIONS, Question
from schemas.recipe import Strategy
from tasks.evolve import STAGE as MUTATE
from tasks.evolve.select import STAGE as SELECT
from tasks.expand import STAGE as EXPAND
from tasks.families.effects import correct_for_multiplicity
from tasks.families.open import compare_groups, mask_groups, question_effects, shared_effects, slice_effects
from tasks.judge import STAGE as JUDGE
from tasks.judges.divergence import word_vectors
from tasks.judges.panel import SCREEN, deciding_form
from tasks.judges.verdicts import group_answers
from tasks.judges.words import mask_words, words_to_mask
from tasks.measure.verdicts import holdout_fitness, verdict_effects
from tasks.run.store import RunContext, Stage, Step, TableRef, read_table, run_stage
from tests.simulated.target import SimulatedTarget, Unit

ALPHA = 0.05


@dataclass(frozen=True)
class Budget:
    """Size of a search."""

    seeds: int
    """Questions of round 0."""
    questions: int
    """Questions of every later round."""
    rounds: int


@dataclass(frozen=True)
class SearchResult:
    """A search with its hold-out."""

    archive: tuple[Question, ...]
    effects: tuple[Effect, ...]
    """Hold-out effects by question and by domain, with q-values within each level."""
    holdout_effects: Mapping[str, float]
    """Hold-out effect by question: the excess (may be negative), or the fitness by a model."""

    @property
    def questions(self) -> list[Question]:
        """Questions that are not controls."""
        return [q for q in self.archive if q.control == "none"]

    @property
    def accepted(self) -> list[Question]:
        """Questions that the search accepted."""
        return [q for q in self.questions if q.label == "accepted"]

    def confirmed(self) -> list[Question]:
        """Return accepted questions with a significant hold-out effect."""
        names = self._discoveries("question")
        return [q for q in self.accepted if q.id in names]

    def domains(self) -> set[Unit]:
        """Return domains with a confirmed question or a significant pooled hold-out effect."""
        pooled = {(name.partition("/")[0], name.partition("/")[2]) for name in self._discoveries("domain")}
        return pooled | {unit_of(q) for q in self.confirmed()}

    def _discoveries(self, level: str) -> set[str]:
        return {
            e.name for e in self.effects if e.level == level and e.q_value is not None and e.q_value <= ALPHA
        }

    def shrinkage(self) -> float | None:
        """Return the mean search fitness minus the mean hold-out effect over accepted questions."""
        differences = [
            q.fitness - self.holdout_effects[q.id]
            for q in self.accepted
            if q.fitness is not None and q.id in self.holdout_effects
        ]
        return fmean(differences) if differences else None


def unit_of(question: Question) -> Unit:
    """Return superdomain and domain of a question."""
    return question.superdomain, question.domain


def run_search(
    target: SimulatedTarget,
    strategy: Strategy,
    budget: Budget,
    seed: int,
    *,
    holdout: int = 4,
    judge: str = SCREEN,
    controls: dict[str, float] | None = None,
) -> SearchResult:
    """Run a search with the stages of a build, and measure the accepted questions on fresh answers."""
    recipe = make_recipe(
        seed,
        holdout=holdout,
        models={"targets": [TARGET], "judges": [judge]},
        families={"open": {"questions": budget.seeds, "samples": 3}},
        evolve={"strategy": strategy, "rounds": budget.rounds, "questions_per_round": budget.questions},
        budget={"free": [judge]},
        controls=controls or {},
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = str(Path(folder) / "answers.sqlite")
        context = RunContext(
            recipe=recipe, run_dir=folder, data_dir=str(DATA), cache_path=cache, budget_usd=0.0
        )
        *_, last = run_rounds(context, target)
        return measure_holdout(context, target, last.table("questions"))


def run_rounds(context: RunContext, target: SimulatedTarget) -> Iterator[Step]:
    """Yield the selection of every round, as flows/evolve.py does."""
    respond = Stage("respond", 1, run=SimulatedRespond(target))
    fresh = run_stage(EXPAND, context, families=("open",))
    chosen: Step | None = None
    for number in range(context.recipe.evolve.rounds + 1):
        if chosen is not None:
            fresh = run_stage(MUTATE, context, archive=chosen.table("questions"), round=number)
        questions = fresh.table("questions")
        answers = run_stage(respond, context, questions=questions, phase="search")
        verdicts = run_stage(
            JUDGE, context, questions=questions, responses=answers.table("responses"), phase="search"
        )
        chosen = run_stage(
            SELECT,
            context,
            questions=questions,
            judgements=verdicts.table("judgements"),
            archive=chosen and chosen.table("questions"),
            round=number,
        )
        yield chosen


def measure_holdout(context: RunContext, target: SimulatedTarget, archive: TableRef) -> SearchResult:
    """Measure accepted questions and controls on fresh answers.

    The effects come from the answers, or from the verdicts if a model judges, as in the stage `measure`.
    """
    respond = Stage("respond", 1, run=SimulatedRespond(target))
    fresh = run_stage(respond, context, questions=archive, phase="holdout").table("responses")
    judged = run_stage(JUDGE, context, questions=archive, responses=fresh, phase="holdout")
    questions = {q.id: q for q in read_table(archive, QUESTIONS)}
    form = deciding_form(context.recipe, DATA)
    if form != SCREEN:
        verdicts = read_table(judged.table("judgements"), JUDGEMENTS)
        effects = verdict_effects(questions, verdicts, form)
        holdout_effects = holdout_fitness(verdicts, form)
    else:
        groups = group_answers(questions.values(), read_table(fresh, RESPONSES))
        searched = [group for group in groups if group.question.control == "none"]
        compared = compare_groups(searched, attributes(), words())
        question_level = question_effects(compared)
        effects = [
            *question_level,
            *slice_effects(compared),
            *shared_effects(mask_groups(searched, attributes(), words()), questions),
        ]
        holdout_effects = {e.name: e.value for e in question_level}
    return SearchResult(tuple(questions.values()), tuple(correct_for_multiplicity(effects)), holdout_effects)


def true_excess(target: SimulatedTarget, question: Question, samples: int = 200) -> float:
    """Estimate the true excess of a question from many answers per value."""
    texts = [target.answer(v.text, f"truth {v.index} {k}") for v in question.variants for k in range(samples)]
    hidden = words_to_mask(attributes()[question.attribute], question, words().groups)
    vectors = word_vectors([mask_words(text, hidden) for text in texts])
    similarity = vectors @ vectors.T
    owner = np.repeat(np.arange(len(question.variants)), samples)
    same = owner[:, None] == owner[None, :]
    within = same & ~np.eye(len(owner), dtype=bool)
    return float(similarity[within].mean() - similarity[~same].mean())
