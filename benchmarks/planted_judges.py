"""A scripted judge of known quality, asked over HTTP: what it makes of the simulated target's answers, how
often it finds what is not there, and whether an audit sees through judges with a planted bias."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

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
from schemas.judgement import Judgement
from schemas.question import Question
from schemas.recipe import Bar, Recipe
from tasks.families.expanding import expand_family
from tasks.judge import ask_judge
from tasks.judging.groups import AnswerGroup, group_answers
from tasks.measuring.effects import Slice, correct_for_multiplicity
from tasks.measuring.open_questions import compare_groups, question_effects
from tasks.measuring.shared_differences import shared_effect
from tasks.measuring.verdicts import holdout_fitness, verdict_effects
from tasks.store import RunContext
from tests.servers.openai_server import OpenAIServer
from tests.servers.scripted_judges import ScriptedJudge
from tests.simulated.target import Kind, Plant, badness_of
from tests.tasks.auditing.material import audit_scripted, scripted

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
        return ask_judge(context, judge, groups, attributes())


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


PLANTED_IN_JUDGES = {
    "position": ("position", "first_picked"),
    "verbosity": ("verbosity", "pick_accuracy_lost"),
    "authority": ("authority", "pick_accuracy_lost"),
}
"""Bias of the judge, and the probe and measure that must see it."""


def audits(scenes: int, rates: Sequence[float]) -> dict[str, object]:
    """Which planted biases of judges the audit finds, and what it says of a clean one."""
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        clean = audit_scripted(Path(folder), scripted(noise=NOISE, overlooks=OVERLOOKS), scenes=scenes)
        found["clean_passes"] = not clean.shortfalls(Bar())
        found["clean_accused"] = [
            bias for bias, measure in PLANTED_IN_JUDGES.items() if _differs(clean.result(*measure))
        ]
    for bias, measure in PLANTED_IN_JUDGES.items():
        for rate in rates:
            with tempfile.TemporaryDirectory() as folder:
                passport = audit_scripted(Path(folder), scripted(noise=NOISE, **{bias: rate}), scenes=scenes)
            found[f"{bias} {rate:g}"] = _differs(passport.result(*measure))
    return found


def _differs(result: object) -> bool:
    return bool(getattr(result, "differs_from_floor", False))
