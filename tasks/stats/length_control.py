"""Outcomes with the length of the answers held equal (Dubois et al. 2024, arXiv 2404.04475).

A logistic model explains outcomes in [0, 1] by their stratum and by one length term:

    logit(outcome) = intercept(stratum) + coefficient · tanh(difference / scale)

The scale is the root mean square of all length differences. Setting the length term to 0 gives the outcome
that the model expects for answers of equal length. Outcomes may be fractions, because the fit is a
quasi-likelihood (Papke and Wooldridge 1996).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tasks.stats.resampling import Floats

RIDGE = 0.1
"""Precision of the normal prior on the coefficient (a standard deviation of 3.2 log odds). It shrinks the
coefficient of few outcomes, and keeps it finite if length separates them."""

EDGE = 1e-6
"""Strata whose mean is this close to 0 or 1 have no variation."""


@dataclass(frozen=True)
class LengthControl:
    """A fitted length term, and the outcomes without it."""

    held_equal: Floats
    """Each outcome minus the part explained by its length difference. The mean over a stratum is the model's
    expectation for equal lengths. Single values may be outside [0, 1]."""
    coefficient: float
    """Log odds per unit of tanh."""


def hold_length_equal(
    outcomes: ArrayLike, differences: ArrayLike, strata: Sequence[str], *, ridge: float = RIDGE
) -> LengthControl:
    """Fit the length term and remove it from the outcomes.

    Args:
        outcomes: Shape (units,). Values in [0, 1].
        differences: Shape (units,). Length differences in any unit: signed if the outcome is a preference for
            one side, absolute if the outcome is a difference between sides.
        strata: Stratum of each unit. Strata with outcomes of only 0 or only 1 carry no information about
            length and are left as they are.
        ridge: Precision of the prior on the coefficient.
    """
    y, x = np.asarray(outcomes, dtype=float), saturated(differences)
    names = np.asarray(strata)
    groups = [names == name for name in sorted(set(strata))]
    informative = [group for group in groups if EDGE < y[group].mean() < 1 - EDGE]
    coefficient = _coefficient([(y[group], x[group]) for group in informative], ridge)
    held = y.copy()
    for group in informative:
        held[group] -= _explained(y[group], x[group], coefficient)
    return LengthControl(held, coefficient)


def saturated(differences: ArrayLike) -> Floats:
    """Return `tanh(difference / scale)`, or zeros if all lengths are equal."""
    d = np.asarray(differences, dtype=float)
    scale = float(np.sqrt(np.mean(d**2))) if len(d) else 0.0
    return np.asarray(np.tanh(d / scale), dtype=float) if scale else np.zeros_like(d)


def _explained(y: Floats, x: Floats, coefficient: float) -> Floats:
    from scipy.special import expit

    intercept = _intercept(y, x, coefficient)
    return np.asarray(expit(intercept + coefficient * x) - expit(intercept), dtype=float)


def _coefficient(strata: Sequence[tuple[Floats, Floats]], ridge: float) -> float:
    """Find the root of the profile score. It is the only one, because the likelihood is concave."""
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
    """Find the intercept at which a stratum's expectations sum to its outcomes."""
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
