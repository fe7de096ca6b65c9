"""A scripted judge of known quality, asked over HTTP: what it makes of the simulated target's answers, how
often it finds what is not there, and whether an audit sees through judges with a planted bias."""

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
    answers_of,
    attributes,
    domains,
    groups_of,
    plant_in,
    recipe_of,
    script,
    target_of,
    words,
)
from schemas.answers import Judgement
from schemas.gate import Passport
from schemas.question import Question
from schemas.recipe import Bar, Recipe
from tasks.expand import expand_family
from tasks.families.effects import Slice, correct_for_multiplicity
from tasks.families.open import compare_groups, question_effects, shared_effect
from tasks.judge import run_judge
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.measure.verdicts import holdout_fitness, verdict_effects
from tasks.run.store import RunContext
from tests.servers.openai_server import OpenAIServer
from tests.servers.scripted_judges import ScriptedJudge
from tests.simulated.target import Kind, Plant, badness_of
from tests.tasks.audit.material import audit_scripted, scripted

FORM = "normalised"
NOISE = 0.01
OVERLOOKS = {1: 0.3, 2: 0.1, 3: 0.0}
"""Known error rates: verdicts that say the opposite; and differences that are overlooked, by how many of
three answers show them."""
ALPHA = 0.05


@contextmanager
def scripted_judge(seed: int) -> Iterator[str]:
    """The name of a judge that answers over loopback."""
    judge = ScriptedJudge(badness=badness_of(script().bank), noise=NOISE, overlooks=OVERLOOKS, seed=seed)
    with OpenAIServer(judge) as server:
        yield server.model("judge")


def ask(groups: Sequence[AnswerGroup], recipe: Recipe, seed: int) -> list[Judgement]:
    """The scripted judge's verdicts, in both orders where it found something."""
    with scripted_judge(seed) as judge, tempfile.TemporaryDirectory() as folder:
        context = RunContext(
            recipe=recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"free": (judge,)})}),
            run_dir=folder,
            data_dir=str(DATA),
            cache_path=str(Path(folder) / "answers.sqlite"),
            budget_usd=0.0,
        )
        return run_judge(context, judge, groups, attributes())


def fitness_of(kind: Kind | None, size: str, questions: Sequence[Question]) -> list[float]:
    """Hold-out fitness of each question, a planted effect being in all of them or in none."""
    plants = [] if kind is None else [Plant(kind, SIZES[size], frozenset(domains()), DISFAVOURED)]
    recipe = recipe_of(1)
    groups = groups_of(target_of(plants, "middle", 1), recipe, questions)
    return list(holdout_fitness(ask(groups, recipe, 1), FORM).values())


@dataclass(frozen=True)
class Release:
    """One release's hold-out: what was tested, what was called a discovery, and how many were none."""

    clean: tuple[float, ...]
    """p-values of clean questions and of A/A controls (these by the divergence judge only)."""
    discoveries: int
    false: int

    @property
    def false_share(self) -> float:
        return self.false / self.discoveries if self.discoveries else 0.0


def release(seed: int, *, planted: int, samples: int, llm: bool) -> Release:
    """Questions and as many controls, so many domains planted at the large size; Benjamini and Hochberg over
    the questions."""
    recipe = recipe_of(
        seed,
        holdout=samples,
        families={"open": {"questions": 80}},
        controls={"a_a": 0.5, "placebo": 0.5, "neutral": 0},
    )
    asked = {q.id: q for q in expand_family(recipe, DATA, "open")}
    units = sorted({(q.superdomain, q.domain) for q in asked.values()})
    biased = frozenset(Random(seed).sample(units, planted))
    target = target_of(plant_in(sorted(biased), size="large"), "middle", seed)
    groups = group_answers(asked.values(), answers_of(target, recipe, asked.values(), "holdout"))
    if llm:
        effects = verdict_effects(asked, ask(groups, recipe, seed), FORM)
    else:
        effects = question_effects(compare_groups(groups, attributes(), words()))
    of_questions = [e for e in effects if e.level == "question"]
    searched = [e for e in of_questions if asked[e.name].control == "none"]
    found = [e for e in correct_for_multiplicity(searched) if (e.q_value or 0.0) <= ALPHA]

    def is_clean(name: str) -> bool:
        q = asked[name]
        return q.control != "none" or (q.superdomain, q.domain) not in biased

    return Release(
        tuple(e.p_value for e in of_questions if e.p_value is not None and is_clean(e.name)),
        len(found),
        sum(is_clean(e.name) for e in found),
    )


def shared_p_values(seed: int, questions: Sequence[Question], size: int = 10) -> list[float]:
    """p of the shared difference for slices of clean questions."""
    recipe = recipe_of(seed)
    groups = groups_of(target_of([], "middle", seed), recipe, questions)
    found = [
        shared_effect(
            Slice("domain", f"{seed}/{start}", "open", "gender", TARGET),
            groups[start : start + size],
            attributes()["gender"],
            words(),
        )
        for start in range(0, len(groups) - size + 1, size)
    ]
    return [e.p_value for e in found if e is not None and e.p_value is not None]


@dataclass(frozen=True)
class JudgeBias:
    """A bias planted in a judge, and the probe and measure of the audit that must see it."""

    name: str
    rate: float
    """How often it decides, so that the measure is about 20 points off."""
    probe: str
    measure: str

    def found(self, passport: Passport) -> bool:
        return passport.result(self.probe, self.measure).differs_from_floor


JUDGE_BIASES = (
    JudgeBias("position", 0.4, "position", "first_picked"),
    JudgeBias("verbosity", 0.3, "verbosity", "pick_accuracy_lost"),
    JudgeBias("authority", 0.25, "authority", "pick_accuracy_lost"),
)
SCENES = 62
"""All that there are."""


def audit_clean(seed: int) -> tuple[bool, list[bool]]:
    """Whether a judge without a planted bias passes, and which biases it is accused of."""
    passport = _audit(seed, overlooks=OVERLOOKS)
    return not passport.shortfalls(Bar()), [bias.found(passport) for bias in JUDGE_BIASES]


def audit_biased(bias: JudgeBias, strength: float, seed: int) -> tuple[bool, float]:
    """Whether the audit finds the bias, and what it measures."""
    passport = _audit(seed, **{bias.name: strength * bias.rate})
    return bias.found(passport), passport.result(bias.probe, bias.measure).value or 0.0


def _audit(seed: int, **judge: Any) -> Passport:
    with tempfile.TemporaryDirectory() as folder:
        return audit_scripted(Path(folder), scripted(noise=NOISE, seed=seed, **judge), scenes=SCENES)
