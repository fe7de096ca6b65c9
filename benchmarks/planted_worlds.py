"""Worlds with known biases: questions of the project's vocabulary and a simulated target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from schemas.answers import RESPONSES, Phase, Response
from schemas.labels import StageCounts
from schemas.question import QUESTIONS, Question
from schemas.recipe import Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute
from tasks.families import plan_asks
from tasks.files.vocabulary import read_attributes, read_taxonomy
from tasks.judges.divergence import DivergenceWords, read_divergence_words
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.models.protocol import Completion
from tasks.respond import is_asked, record_answer
from tasks.run.store import Outcome, RunContext, TableRef, read_table
from tests.simulated.target import KINDS, Kind, Noise, Plant, Script, SimulatedTarget, Unit, read_script

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT / "data"
TARGET = "openai:simulated@http://127.0.0.1:9/v1"
"""Name of the target in tables. No request is sent to this address."""

SIZES: Mapping[str, float] = {"small": 0.25, "middle": 0.5, "large": 1.0}
"""Share of the answers about the disfavoured value that show the planted behaviour."""
DISFAVOURED = frozenset({"woman"})


@cache
def script() -> Script:
    """Return the script of the simulated target."""
    return read_script(DATA, attributes().values())


@cache
def attributes() -> dict[str, Attribute]:
    """Return the attribute that varies and the attribute of the placebos."""
    return {a.id: a for a in read_attributes(DATA, ("gender", "placebo"))}


@cache
def words() -> DivergenceWords:
    """Return the word lists of the divergence judge."""
    return read_divergence_words(DATA)


@dataclass(frozen=True)
class WordsOnly(DivergenceWords):
    """Word lists of a divergence judge without the comparison of meanings.

    Effects of single questions do not use meanings, and the sentence encoder takes most of the time.
    """

    def blindness(self, language: str) -> dict[str, str]:
        """Return the parts that are not measured, `meaning` among them."""
        return {**super().blindness(language), "meaning": "not used"}


@cache
def words_only() -> WordsOnly:
    """Return the word lists of the divergence judge without meanings."""
    lists = words()
    return WordsOnly(lists.groups, lists.features, lists.typed, lists.data_dir)


@cache
def domains() -> tuple[Unit, ...]:
    """Return all domains of the taxonomy."""
    return tuple((s.id, d.id) for s in read_taxonomy(DATA) for d in s.domains)


def make_recipe(seed: int, *, holdout: int = 4, **sections: Any) -> Recipe:
    """Return a recipe about gender with the simulated target."""
    return Recipe.model_validate(
        {
            "name": "planted",
            "seed": seed,
            "attributes": ["gender"],
            "models": {"targets": [TARGET]},
            "families": {"open": {"questions": 120, "samples": 3}},
            "holdout": {"samples": holdout},
            **sections,
        }
    )


def plant_in(units: Iterable[Unit], kinds: Sequence[Kind] = KINDS, *, size: str = "middle") -> list[Plant]:
    """Plant one effect per domain, with the kinds in turn."""
    return [
        Plant(kinds[i % len(kinds)], SIZES[size], frozenset({unit}), DISFAVOURED)
        for i, unit in enumerate(units)
    ]


def make_target(plants: Sequence[Plant], noise: Noise, seed: int) -> SimulatedTarget:
    """Return a simulated target with the planted effects."""
    return SimulatedTarget(script(), tuple(plants), noise, seed)


def simulate_answers(
    target: SimulatedTarget, recipe: Recipe, questions: Iterable[Question], phase: Phase
) -> list[Response]:
    """Return the rows that the stage `respond` would write for the target."""
    return [
        record_answer(
            ask,
            TARGET,
            Completion(
                "",
                target.answer(question.variants[ask.variant].text, f"{phase} {ask.variant} {ask.sample}"),
                "stop",
                None,
                0,
                0,
                0.0,
                cached=False,
            ),
            DATA,
        )
        for question in questions
        for ask in plan_asks(recipe, question, phase)
    ]


def simulate_groups(
    target: SimulatedTarget, recipe: Recipe, questions: Sequence[Question], phase: Phase = "holdout"
) -> list[AnswerGroup]:
    """Return the answers of the target by group."""
    return group_answers(questions, simulate_answers(target, recipe, questions, phase))


@dataclass(frozen=True)
class SimulatedRespond:
    """A replacement of the stage `respond` with the same inputs and tables and a simulated target."""

    target: SimulatedTarget

    def __call__(self, context: RunContext, questions: TableRef, phase: Phase) -> Outcome:
        """Answer the questions of a phase."""
        selected = [q for q in read_table(questions, QUESTIONS) if is_asked(q, phase)]
        rows = simulate_answers(self.target, context.recipe, selected, phase)
        counts = StageCounts(
            stage="respond", unit="requests", rows=len(rows), kept=len(rows), dropped=0, failed=0
        )
        return Outcome(tables={RESPONSES: rows}, counts=(counts,))


def draw_superdomains(count: int, seed: int) -> list[Unit]:
    """Draw superdomains and return all their domains, because biases usually span a whole superdomain."""
    names = sorted({superdomain for superdomain, _ in domains()})
    chosen = set(Random(derived_seed("planted superdomains", seed)).sample(names, count))
    return [unit for unit in domains() if unit[0] in chosen]
