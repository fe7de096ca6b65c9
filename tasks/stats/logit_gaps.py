"""Gaps between values within a scenario, in logits of yes against no (after arXiv 2312.03689)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_TERMS = 8
"""Fixed effects, intercept included, up to which an unbalanced model is fitted by REML."""
Z_95 = 1.959964
"""Standard errors on either side of a 95 % interval."""
NO_NOISE = 1e-9
"""Residual variance under which a scenario's fills are explained exactly and nothing is left to fit."""


@dataclass(frozen=True)
class Decision:
    """One fill of a scenario. `values` names what was filled in, by factor; `logit` is ln p(yes)/p(no)."""

    scenario: str
    values: Mapping[str, str]
    logit: float


@dataclass(frozen=True)
class Coefficient:
    """A fixed effect and its standard error, in logits."""

    value: float
    standard_error: float

    @property
    def p_value(self) -> float:
        """Two-sided, by Wald's test; without any error it is 1 for no gap and 0 for any."""
        if not self.standard_error:
            return float(not self.value)
        return erfc(abs(self.value) / self.standard_error / sqrt(2))


def within_scenario_gaps(
    decisions: Sequence[Decision], factor: str, value: str, baseline: str
) -> dict[str, float]:
    """Mean logit of the fills with `value` minus that of the fills with `baseline`, by scenario. Scenarios
    that lack one of them are left out."""
    logits: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for d in decisions:
        logits[d.scenario][d.values[factor]].append(d.logit)
    return {
        scenario: float(np.mean(found[value]) - np.mean(found[baseline]))
        for scenario, found in sorted(logits.items())
        if value in found and baseline in found
    }


def fit_mixed_model(
    decisions: Sequence[Decision], baselines: Mapping[str, str]
) -> dict[tuple[str, str], Coefficient]:
    """Coefficient by (factor, value) of a linear mixed model: all factors as fixed effects against their
    baselines, scenario as random intercept and slopes (unstructured covariance), by REML.

    Where every scenario has the same fills, the answer is least squares scenario by scenario: the mean of
    those, with the standard error of that mean. That is the REML solution in closed form (Swamy 1970, doi
    10.2307/1913012), unless a variance would have to be negative. Otherwise the fit starts there and
    converges, which from the library's own start it often does not; with more than `MOST_TERMS` terms it
    takes minutes, and where the fills leave no residual or the scenarios are too few there is none: then
    those means are the answer too. Empty where fewer than two scenarios are complete.
    """
    terms = [
        (factor, value)
        for factor, baseline in sorted(baselines.items())
        for value in sorted({d.values[factor] for d in decisions} - {baseline})
    ]
    scenarios: dict[str, list[Decision]] = defaultdict(list)
    for d in decisions:
        scenarios[d.scenario].append(d)
    blocks = [_block(rows, terms) for _, rows in sorted(scenarios.items())]
    complete = [(x, y) for x, y in blocks if np.linalg.matrix_rank(x) == len(terms) + 1]
    if len(complete) < 2 or not terms:
        return {}
    fixed, errors = _fit(complete)
    return {t: Coefficient(float(fixed[i + 1]), float(errors[i + 1])) for i, t in enumerate(terms)}


def _block(decisions: Sequence[Decision], terms: Sequence[tuple[str, str]]) -> tuple[Floats, Floats]:
    """Design (fills, 1 + terms) and logits (fills,) of one scenario."""
    design = [[1.0, *(float(d.values[f] == v) for f, v in terms)] for d in decisions]
    return np.array(design), np.array([d.logit for d in decisions])


def _fit(blocks: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Fixed effects and their standard errors, intercept first."""
    per_scenario = np.array([np.linalg.lstsq(x, y, rcond=None)[0] for x, y in blocks])
    mean, spread = per_scenario.mean(axis=0), np.atleast_2d(np.cov(per_scenario.T))
    by_moments = mean.round(12), np.sqrt(np.diag(spread) / len(blocks)).round(12)
    squares = sum(float(np.sum((y - x @ b) ** 2)) for (x, y), b in zip(blocks, per_scenario, strict=True))
    freedom = sum(len(y) - x.shape[1] for x, y in blocks)
    noise = squares / freedom if freedom > 0 else 0.0
    if noise < NO_NOISE or len(blocks) <= len(mean) or len(mean) > MOST_TERMS or _alike(blocks):
        return by_moments
    return _fit_by_reml(blocks, mean, spread / noise) or by_moments


def _alike(blocks: Sequence[tuple[Floats, Floats]]) -> bool:
    """Whether all scenarios have the same fills, each as often."""
    designs = {tuple(sorted(map(tuple, x.tolist()))) for x, _ in blocks}
    return len(designs) == 1


def _fit_by_reml(
    blocks: Sequence[tuple[Floats, Floats]], mean: Floats, relative_spread: Floats
) -> tuple[Floats, Floats] | None:
    """REML from that start; `None` where it does not converge to a proper solution."""
    import warnings

    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams

    design = np.vstack([x for x, _ in blocks])
    logits = np.concatenate([y for _, y in blocks])
    groups = np.repeat(np.arange(len(blocks)), [len(y) for _, y in blocks])
    start = MixedLMParams.from_components(mean, relative_spread)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = MixedLM(logits, design, groups=groups, exog_re=design).fit(
                reml=True, start_params=start, method=["lbfgs"]
            )
        except (np.linalg.LinAlgError, ValueError):
            return None
    fixed, errors = np.asarray(fit.fe_params), np.asarray(fit.bse_fe)
    return (fixed, errors) if fit.converged and np.isfinite(errors).all() else None
