"""The two-parameter logistic model of binary answers, and the Stocking-Lord link of two of its scales.

References:
    Lord (1980), "Applications of Item Response Theory to Practical Testing Problems".
    Bock and Aitkin (1981), doi:10.1007/BF02293801 (marginal maximum likelihood by EM).
    Stocking and Lord (1983), doi:10.1177/014662168300700208.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.stats.resampling import Floats

MIN_RESPONDENTS = 100
"""Below this number of respondents, two parameters per question are not estimated."""
NODES = np.linspace(-4, 4, 41)
"""Abilities at which the likelihood is integrated. They are standard normal."""
_WEIGHTS = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()
SLOPE_PRIOR = 1.0
"""Standard deviation of the normal prior of a slope around 0. It keeps slopes finite in small samples."""
INTERCEPT_PRIOR = 3.0
STEPS = 200
NEWTON_STEPS = 3
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Calibration:
    """Parameters of questions: an answer is 1 with probability `1 / (1 + exp(-(slope · θ + intercept)))`."""

    slopes: Floats
    """Shape (questions,)."""
    intercepts: Floats
    slope_errors: Floats
    """Standard error of each slope."""
    abilities: Floats
    """Expected ability of each respondent, shape (respondents,)."""

    def probabilities(self, abilities: Floats) -> Floats:
        """Return the probability of a 1, shape (abilities, questions)."""
        return _probabilities(self.slopes, self.intercepts, abilities)


def fit_two_parameters(answers: Floats) -> Calibration:
    """Estimate slopes and intercepts by marginal maximum likelihood.

    Args:
        answers: Shape (respondents, questions). 0, 1, or NaN if a question was not answered.

    Raises:
        ValueError: If there are fewer than `MIN_RESPONDENTS` respondents, or other values.
    """
    answered = np.isfinite(answers)
    if len(answers) < MIN_RESPONDENTS:
        raise ValueError(f"{len(answers)} respondents; at least {MIN_RESPONDENTS} are required")
    if not np.isin(answers[answered], (0.0, 1.0)).all():
        raise ValueError("an answer is neither 0 nor 1")
    right = np.where(answered, answers, 0.0)
    shares = (right.sum(axis=0) + 0.5) / (answered.sum(axis=0) + 1)
    slopes, intercepts = np.ones(answers.shape[1]), np.log(shares / (1 - shares))
    for _ in range(STEPS):
        posterior = _posterior(slopes, intercepts, right, answered)
        counts = posterior.T @ answered  # (nodes, questions)
        hits = posterior.T @ right
        slopes_before, intercepts_before = slopes, intercepts
        slopes, intercepts, errors = _fit_questions(counts, hits, slopes, intercepts)
        change = max(np.abs(slopes - slopes_before).max(), np.abs(intercepts - intercepts_before).max())
        if change < TOLERANCE:
            break
    posterior = _posterior(slopes, intercepts, right, answered)
    return Calibration(slopes, intercepts, errors, np.asarray(posterior @ NODES))


def _probabilities(slopes: Floats, intercepts: Floats, abilities: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-(abilities[:, None] * slopes + intercepts))))


def _posterior(slopes: Floats, intercepts: Floats, right: Floats, answered: Floats) -> Floats:
    """Return the probability of each ability, shape (respondents, nodes)."""
    p = np.clip(_probabilities(slopes, intercepts, NODES), 1e-9, 1 - 1e-9)
    logs = right @ np.log(p).T + (answered - right) @ np.log(1 - p).T + np.log(_WEIGHTS)
    logs -= logs.max(axis=1, keepdims=True)
    likelihood = np.exp(logs)
    return np.asarray(likelihood / likelihood.sum(axis=1, keepdims=True))


def _fit_questions(
    counts: Floats, hits: Floats, slopes: Floats, intercepts: Floats
) -> tuple[Floats, Floats, Floats]:
    """Fit a logistic regression of every question on ability by Newton's method, with weak priors.

    Args:
        counts: Expected respondents at every ability, shape (nodes, questions).
        hits: Expected ones among them.
        slopes: Slopes to start from.
        intercepts: Intercepts to start from.

    Returns:
        Slopes, intercepts, and the standard errors of the slopes.
    """
    for _ in range(NEWTON_STEPS):
        p = _probabilities(slopes, intercepts, NODES)
        rest, weight = hits - counts * p, counts * p * (1 - p)
        # Gradient and information of the log posterior: 2 × 2 per question.
        first = NODES @ rest - slopes / SLOPE_PRIOR**2
        second = rest.sum(axis=0) - intercepts / INTERCEPT_PRIOR**2
        aa = (NODES**2) @ weight + 1 / SLOPE_PRIOR**2
        ad = NODES @ weight
        dd = weight.sum(axis=0) + 1 / INTERCEPT_PRIOR**2
        determinant = aa * dd - ad**2
        slopes = slopes + np.clip((dd * first - ad * second) / determinant, -1, 1)
        intercepts = intercepts + np.clip((aa * second - ad * first) / determinant, -1, 1)
    return slopes, intercepts, np.sqrt(dd / determinant)


def stocking_lord(old: Calibration, new: Calibration, anchors: list[tuple[int, int]]) -> tuple[float, float]:
    """Return A and B, so that an ability θ on the scale of `new` is A · θ + B on the scale of `old`.

    They minimise the squared difference between the expected scores of the anchors.

    Args:
        old: Calibration of the earlier form.
        new: Calibration of the later form.
        anchors: Index of each anchor in the earlier and in the later form.
    """
    from scipy.optimize import minimize

    first, second = (np.array(side) for side in zip(*anchors, strict=True))
    expected = old.probabilities(NODES)[:, first].sum(axis=1)

    def loss(link: Floats) -> float:
        a, b = float(np.exp(link[0])), link[1]
        slopes = new.slopes[second] / a
        intercepts = new.intercepts[second] - slopes * b
        scores = _probabilities(slopes, intercepts, NODES).sum(axis=1)
        return float((_WEIGHTS * (expected - scores) ** 2).sum())

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-10})
    return float(np.exp(found.x[0])), float(found.x[1])
