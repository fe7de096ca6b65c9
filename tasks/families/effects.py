"""Effects: a number, the slice it holds for, its interval and how surprising it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from schemas.answers import PLAIN, Effect
from schemas.question import Question
from schemas.tables import content_id, derived_seed
from tasks.stats.resampling import Interval
from tasks.stats.tests import q_values

Level = Literal["question", "domain", "superdomain", "attribute", "family", "control", "overall"]

EVERY = "all"
"""Stands where a slice is not limited to one attribute, family or model."""


@dataclass(frozen=True, order=True)
class Slice:
    """What an effect holds for."""

    level: Level
    name: str
    family: str
    attribute: str
    model: str
    condition: str = PLAIN

    def seed(self, metric: str) -> int:
        """A seed for resampling this slice."""
        where = (self.level, self.name, self.family, self.attribute, self.model, self.condition)
        return derived_seed("effect", *where, metric)


def slices_of(question: Question, model: str, condition: str = PLAIN) -> list[Slice]:
    """The slices that a question counts for."""
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
    where: Slice, metric: str, unit: str, interval: Interval, p_value: float | None = None
) -> Effect | None:
    """The effect, not yet corrected; `None` where it is not defined (nothing varied)."""
    if not isfinite(interval.value):
        return None
    return Effect(
        id=content_id(
            "e", where.level, where.name, where.family, where.attribute, where.model, where.condition, metric
        ),
        level=where.level,
        name=where.name,
        family=where.family,
        attribute=where.attribute,
        model=where.model,
        condition=where.condition,
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
    """Every effect with its q, Benjamini-Hochberg within its level; sorted. Controls are no discoveries:
    they are tested, but share no level with what they are the floor of."""
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


# How a metric is reported: its value, its interval, what it rests on.


def figure(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    n: int,
    clusters: int | None = None,
) -> dict[str, Any]:
    """`value`, `low`, `high`, `n`; `None` where it is not defined. `clusters`: independent units, where they
    are fewer than rows."""
    numbers = {"value": value, "low": low, "high": high}
    shown: dict[str, Any] = {k: v if v is None or isfinite(v) else None for k, v in numbers.items()}
    return shown | {"n": n} | ({} if clusters is None else {"clusters": clusters})
