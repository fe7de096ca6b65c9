"""Rows of the calibration about contrasts: power, type I error, coverage, and agreement of test and interval.

All lines measure `contrast_effects`, which a build, `show` and `evaluate` use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.calibration import (
    QUICK,
    Generator,
    Line,
    at_least,
    at_most,
    between,
    make_question,
    rate_with_error,
)
from schemas.answers import PLAIN, Effect
from schemas.vocabulary import Attribute
from tasks.families import VersionScores
from tasks.families.contrasts import ScoredQuestion, contrast_effects
from tasks.families.effects import detectable
from tasks.files.vocabulary import read_attributes, vocabulary_dir

Draw = Callable[[Generator, int, int], np.ndarray]
"""Returns the scores of all versions of some questions without an effect: shape (questions, versions)."""

SHAPES: dict[str, Draw] = {
    "normal scores": lambda g, n, k: g.normal(0, 0.1, (n, k)),
    "rare outcomes": lambda g, n, k: (g.random((n, k)) < 0.03).astype(float),
    "yes or no": lambda g, n, k: (g.random((n, k)) < 0.5).astype(float),
}
RUNS = {"normal scores": 300, "rare outcomes": 200, "yes or no": 600}
"""Runs per world without an effect, by shape."""
WORLDS: tuple[tuple[str, int, int], ...] = (
    ("normal scores", 2, 10),
    ("normal scores", 6, 24),
    ("rare outcomes", 2, 40),
    ("rare outcomes", 6, 40),
    ("rare outcomes", 6, 100),
    ("yes or no", 3, 24),
)
"""Shape, values and questions."""
PLANTS: tuple[tuple[str, int, int, float], ...] = (
    ("constant", 2, 15, 0.1),
    ("constant", 3, 24, 0.1),
    ("normal scores", 2, 24, 0.06),
    ("rare outcomes", 3, 24, 0.2),
    ("yes or no", 3, 40, 0.2),
)
"""Shape, values, questions and the planted difference of the first value."""


def _attribute(versions: int) -> Attribute:
    (attribute,) = read_attributes(vocabulary_dir(), ["race"])
    return attribute.model_copy(
        update={
            "id": "gender",
            "values": tuple(attribute.values[0].model_copy(update={"id": f"v{i}"}) for i in range(versions)),
        }
    )


def first_contrast(scores: np.ndarray) -> Effect:
    """Return the contrast of the first value, as a build computes it."""
    versions = scores.shape[1]
    scored = []
    for number, row in enumerate(scores.tolist()):
        question = make_question(number, versions=versions).model_copy(update={"twin_id": None})
        question = question.model_copy(update={"family": "decision", "label": "survey"})
        given = VersionScores("share", dict(enumerate(row)), 2.0)
        scored.append(ScoredQuestion(question, "model", PLAIN, "favourable", given))
    effects = contrast_effects(scored, {"gender": _attribute(versions)})
    return next(e for e in effects if e.compared == "v0" and e.level == "attribute" and e.framing == "all")


def contrast_rows(factor: int) -> Iterator[Line]:
    """Measure contrasts with and without an effect."""
    rejected: dict[str, list[bool]] = {name: [] for name in SHAPES}
    covered: list[bool] = []
    disagree = 0
    for shape, versions, n in WORLDS:
        generator = np.random.default_rng([20, versions, n, len(shape)])
        for _ in range(RUNS[shape] * factor):
            effect = first_contrast(SHAPES[shape](generator, n, versions))
            rejected[shape].append(_is_rejected(effect))
            disagree += _disagrees(effect)
            covered += _covers(effect, 0.0)
    for shape, versions, n, plant in PLANTS:
        generator = np.random.default_rng([21, versions, n, len(shape)])
        for _ in range(40 * factor):
            draw = SHAPES.get(shape)
            scores = np.zeros((n, versions)) if draw is None else draw(generator, n, versions)
            scores[:, 0] += plant
            effect = first_contrast(scores)
            disagree += _disagrees(effect)
            covered += _covers(effect, plant * (1 - 1 / versions))
    for shape, hits in rejected.items():
        yield at_most(f"9 type I error of a contrast, {shape}", *rate_with_error(hits), 0.06, "2 to 6 values")
    yield at_least("4 coverage of contrasts, with and without an effect", *rate_with_error(covered), 0.93)
    name = "12 contrasts whose interval disagrees with their test"
    yield at_most(name, float(disagree), 0.0, 0.0, "p <= .05 and an interval that contains 0, or the reverse")
    yield from _power_rows(factor)


def _power_rows(factor: int) -> Iterator[Line]:
    """Measure the power at the smallest detectable contrast that another sample without an effect has."""
    for versions in (2,) if factor == QUICK else (2, 3):
        generator = np.random.default_rng([22, versions])
        hits, shares = [], []
        for n in (10, 24, 60):
            found = []
            for _ in range(560 * min(factor, 2)):
                without = first_contrast(generator.normal(size=(n, versions)) / 8)
                least = detectable(without)
                assert least is not None
                scores = generator.normal(size=(n, versions)) / 8
                scores[:, 0] += least / (1 - 1 / versions)
                found.append(_is_rejected(first_contrast(np.clip(scores, -2, 2))))
            hits += found
            shares.append(f"{np.mean(found):.3f} ({n} questions)")
        name = f"7 power at the printed smallest contrast, {versions} values"
        yield between(name, *rate_with_error(hits), 0.75, 0.85, ", ".join(shares))


def _is_rejected(effect: Effect) -> bool:
    return effect.p_value is not None and effect.p_value <= 0.05


def _covers(effect: Effect, truth: float) -> list[bool]:
    """Return whether the interval contains the truth. Empty without an interval."""
    if effect.low is None or effect.high is None:
        return []
    return [effect.low <= truth <= effect.high]


def _disagrees(effect: Effect) -> bool:
    if effect.low is None or effect.high is None:
        return False
    return _is_rejected(effect) == (effect.low <= 0 <= effect.high)
