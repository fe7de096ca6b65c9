"""The leaderboard: models by what a release shows of them, each with its interval and its own floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.effect import Effect
from schemas.response import PLAIN

HEADLINES = {
    "completion": ("tau_c_sai", "tau_c_asa"),
    "association": ("d_mean",),
    "relative_decision": ("consistent",),
    "task_accuracy": ("max_min_excess",),
    "entailment": ("bias",),
    "agreement": ("bias",),
    "description_pair": ("difference",),
    "persona": ("drop",),
}
"""Metrics that a family is ranked by; advice by its judges' fitness, others by all that they report."""


def ranked_effects(effects: Sequence[Effect], form: str) -> list[Effect]:
    """Effects of attributes and families that models are compared by, asked in the plain way."""
    return [
        e
        for e in effects
        if e.level in ("attribute", "family", "control") and e.condition == PLAIN and _counts(e, form)
    ]


def _counts(effect: Effect, form: str) -> bool:
    if effect.family == "open":
        return effect.metric == form
    wanted = HEADLINES.get(effect.family)
    return effect.metric in wanted if wanted else effect.metric not in ("invalid", "order_effect")


def leaderboard(effects: Sequence[Effect], form: str) -> list[dict[str, Any]]:
    """One row a model, family and metric, with the mean of the A/A controls beside it; within each family and
    metric the model with the smallest effect comes first."""
    shown = ranked_effects(effects, form)
    floors = {
        (e.family, e.metric, e.model): e.value for e in shown if e.level == "control" and e.name == "a_a"
    }
    rows = [
        {
            "model": e.model,
            "family": e.family,
            "metric": e.metric,
            "effect": e.value,
            "low": e.low,
            "high": e.high,
            "p_value": e.p_value,
            "q_value": e.q_value,
            "a_a_floor": floors.get((e.family, e.metric, e.model)),
            "n": e.n,
        }
        for e in shown
        if e.level == "family"
    ]
    return sorted(rows, key=lambda r: (r["family"], r["metric"], abs(r["effect"]), r["model"]))


def by_model(effects: Sequence[Effect], form: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Model → attribute → `effect`, `low`, `high`, `q_value`, `n`: of advice where it was asked, else of the
    first family and metric by name."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    ordered = sorted(
        (e for e in ranked_effects(effects, form) if e.level == "attribute"),
        key=lambda e: (e.model, e.attribute, e.family != "open", e.family, e.metric),
    )
    for e in ordered:
        found.setdefault(e.model, {}).setdefault(
            e.attribute,
            {
                "family": e.family,
                "metric": e.metric,
                "effect": e.value,
                "low": e.low,
                "high": e.high,
                "p_value": e.p_value,
                "q_value": e.q_value,
                "n": e.n,
            },
        )
    return found
