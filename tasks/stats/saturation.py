"""Saturation: the power of a question to distinguish models.

A question is not informative if (nearly) all models have the lowest or the highest score, or if its scores
certainly do not follow those of the other questions. A refresh retires a question that is not informative in
two releases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import atanh, sqrt, tanh
from typing import Literal

import numpy as np

from tasks.stats.item_response import MIN_RESPONDENTS, fit_two_parameters
from tasks.stats.resampling import Floats

MIN_MODELS = 3
"""Below this number of models, nothing is decided about a question."""
MIN_CORRELATED = 5
"""Below this number of models, there is no item-total correlation."""
AT_EXTREME = 0.9
"""Share of models at the floor or at the ceiling from which on a question is not informative."""
LEAST_DISCRIMINATION = 0.2
"""A question is not informative if the interval of its item-total correlation is below this number."""
LEAST_SLOPE = 0.35
"""The same for the slope of the two-parameter model, in logits per standard deviation of ability."""
_TOLERANCE = 1e-9
_NORMAL = 1.959964


@dataclass(frozen=True)
class QuestionFit:
    """Power of one question to distinguish models in one metric."""

    question: str
    metric: str
    models: int
    """Models with a score."""
    discrimination: float | None
    """Correlation of its scores with the mean of the other questions, or its slope (see `method`)."""
    low: float | None
    high: float | None
    at_floor: float | None
    """Share of models with the score 0: no effect found."""
    at_ceiling: float | None
    """Share of models with the largest possible score. `None` if the metric has no largest score."""
    informative: bool | None
    """`None` if there are too few models."""
    method: Literal["item_total", "two_parameter"] = "item_total"
    status: Literal["measured", "not_measured"] = "measured"
    reason: str | None = None
    """Why a question is not informative, or why this is not measured."""


def question_fits(
    scores: Mapping[str, Mapping[str, float]], *, highest: float | None, metric: str = ""
) -> list[QuestionFit]:
    """Return the fit of every question, sorted by id.

    Args:
        scores: Score by question, by model. All are of one metric.
        highest: Largest possible absolute score. `None` if there is none.
        metric: Name of the metric.
    """
    models, questions = sorted(scores), sorted({q for row in scores.values() for q in row})
    matrix = np.full((len(models), len(questions)), np.nan)
    place = {q: j for j, q in enumerate(questions)}
    for i, model in enumerate(models):
        for question, score in scores[model].items():
            matrix[i, place[question]] = score
    totals = _Totals.of(matrix)
    fits = [
        _fit(q, metric, matrix[:, j], totals.rest(j) if len(models) >= MIN_CORRELATED else None, highest)
        for j, q in enumerate(questions)
    ]
    binary = np.isin(matrix[np.isfinite(matrix)], (0.0, 1.0)).all()
    if len(models) >= MIN_RESPONDENTS and binary:
        calibration = fit_two_parameters(matrix)
        fits = [
            _with_slope(fit, float(slope), float(error))
            for fit, slope, error in zip(fits, calibration.slopes, calibration.slope_errors, strict=True)
        ]
    return fits


def _fit(
    question: str, metric: str, column: Floats, rest: Floats | None, highest: float | None
) -> QuestionFit:
    known = column[np.isfinite(column)]
    n = len(known)
    floor = float(np.mean(np.abs(known) <= _TOLERANCE)) if n else None
    ceiling = None if highest is None or not n else float(np.mean(np.abs(known) >= highest - _TOLERANCE))
    base = QuestionFit(question, metric, n, None, None, None, floor, ceiling, None)
    if n < MIN_MODELS:
        reason = f"{n} models have a score; at least {MIN_MODELS} are required"
        return replace(base, status="not_measured", reason=reason)
    found = _item_total(column, rest) if rest is not None else None
    base = replace(base, informative=True)
    if found is not None:
        base = replace(base, discrimination=found[0], low=found[1], high=found[2])
    for share, name in ((floor, "lowest"), (ceiling, "highest")):
        if share is not None and share >= AT_EXTREME:
            reason = f"{round(share * n)} of {n} models have the {name} score"
            return replace(base, informative=False, reason=reason)
    if float(np.ptp(known)) <= _TOLERANCE:
        return replace(base, informative=False, reason=f"all {n} models have the same score")
    return _judge_discrimination(base, LEAST_DISCRIMINATION)


def _judge_discrimination(fit: QuestionFit, least: float) -> QuestionFit:
    if fit.high is None or fit.high >= least:
        return fit
    reason = f"its scores do not follow those of the other questions ({fit.high:.2f} at most)"
    return replace(fit, informative=False, reason=reason)


@dataclass(frozen=True)
class _Totals:
    """Scores relative to the mean of each question, so that a model does not gain by lacking a hard one."""

    centred: Floats
    """Shape (models, questions). 0 if a model has no score."""
    answered: Floats
    sums: Floats
    """Shape (models,)."""
    counts: Floats

    @classmethod
    def of(cls, matrix: Floats) -> _Totals:
        answered = np.isfinite(matrix).astype(float)
        filled = np.nan_to_num(matrix)
        means = filled.sum(axis=0) / np.maximum(answered.sum(axis=0), 1)
        centred = (filled - means) * answered
        return cls(centred, answered, centred.sum(axis=1), answered.sum(axis=1))

    def rest(self, j: int) -> Floats:
        """Return the mean of the other questions by model. NaN if a model has no other score."""
        others = self.counts - self.answered[:, j]
        with np.errstate(invalid="ignore"):
            return np.where(others > 0, (self.sums - self.centred[:, j]) / others, np.nan)


def _item_total(column: Floats, rest: Floats) -> tuple[float, float, float] | None:
    """Return the corrected item-total correlation with its interval by Fisher's transformation."""
    usable = np.isfinite(column) & np.isfinite(rest)
    if usable.sum() < MIN_CORRELATED:
        return None
    own, totals = column[usable], rest[usable]
    if np.ptp(own) <= _TOLERANCE or np.ptp(totals) <= _TOLERANCE:
        return None
    r = float(np.corrcoef(own, totals)[0, 1])
    z, half = atanh(float(np.clip(r, -0.999999, 0.999999))), _NORMAL / sqrt(len(own) - 3)
    return r, tanh(z - half), tanh(z + half)


def _with_slope(fit: QuestionFit, slope: float, error: float) -> QuestionFit:
    low, high = slope - _NORMAL * error, slope + _NORMAL * error
    judged = replace(fit, discrimination=slope, low=low, high=high, method="two_parameter")
    if fit.informative is not None and not _is_constant(fit):
        judged = _judge_discrimination(replace(judged, informative=True, reason=None), LEAST_SLOPE)
    return judged


def _is_constant(fit: QuestionFit) -> bool:
    return max(fit.at_floor or 0.0, fit.at_ceiling or 0.0) >= AT_EXTREME


def saturated_questions(previous: Iterable[QuestionFit], current: Iterable[QuestionFit]) -> set[str]:
    """Return the ids of the questions that are not informative in two releases, in any of their metrics."""
    return _uninformative(list(previous)) & _uninformative(list(current))


def _uninformative(fits: Sequence[QuestionFit]) -> set[str]:
    decided = {f.question for f in fits if f.informative is False}
    return decided - {f.question for f in fits if f.informative is not False}
