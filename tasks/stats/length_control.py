"""Outcomes with the length of the answers held equal (Dubois et al. 2024, arXiv 2404.04475).

A logistic model explains outcomes in [0, 1] by their stratum and by one length term:

    logit(outcome) = intercept(stratum) + coefficient · tanh(difference / scale)

The scale is the root mean square of all length differences. Setting every difference to one reference gives
the outcome that the model expects for answers that differ in length by the reference only. Outcomes may be
fractions, because the fit is a quasi-likelihood (Papke and Wooldridge 1996).

Intervals refit the whole model without each cluster, so they contain the uncertainty of the coefficient.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.stats.intervals import MIN_CLUSTERS, is_lumpy, transformed_interval
from tasks.stats.resampling import Floats, Interval

RIDGE = 0.1
"""Precision of the normal prior on the coefficient (a standard deviation of 3.2 log odds). It shrinks the
coefficient of few outcomes, and keeps it finite if length separates them."""

WIDEST = 1.2
"""Largest ratio between the standard errors of the controlled and the uncontrolled mean if length has no
effect. Beyond that, the lengths do not separate the effect of length from the effect of the value, and the
controlled mean is not measured. The ratio depends on lengths alone, so that a sample is never chosen by its
outcomes."""

EDGE = 1e-6
"""Strata with a mean this close to 0 or 1 have no variation."""

MAX_GROUPS = 400
"""Maximum number of refits. With more clusters, several of them are left out together."""
_CELLS = 2_000_000
"""Refits times units that are in memory at the same time (16 MB per array)."""
_BINOMIAL_VARIANCE = 0.2
_STEPS = 60
_LONGEST_STEP = 2.0
_FARTHEST_INTERCEPT = 30.0


@dataclass(frozen=True)
class LengthControl:
    """A fitted length term, and the outcomes without it."""

    outcomes: Floats
    lengths: Floats
    """Length term of each unit, 0 at the reference."""
    spread: float
    """Sum of squares of the length term within strata, with the prior's share."""
    held_equal: Floats
    """Each outcome minus the part explained by its length difference from the reference. The mean over a
    stratum is the model's expectation at the reference. Single values may be outside [0, 1]."""
    coefficient: float
    """Log odds per unit of tanh."""
    group: NDArray[np.int64]
    """Shape (units,). Group of clusters that each unit is left out with."""
    refitted: Floats
    """Shape (groups, units). `held_equal` by the fit without each group."""


def hold_length_equal(
    outcomes: ArrayLike,
    differences: ArrayLike,
    strata: Sequence[str],
    *,
    reference: float = 0.0,
    clusters: Sequence[Hashable] | None = None,
    ridge: float = RIDGE,
) -> LengthControl:
    """Fit the length term and remove it from the outcomes.

    Args:
        outcomes: Shape (units,). Values in [0, 1].
        differences: Shape (units,). Length differences in any unit: signed if the outcome is a preference for
            one side, absolute if the outcome is a difference between sides.
        strata: Stratum of each unit. Strata with outcomes of only 0 or only 1 carry no information about
            length and are left as they are.
        reference: Length difference at which outcomes are expected, in the same unit. If absolute differences
            occur by chance alone, their mean over controls is a better reference than 0, which no unit has.
        clusters: Cluster of each unit. Default: every unit is independent of the others.
        ridge: Precision of the prior on the coefficient.
    """
    y, d = np.asarray(outcomes, dtype=float), np.asarray(differences, dtype=float)
    scale = float(np.sqrt(np.mean(d**2))) if len(d) else 0.0
    x = saturated(d)
    centre = float(np.tanh(reference / scale)) if scale else 0.0
    _, stratum = np.unique(np.asarray(strata), return_inverse=True)
    group = _groups(len(y), clusters)
    held, coefficients = _fit(y, x - centre, stratum.astype(np.int64), group, ridge)
    x = x - centre
    spread = sum(float(((x[own] - x[own].mean()) ** 2).sum()) for own in _members(stratum))
    spread += ridge / _BINOMIAL_VARIANCE
    return LengthControl(y, x, spread, held[0], float(coefficients[0]), group, held[1:])


def saturated(differences: ArrayLike) -> Floats:
    """Return `tanh(difference / scale)`, or zeros if all lengths are equal."""
    d = np.asarray(differences, dtype=float)
    scale = float(np.sqrt(np.mean(d**2))) if len(d) else 0.0
    return np.asarray(np.tanh(d / scale), dtype=float) if scale else np.zeros_like(d)


def controlled_interval(control: LengthControl, members: Sequence[int]) -> Interval:
    """Estimate the mean over a slice with lengths held equal.

    Args:
        control: The fit over all units.
        members: Indices of the units of the slice.

    Returns:
        The bounds are `None` if the controlled mean is not measured: fewer than `MIN_CLUSTERS` clusters,
        outcomes that mostly repeat one value, or an `inflation` above `WIDEST`.
    """
    inside = np.asarray(members, dtype=np.int64)
    value = float(control.held_equal[inside].mean())
    owners = control.group[inside]
    own = np.unique(owners)
    not_measured = Interval(value, None, None, len(own))
    lumpy = len(own) < MIN_CLUSTERS or is_lumpy(control.outcomes[inside])
    if lumpy or inflation(control, members) > WIDEST:
        return not_measured
    groups = np.arange(len(control.refitted))
    without = np.concatenate(
        [
            _means(control.refitted[block, inside], owners != groups[block, None])
            for block in _blocks(len(groups), len(inside))
        ]
    )
    total = _jackknife_error(without)
    pseudo = value + (len(own) - 1) * (value - without[own])
    interval = transformed_interval(value, pseudo)
    # Units outside the slice contribute through the coefficient alone. Their part widens both sides alike.
    factor = max(1.0, total / (float(np.std(pseudo, ddof=1)) / sqrt(len(own)) or total))
    assert interval.low is not None
    assert interval.high is not None
    low, high = value - factor * (value - interval.low), value + factor * (interval.high - value)
    return Interval(value, low, high, len(own))


def _means(values: Floats, kept: NDArray[np.bool_]) -> Floats:
    """Return the mean of each row over the cells that are kept."""
    return np.asarray((values * kept).sum(axis=1) / kept.sum(axis=1))


def inflation(control: LengthControl, members: Sequence[int]) -> float:
    """Return how many times the control of length widens the interval of a slice's mean, if it has no effect.

    With lengths x, their mean m over the n units of the slice, and S the sum of squares within strata:
    `sqrt(1 + n m² / S)`.
    """
    lengths = control.lengths[np.asarray(members, dtype=np.int64)]
    return sqrt(1 + len(lengths) * float(lengths.mean()) ** 2 / max(control.spread, 1e-12))


def _jackknife_error(without: Floats) -> float:
    n = len(without)
    return sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))


def _members(stratum: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    return [stratum == s for s in range(int(stratum.max()) + 1)]


def _groups(units: int, clusters: Sequence[Hashable] | None) -> NDArray[np.int64]:
    places: dict[Hashable, int] = {}
    names: Sequence[Hashable] = range(units) if clusters is None else clusters
    index = [places.setdefault(name, len(places)) for name in names]
    return np.asarray(index, dtype=np.int64) % MAX_GROUPS


def _fit(
    y: Floats, x: Floats, stratum: NDArray[np.int64], group: NDArray[np.int64], ridge: float
) -> tuple[Floats, Floats]:
    """Fit the model to all units, and without each group. See `_fit_rows`."""
    left_out = np.arange(-1, int(group.max()) + 1)
    blocks = _blocks(len(left_out), len(y))
    fits = [
        _fit_rows(y, x, stratum, (left_out[block, None] != group).astype(float), ridge) for block in blocks
    ]
    return np.concatenate([held for held, _ in fits]), np.concatenate([found for _, found in fits])


def _blocks(rows: int, columns: int) -> list[slice]:
    """Divide the rows of a matrix into blocks with at most `_CELLS` cells, or one row."""
    size = max(1, _CELLS // max(1, columns))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _fit_rows(
    y: Floats, x: Floats, stratum: NDArray[np.int64], weights: Floats, ridge: float
) -> tuple[Floats, Floats]:
    """Fit the model once per row of weights, by Newton's method on intercepts and coefficient.

    Args:
        y: Shape (units,). Outcomes.
        x: Shape (units,). Length term, 0 at the reference.
        stratum: Shape (units,). Index of each unit's stratum.
        weights: Shape (fits, units).
        ridge: Precision of the prior on the coefficient.

    Returns:
        Outcomes without the length term, shape (fits, units), and coefficients, shape (fits,).
    """
    from scipy.special import expit, logit

    columns = _members(stratum)
    sizes = np.stack([weights[:, c].sum(axis=1) for c in columns], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.stack([(weights[:, c] * y[c]).sum(axis=1) for c in columns], axis=1) / sizes
    informative = (means > EDGE) & (means < 1 - EDGE)
    intercepts = logit(np.where(informative, means, 0.5))
    coefficient = np.zeros(len(weights))
    active = weights * informative[:, stratum]
    for _ in range(_STEPS):
        expected = expit(intercepts[:, stratum] + coefficient[:, None] * x)
        residual, slope = active * (y - expected), active * expected * (1 - expected)
        gradient = np.stack([residual[:, c].sum(axis=1) for c in columns], axis=1)
        curvature = np.stack([slope[:, c].sum(axis=1) for c in columns], axis=1) + 1e-12
        cross = np.stack([(slope[:, c] * x[c]).sum(axis=1) for c in columns], axis=1)
        score = (residual * x).sum(axis=1) - ridge * coefficient
        # The coefficient by the Schur complement of the intercepts.
        information = (slope * x**2).sum(axis=1) + ridge - (cross**2 / curvature).sum(axis=1)
        step = (score - (cross * gradient / curvature).sum(axis=1)) / np.maximum(information, 1e-9)
        step = np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        moves = np.clip((gradient - cross * step[:, None]) / curvature, -_LONGEST_STEP, _LONGEST_STEP)
        coefficient = coefficient + step
        intercepts = np.clip(intercepts + moves, -_FARTHEST_INTERCEPT, _FARTHEST_INTERCEPT)
        if max(float(np.abs(step).max()), float(np.abs(moves).max())) < 1e-10:
            break
    base = intercepts[:, stratum]
    explained = expit(base + coefficient[:, None] * x) - expit(base)
    return y - explained * informative[:, stratum], coefficient
