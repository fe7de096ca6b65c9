"""Does the search find what was planted? The stages of a build, round after round, against known truth."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.planted_worlds import DATA, TARGET, Responding, attributes, recipe_of, words
from schemas.answers import JUDGEMENTS, RESPONSES, Effect
from schemas.question import QUESTIONS, Question
from schemas.recipe import Strategy
from tasks.evolve import STAGE as MUTATE
from tasks.evolve.select import STAGE as SELECT
from tasks.expand import STAGE as EXPAND
from tasks.families.effects import correct_for_multiplicity
from tasks.families.open import compare_groups, question_effects, shared_effects, slice_effects
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
    """How much is asked: questions of round 0, questions of every later round, rounds."""

    seeds: int
    questions: int
    rounds: int


@dataclass(frozen=True)
class Found:
    """What a search left, after the hold-out."""

    archive: tuple[Question, ...]
    effects: tuple[Effect, ...]
    """Of the hold-out: by question and by domain, q-values within each level."""
    again: Mapping[str, float]
    """What fresh answers say, by question: the excess (not cut off at 0), or a model's fitness."""

    @property
    def asked(self) -> list[Question]:
        return [q for q in self.archive if q.control == "none"]

    @property
    def accepted(self) -> list[Question]:
        return [q for q in self.asked if q.label == "accepted"]

    def confirmed(self) -> list[Question]:
        """Accepted questions whose own hold-out effect is a discovery."""
        names = self._discoveries("question")
        return [q for q in self.accepted if q.id in names]

    def domains(self) -> set[Unit]:
        """Domains with a confirmed question, or with a hold-out effect of their own."""
        pooled = {(name.partition("/")[0], name.partition("/")[2]) for name in self._discoveries("domain")}
        return pooled | {unit_of(q) for q in self.confirmed()}

    def _discoveries(self, level: str) -> set[str]:
        return {
            e.name for e in self.effects if e.level == level and e.q_value is not None and e.q_value <= ALPHA
        }

    def shrinkage(self) -> float | None:
        """Mean search fitness minus mean hold-out effect, over accepted questions."""
        lost = [
            q.fitness - self.again[q.id]
            for q in self.accepted
            if q.fitness is not None and q.id in self.again
        ]
        return fmean(lost) if lost else None


def unit_of(question: Question) -> Unit:
    return question.superdomain, question.domain


def search(
    target: SimulatedTarget,
    strategy: Strategy,
    budget: Budget,
    seed: int,
    *,
    holdout: int = 4,
    judge: str = SCREEN,
    controls: dict[str, float] | None = None,
) -> Found:
    """One run: the search by the product's own stages, and the hold-out of what it accepted."""
    recipe = recipe_of(
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
        *_, last = evolve(context, target)
        return hold_out(context, target, last.table("questions"))


def evolve(context: RunContext, target: SimulatedTarget) -> Iterator[Step]:
    """The selections of all rounds, as flows/evolve.py makes them."""
    respond = Stage("respond", 1, run=Responding(target))
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


def hold_out(context: RunContext, target: SimulatedTarget, archive: TableRef) -> Found:
    """What was accepted, and the controls, on fresh answers: the effects that `measure` takes from the
    answers, or from a model's verdicts where a model judges."""
    respond = Stage("respond", 1, run=Responding(target))
    fresh = run_stage(respond, context, questions=archive, phase="holdout").table("responses")
    judged = run_stage(JUDGE, context, questions=archive, responses=fresh, phase="holdout")
    questions = {q.id: q for q in read_table(archive, QUESTIONS)}
    form = deciding_form(context.recipe, DATA)
    if form != SCREEN:
        verdicts = read_table(judged.table("judgements"), JUDGEMENTS)
        effects = verdict_effects(questions, verdicts, form)
        again = holdout_fitness(verdicts, form)
    else:
        groups = group_answers(questions.values(), read_table(fresh, RESPONSES))
        searched = [group for group in groups if group.question.control == "none"]
        compared = compare_groups(searched, attributes(), words())
        of_questions = question_effects(compared)
        effects = [
            *of_questions,
            *slice_effects(compared),
            *shared_effects(searched, attributes(), words()),
        ]
        again = {e.name: e.value for e in of_questions}
    return Found(tuple(questions.values()), tuple(correct_for_multiplicity(effects)), again)


def true_excess(target: SimulatedTarget, question: Question, samples: int = 200) -> float:
    """The excess over so many answers per value: as good as the truth."""
    texts = [target.answer(v.text, f"truth {v.index} {k}") for v in question.variants for k in range(samples)]
    hidden = words_to_mask(attributes()[question.attribute], question, words().groups)
    vectors = word_vectors([mask_words(text, hidden) for text in texts])
    alike = vectors @ vectors.T
    owner = np.repeat(np.arange(len(question.variants)), samples)
    same = owner[:, None] == owner[None, :]
    within = same & ~np.eye(len(owner), dtype=bool)
    return float(alike[within].mean() - alike[~same].mean())
