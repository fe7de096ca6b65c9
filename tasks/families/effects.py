"""Effects: estimates with their slice, interval, p-value and false discovery rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from schemas.answers import PLAIN, Effect
from schemas.question import Question
from schemas.tables import content_id, derived_seed
from tasks.stats.hypothesis_tests import q_values
from tasks.stats.resampling import Interval

Level = Literal["question", "domain", "superdomain", "attribute", "family", "control", "overall"]

EVERY = "all"
"""Attribute, family or model of a slice that is not limited to one."""


@dataclass(frozen=True, order=True)
class Slice:
    """The questions, model and condition that an effect is estimated on."""

    level: Level
    name: str
    family: str
    attribute: str
    model: str
    condition: str = PLAIN

    def seed(self, metric: str) -> int:
        """Return the seed for resampling a metric on this slice."""
        key = (self.level, self.name, self.family, self.attribute, self.model, self.condition)
        return derived_seed("effect", *key, metric)


def slices_of(question: Question, model: str, condition: str = PLAIN) -> list[Slice]:
    """Return the slices that a question counts for. Questions that were not accepted count for none."""
    if question.control != "none":
        return [Slice("control", question.control, question.family, EVERY, model, condition)]
    if question.label != "accepted":
        return []
    domain = f"{question.superdomain}/{question.domain}"
    return [
        Slice("domain", domain, question.family, question.attribute, model, condition),
        Slice("superdomain", question.superdomain, question.family, question.attribute, model, condition),
        Slice("attribute", question.attribute, question.family, question.attribute, model, condition),
        Slice("family", question.family, question.family, EVERY, model, condition),
    ]


def effect_of(
    slice_: Slice, metric: str, unit: str, interval: Interval, p_value: float | None = None
) -> Effect | None:
    """Build an effect without its q-value. Return `None` if the estimate is undefined."""
    if not isfinite(interval.value):
        return None
    key = (slice_.level, slice_.name, slice_.family, slice_.attribute, slice_.model, slice_.condition)
    return Effect(
        id=content_id("e", *key, metric),
        level=slice_.level,
        name=slice_.name,
        family=slice_.family,
        attribute=slice_.attribute,
        model=slice_.model,
        condition=slice_.condition,
        metric=metric,
        unit=unit,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        q_value=None,
        n=interval.n,
    )


def correct_for_multiplicity(effects: Iterable[Effect]) -> list[Effect]:
    """Add Benjamini-Hochberg q-values and sort the effects.

    Each level is corrected by itself. So controls, which are no discoveries, do not affect other levels.
    """
    by_level: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        by_level[effect.level].append(effect)
    corrected = [
        effect.model_copy(update={"q_value": q})
        for level in by_level.values()
        for effect, q in zip(level, q_values([e.p_value for e in level]), strict=True)
    ]
    return sorted(
        corrected, key=lambda e: (e.level, e.name, e.family, e.attribute, e.model, e.condition, e.metric)
    )


def figure(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    n: int,
    clusters: int | None = None,
) -> dict[str, Any]:
    """Return a metric as it is reported: `value`, `low`, `high`, `n` and, if given, `clusters`.

    Numbers that are not finite become `None`. `clusters` is the number of independent units, if it is smaller
    than the number of rows `n`.
    """
    numbers = {"value": value, "low": low, "high": high}
    reported: dict[str, Any] = {k: v if v is None or isfinite(v) else None for k, v in numbers.items()}
    return reported | {"n": n} | ({} if clusters is None else {"clusters": clusters})


def figure_of(interval: Interval, rows: int | None = None) -> dict[str, Any]:
    """Return an estimate as a figure, with `clusters` if the number of rows is given."""
    if rows is None:
        return figure(interval.value, interval.low, interval.high, n=interval.n)
    return figure(interval.value, interval.low, interval.high, n=rows, clusters=interval.n)
