"""What is left of an outcome when the length of the answers is held equal (arXiv 2404.04475).

A logistic model explains outcomes in [0, 1] by the stratum they belong to and by one term for length,
`coefficient · tanh(difference / scale)`, the scale being the root mean square of all differences. Setting
the length term to zero gives the outcome that the model expects of answers of equal length. Outcomes may be
fractions (a quasi-likelihood: Papke and Wooldridge 1996).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

RIDGE = 0.1
"""Precision of the prior on the coefficient (a standard deviation of 3.2 log odds): a handful of outcomes
says little about length, and it stays finite where length separates them."""

EDGE = 1e-6
"""Strata whose mean is as close as that to 0 or 1 vary in nothing."""


@dataclass(frozen=True)
class LengthControl:
    """A fitted length term, and the outcomes without it."""

    held_equal: Floats
    """Each outcome minus what its length difference explains of it. The mean over a stratum is the model's
    expectation for equal lengths; a single one may lie outside [0, 1]."""
    coefficient: float
    """Log odds per unit of tanh."""


def hold_length_equal(
    outcomes: ArrayLike, differences: ArrayLike, strata: Sequence[str], *, ridge: float = RIDGE
) -> LengthControl:
    """Arrays (units,) of outcomes in [0, 1] and of length differences in any unit: signed where the outcome
    is a preference for one side, absolute where it is that sides differ.

    Strata in which every outcome is 0, or every one is 1, say nothing about length and stay as they are.
    """
    y, x = np.asarray(outcomes, dtype=float), saturated(differences)
    names = np.asarray(strata)
    groups = [names == name for name in sorted(set(strata))]
    telling = [group for group in groups if EDGE < y[group].mean() < 1 - EDGE]
    coefficient = _coefficient([(y[group], x[group]) for group in telling], ridge)
    held = y.copy()
    for group in telling:
        held[group] -= _explained(y[group], x[group], coefficient)
    return LengthControl(held, coefficient)


def saturated(differences: ArrayLike) -> Floats:
    """`tanh(difference / scale)`; zeros where nothing differs in length."""
    d = np.asarray(differences, dtype=float)
    scale = float(np.sqrt(np.mean(d**2))) if len(d) else 0.0
    return np.asarray(np.tanh(d / scale), dtype=float) if scale else np.zeros_like(d)


def _explained(y: Floats, x: Floats, coefficient: float) -> Floats:
    from scipy.special import expit

    intercept = _intercept(y, x, coefficient)
    return np.asarray(expit(intercept + coefficient * x) - expit(intercept), dtype=float)


def _coefficient(strata: Sequence[tuple[Floats, Floats]], ridge: float) -> float:
    """Where the profile score crosses zero; it falls throughout, because the likelihood is concave."""
    from scipy.optimize import brentq
    from scipy.special import expit

    def score(coefficient: float) -> float:
        total = -ridge * coefficient
        for y, x in strata:
            total += float((x * (y - expit(_intercept(y, x, coefficient) + coefficient * x))).sum())
        return total

    at_zero = score(0.0)
    if abs(at_zero) < 1e-9:
        return 0.0
    bound = 1.0 if at_zero > 0 else -1.0
    while score(bound) * at_zero > 0:
        bound *= 2
    return float(brentq(score, 0.0, bound, xtol=1e-10))


def _intercept(y: Floats, x: Floats, coefficient: float) -> float:
    """The intercept at which a stratum's expectations add up to its outcomes."""
    from scipy.optimize import brentq
    from scipy.special import expit, logit

    middle, reach = float(logit(y.mean())), abs(coefficient) + 1e-6
    if not coefficient:
        return middle
    return float(
        brentq(
            lambda intercept: float((expit(intercept + coefficient * x) - y).sum()),
            middle - reach,
            middle + reach,
            xtol=1e-12,
        )
    )
