"""Power of the divergence judge for planted effects, by size of the effect and number of answers."""

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
    attributes,
    domains,
    make_recipe,
    make_target,
    simulate_answers,
    words,
    words_only,
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
"""Number of slices drawn from the questions of a cell."""


@dataclass(frozen=True)
class Cell:
    """One combination of effect, noise and answers per value. `kind` is `None` if nothing is planted."""

    kind: Kind | None
    size: str
    noise: Noise
    samples: int


@dataclass(frozen=True)
class CellResult:
    """Statistics of the questions of a cell."""

    nulls: tuple[Floats, ...]
    """Per question: the observed excess, then the permuted ones."""
    products: Floats
    """Shape (n, n). Products of the mean differences of every two questions, on the scale of the excess."""

    @property
    def excess(self) -> Floats:
        """Observed excess per question."""
        return np.array([null[0] for null in self.nulls])

    def p_values(self) -> Floats:
        """Return the permutation p-value per question."""
        return np.array([float(np.mean(null >= null[0] - 1e-12)) for null in self.nulls])


@cache
def questions(count: int) -> tuple[Question, ...]:
    """Draw questions from the whole taxonomy, without controls."""
    recipe = make_recipe(
        1, families={"open": {"questions": count}}, controls=dict.fromkeys(("a_a", "placebo", "neutral"), 0)
    )
    return tuple(expand_family(recipe, DATA, "open"))


def simulate_cell(cell: Cell, count: int) -> CellResult:
    """Simulate and compare fresh answers to `count` questions. A planted effect concerns all of them."""
    plants = []
    if cell.kind is not None:
        plants = [Plant(cell.kind, SIZES[cell.size], frozenset(domains()), DISFAVOURED)]
    recipe = make_recipe(1, holdout=cell.samples)
    target = make_target(plants, cell.noise, seed=1)
    drawn = questions(count)
    groups = group_answers(drawn, simulate_answers(target, recipe, drawn, "holdout"))
    return compare_cell(groups)


def compare_cell(groups: Sequence[AnswerGroup]) -> CellResult:
    """Compare the answers of complete groups with the same values."""
    gender = attributes()["gender"]
    divergences = [compare_answers(group, gender, words_only()) for group in groups]
    texts = [text for group in groups for text in masked_answers(group, gender, words().groups)]
    differences = mean_differences(word_vectors(texts), [group.sizes for group in groups])
    flat = differences.reshape(len(groups), -1)
    return CellResult(
        tuple(divergence.excess_null for divergence in divergences if divergence is not None),
        (flat @ flat.T) / (differences.shape[1] - 1),
    )


def draw_slices(count: int, size: int, slices: int = SLICES) -> list[NDArray[np.intp]]:
    """Draw the indices of the questions of each slice."""
    generator = np.random.default_rng([count, size])
    return [generator.choice(count, size, replace=False) for _ in range(slices)]


def mean_excess(observed: CellResult, size: int) -> Floats:
    """Return the mean excess of each slice."""
    return np.array([observed.excess[s].mean() for s in draw_slices(len(observed.nulls), size)])


def shared_difference(observed: CellResult, size: int) -> Floats:
    """Return the shared difference of each slice."""
    inside = [observed.products[np.ix_(s, s)] for s in draw_slices(len(observed.nulls), size)]
    return np.array([(block.sum() - np.trace(block)) / (size * (size - 1)) for block in inside])


def power_of_one(observed: CellResult) -> float:
    """Return the share of significant single questions."""
    return float(np.mean(observed.p_values() <= ALPHA))


def power_of_excess(observed: CellResult, size: int, slices: int = 100) -> float:
    """Return the share of slices with a significant pooled permutation test."""
    p_values = [
        pooled_p_value([observed.nulls[i] for i in drawn], number)
        for number, drawn in enumerate(draw_slices(len(observed.nulls), size, slices))
    ]
    return float(np.mean(np.array(p_values) <= ALPHA))


def power_of_shared(observed: CellResult, clean: CellResult, size: int) -> float:
    """Return the share of slices with a shared difference above that of 95 % of the clean slices."""
    bar = np.quantile(shared_difference(clean, size), 1 - ALPHA)
    return float(np.mean(shared_difference(observed, size) > bar))


def auroc(planted: Floats, clean: Floats) -> float:
    """Return the probability that a planted value exceeds a clean one (Mann-Whitney)."""
    ranks = rankdata(np.concatenate([planted, clean]))[: len(planted)]
    wins = ranks.sum() - len(planted) * (len(planted) + 1) / 2
    return float(wins / (len(planted) * len(clean)))
