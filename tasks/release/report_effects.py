"""Effects for the report: one panel a metric and level, with what A/A controls show beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.effect import Effect

LEVELS = ("overall", "attribute", "family", "superdomain", "domain")
LEVEL_TITLES = {
    "overall": "by model",
    "attribute": "by attribute",
    "family": "by family",
    "superdomain": "by superdomain",
    "domain": "by domain",
}
MOST_ROWS = 14
"""Slices that one panel shows: those furthest from zero. The table has all."""
MOST_MODELS = 4


@dataclass(frozen=True)
class EffectPanel:
    """The effects of one level that share an axis: one row a slice, one mark a model."""

    level: str
    title: str
    effects: tuple[Effect, ...]
    hidden: int
    """Slices that are only in the table."""


@dataclass(frozen=True)
class MetricEffects:
    """Everything that was measured in one metric of one family."""

    family: str
    metric: str
    unit: str
    models: tuple[str, ...]
    floor: tuple[float, float] | None
    """From the lowest to the highest end of the A/A controls' intervals."""
    floor_n: int
    axis: tuple[float, float]
    """What all panels show, so that they can be compared: every interval, the floor, and zero."""
    panels: tuple[EffectPanel, ...]
    table: tuple[Effect, ...]
    strongest: tuple[Effect, ...]
    """Single questions with the largest effects."""
    questions: int
    questions_below_q: int
    """Single questions whose corrected p is below .05."""


def metric_effects(effects: Iterable[Effect]) -> tuple[MetricEffects, ...]:
    """All metrics, by family and name."""
    by_metric: dict[tuple[str, str, str], list[Effect]] = {}
    for e in effects:
        by_metric.setdefault((e.family, e.metric, e.unit), []).append(e)
    return tuple(_metric(key, rows) for key, rows in sorted(by_metric.items()))


def _metric(key: tuple[str, str, str], rows: Sequence[Effect]) -> MetricEffects:
    floor_rows = [e for e in rows if e.level == "control" and "a_a" in e.name]
    ends = _ends(floor_rows)
    panels = tuple(panel for level in LEVELS if (panel := _panel(level, rows)) is not None)
    shown = [0.0, *ends, *_ends([e for panel in panels for e in panel.effects])]
    margin = 0.04 * (max(shown) - min(shown)) or 1.0
    questions = [e for e in rows if e.level == "question"]
    return MetricEffects(
        family=key[0],
        metric=key[1],
        unit=key[2],
        models=tuple(sorted({e.model for e in rows})),
        floor=(min(ends), max(ends)) if ends else None,
        floor_n=sum(e.n for e in floor_rows),
        axis=(min(shown) - margin, max(shown) + margin),
        panels=panels,
        table=tuple(e for e in rows if e.level != "question"),
        strongest=tuple(sorted(questions, key=lambda e: (-abs(e.value), e.id))[:10]),
        questions=len(questions),
        questions_below_q=sum(e.q_value is not None and e.q_value < 0.05 for e in questions),
    )


def _ends(effects: Sequence[Effect]) -> list[float]:
    return [end for e in effects for end in (e.low, e.high, e.value) if end is not None]


def _panel(level: str, rows: Sequence[Effect]) -> EffectPanel | None:
    """The slices of a level, in the order of their names; `None` where there is nothing to compare."""
    effects = [e for e in rows if e.level == level]
    reach: dict[str, float] = {}
    for e in effects:
        reach[e.name] = max(reach.get(e.name, 0.0), abs(e.value))
    shown = set(sorted(reach, key=lambda name: (-reach[name], name))[:MOST_ROWS])
    if not shown:
        return None
    kept = sorted((e for e in effects if e.name in shown), key=lambda e: (e.name, e.attribute, e.model))
    return EffectPanel(level, LEVEL_TITLES[level], tuple(kept), len(reach) - len(shown))
