"""How large a planted effect must be, and how often it must be asked about, to be seen without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.planted_worlds import (
    DATA,
    DISFAVOURED,
    SIZES,
    answers_of,
    attributes,
    domains,
    recipe_of,
    target_of,
    words,
)
from schemas.question import Question
from tasks.expand import expand_family
from tasks.judges.divergence import compare_answers, masked_answers, word_vectors
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.stats.resampling import pooled_p_value
from tasks.stats.shared_difference import mean_differences
from tests.simulated.target import Kind, Noise, Plant

Floats = NDArray[np.float64]

ALPHA = 0.05
SLICES = 200
"""Slices that are drawn from the questions of a cell."""


@dataclass(frozen=True)
class Cell:
    """One combination of effect, noise and answers per value; without a kind nothing is planted."""

    kind: Kind | None
    size: str
    noise: Noise
    samples: int


@dataclass(frozen=True)
class Observed:
    """What the questions of a cell gave."""

    nulls: tuple[Floats, ...]
    """Per question: the excess, observed and permuted."""
    products: Floats
    """Of the mean differences of every two questions, on the scale of the excess."""

    @property
    def excess(self) -> Floats:
        return np.array([null[0] for null in self.nulls])

    def p_values(self) -> Floats:
        return np.array([float(np.mean(null >= null[0] - 1e-12)) for null in self.nulls])


@cache
def questions(count: int) -> tuple[Question, ...]:
    """Questions of the whole taxonomy, no controls."""
    recipe = recipe_of(
        1, families={"open": {"questions": count}}, controls=dict.fromkeys(("a_a", "placebo", "neutral"), 0)
    )
    return tuple(expand_family(recipe, DATA, "open"))


def observe(cell: Cell, count: int) -> Observed:
    """Fresh answers to `count` questions, compared. A planted effect is in all of them."""
    plants = []
    if cell.kind is not None:
        plants = [Plant(cell.kind, SIZES[cell.size], frozenset(domains()), DISFAVOURED)]
    recipe = recipe_of(1, holdout=cell.samples)
    target = target_of(plants, cell.noise, seed=1)
    asked = questions(count)
    groups = group_answers(asked, answers_of(target, recipe, asked, "holdout"))
    return compare(groups)


def compare(groups: Sequence[AnswerGroup]) -> Observed:
    """Groups that are complete and about the same values."""
    gender = attributes()["gender"]
    found = [compare_answers(group, gender, words()) for group in groups]
    texts = [text for group in groups for text in masked_answers(group, gender, words().groups)]
    differences = mean_differences(word_vectors(texts), [group.sizes for group in groups])
    flat = differences.reshape(len(groups), -1)
    return Observed(
        tuple(divergence.excess_null for divergence in found if divergence is not None),
        (flat @ flat.T) / (differences.shape[1] - 1),
    )


def draw_slices(count: int, size: int, slices: int = SLICES) -> list[NDArray[np.intp]]:
    """Which questions stand in each slice."""
    generator = np.random.default_rng([count, size])
    return [generator.choice(count, size, replace=False) for _ in range(slices)]


def mean_excess(observed: Observed, size: int) -> Floats:
    """The slices' mean excess."""
    return np.array([observed.excess[s].mean() for s in draw_slices(len(observed.nulls), size)])


def shared(observed: Observed, size: int) -> Floats:
    """The slices' shared difference."""
    inside = [observed.products[np.ix_(s, s)] for s in draw_slices(len(observed.nulls), size)]
    return np.array([(block.sum() - np.trace(block)) / (size * (size - 1)) for block in inside])


def power_of_one(observed: Observed) -> float:
    """Share of single questions that are significant."""
    return float(np.mean(observed.p_values() <= ALPHA))


def power_of_excess(observed: Observed, size: int, slices: int = 100) -> float:
    """Share of slices whose pooled permutation test is significant."""
    p_values = [
        pooled_p_value([observed.nulls[i] for i in drawn], number)
        for number, drawn in enumerate(draw_slices(len(observed.nulls), size, slices))
    ]
    return float(np.mean(np.array(p_values) <= ALPHA))


def power_of_shared(observed: Observed, clean: Observed, size: int) -> float:
    """Share of slices that share more than 95 % of the clean slices do."""
    bar = np.quantile(shared(clean, size), 1 - ALPHA)
    return float(np.mean(shared(observed, size) > bar))


def auroc(planted: Floats, clean: Floats) -> float:
    """Chance that a planted one lies above a clean one."""
    ranks = rankdata(np.concatenate([planted, clean]))[: len(planted)]
    wins = ranks.sum() - len(planted) * (len(planted) + 1) / 2
    return float(wins / (len(planted) * len(clean)))
