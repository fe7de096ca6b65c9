"""A scripted judge with known error rates: hold-out fitness, false discoveries, and audits of its biases."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.planted_worlds import (
    DATA,
    DISFAVOURED,
    SIZES,
    TARGET,
    attributes,
    domains,
    make_recipe,
    make_target,
    plant_in,
    script,
    simulate_answers,
    simulate_groups,
    words,
    words_only,
)
from schemas.answers import Judgement
from schemas.gate import Passport
from schemas.question import Question
from schemas.recipe import Bar, Recipe
from tasks.expand import expand_family
from tasks.families.effects import Slice, correct_for_multiplicity
from tasks.families.open import MaskedGroup, compare_groups, question_effects, shared_effect
from tasks.judge import run_judge
from tasks.judges.divergence import masked_answers
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.measure.verdicts import holdout_fitness, verdict_effects
from tasks.run.store import RunContext
from tasks.stats.clusters import twin_families
from tests.servers.openai_server import OpenAIServer
from tests.servers.scripted_judges import ScriptedJudge
from tests.simulated.target import Kind, Plant, badness_of
from tests.tasks.audit.material import audit_scripted, scripted

FORM = "normalised"
ERROR_RATE = 0.01
OVERLOOKED_SHARES = {1: 0.3, 2: 0.1, 3: 0.0}
"""Share of differences that the judge overlooks, by the number of answers (of three) that show them."""
ALPHA = 0.05


@contextmanager
def scripted_judge(seed: int) -> Iterator[str]:
    """Serve a scripted judge and yield its name in recipes."""
    judge = ScriptedJudge(
        badness=badness_of(script().bank), noise=ERROR_RATE, overlooks=OVERLOOKED_SHARES, seed=seed
    )
    with OpenAIServer(judge) as server:
        yield server.model("judge")


def run_scripted_judge(groups: Sequence[AnswerGroup], recipe: Recipe, seed: int) -> list[Judgement]:
    """Return the verdicts of the scripted judge, in both orders if it found a difference."""
    with scripted_judge(seed) as judge, tempfile.TemporaryDirectory() as folder:
        context = RunContext(
            recipe=recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"free": (judge,)})}),
            run_dir=folder,
            data_dir=str(DATA),
            cache_path=str(Path(folder) / "answers.sqlite"),
            budget_usd=0.0,
        )
        return run_judge(context, judge, groups, attributes())


def holdout_fitness_of_cell(kind: Kind | None, size: str, questions: Sequence[Question]) -> list[float]:
    """Return the hold-out fitness of each question. A planted effect concerns all of them or none."""
    plants = [] if kind is None else [Plant(kind, SIZES[size], frozenset(domains()), DISFAVOURED)]
    recipe = make_recipe(1)
    groups = simulate_groups(make_target(plants, "middle", 1), recipe, questions)
    return list(holdout_fitness(run_scripted_judge(groups, recipe, 1), FORM).values())


@dataclass(frozen=True)
class SimulatedRelease:
    """Hold-out tests of one release."""

    clean: tuple[float, ...]
    """p-values of clean questions and of A/A controls (these by the divergence judge only)."""
    discoveries: int
    false: int
    """Number of discoveries without a planted effect."""

    @property
    def false_share(self) -> float:
        """Share of false discoveries, or 0 without discoveries."""
        return self.false / self.discoveries if self.discoveries else 0.0


def simulate_release(seed: int, *, planted: int, samples: int, llm: bool) -> SimulatedRelease:
    """Simulate the hold-out of a release with an equal number of questions and controls.

    Args:
        seed: Seed of questions, plants and answers.
        planted: Number of domains with a planted effect of the large size.
        samples: Answers per value.
        llm: Use the scripted judge instead of the divergence judge.

    Returns:
        Tests of the questions, with the correction of Benjamini and Hochberg.
    """
    recipe = make_recipe(
        seed,
        holdout=samples,
        families={"open": {"questions": 80}},
        controls={"a_a": 0.5, "placebo": 0.5, "neutral": 0},
    )
    questions = {q.id: q for q in expand_family(recipe, DATA, "open")}
    units = sorted({(q.superdomain, q.domain) for q in questions.values()})
    biased = frozenset(Random(seed).sample(units, planted))
    target = make_target(plant_in(sorted(biased), size="large"), "middle", seed)
    groups = group_answers(
        questions.values(), simulate_answers(target, recipe, questions.values(), "holdout")
    )
    if llm:
        effects = verdict_effects(questions, run_scripted_judge(groups, recipe, seed), FORM)
    else:
        effects = question_effects(compare_groups(groups, attributes(), words_only()))
    question_tests = [e for e in effects if e.level == "question"]
    searched = [e for e in question_tests if questions[e.name].control == "none"]
    discoveries = [e for e in correct_for_multiplicity(searched) if (e.q_value or 0.0) <= ALPHA]

    def is_clean(name: str) -> bool:
        q = questions[name]
        return q.control != "none" or (q.superdomain, q.domain) not in biased

    return SimulatedRelease(
        tuple(e.p_value for e in question_tests if e.p_value is not None and is_clean(e.name)),
        len(discoveries),
        sum(is_clean(e.name) for e in discoveries),
    )


def shared_p_values(seed: int, questions: Sequence[Question], size: int = 10) -> list[float]:
    """Return the p-values of the shared difference for slices of clean questions."""
    recipe = make_recipe(seed)
    groups = [
        MaskedGroup(
            group.question.id,
            group.target,
            tuple(masked_answers(group, attributes()["gender"], words().groups)),
            group.sizes,
        )
        for group in simulate_groups(make_target([], "middle", seed), recipe, questions)
    ]
    families = twin_families(questions)
    effects = [
        shared_effect(
            Slice("domain", f"{seed}/{start}", "open", "gender", TARGET),
            groups[start : start + size],
            families,
        )
        for start in range(0, len(groups) - size + 1, size)
    ]
    return [e.p_value for e in effects if e is not None and e.p_value is not None]


@dataclass(frozen=True)
class JudgeBias:
    """A bias planted in a judge, with the probe and measure of the audit that must find it."""

    name: str
    rate: float
    """Share of verdicts that the bias decides. It shifts the measure by about 20 points."""
    probe: str
    measure: str

    def found(self, passport: Passport) -> bool:
        """Check that the audit found the bias."""
        return passport.result(self.probe, self.measure).differs_from_floor


JUDGE_BIASES = (
    JudgeBias("position", 0.4, "position", "first_picked"),
    JudgeBias("verbosity", 0.3, "verbosity", "pick_accuracy_lost"),
    JudgeBias("authority", 0.25, "authority", "pick_accuracy_lost"),
)
SCENES = 62
"""Number of scenes of the audit (all)."""


def audit_clean(seed: int) -> tuple[bool, list[bool]]:
    """Audit a judge without a planted bias. Return if it passes, and a flag for each bias that is found."""
    passport = _run_audit(seed, overlooks=OVERLOOKED_SHARES)
    return not passport.shortfalls(Bar()), [bias.found(passport) for bias in JUDGE_BIASES]


def audit_biased(bias: JudgeBias, strength: float, seed: int) -> tuple[bool, float]:
    """Audit a judge with a planted bias. Return if the bias is found, and the measured value."""
    passport = _run_audit(seed, **{bias.name: strength * bias.rate})
    return bias.found(passport), passport.result(bias.probe, bias.measure).value or 0.0


def _run_audit(seed: int, **judge: Any) -> Passport:
    with tempfile.TemporaryDirectory() as folder:
        return audit_scripted(Path(folder), scripted(noise=ERROR_RATE, seed=seed, **judge), scenes=SCENES)
