"""The leaderboard: models by what a release shows of them, each with its interval and its own floor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schemas.answers import PLAIN, Effect
from schemas.tables import content_hash

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


# Effects for the report: per family small panels, one a metric and level, with the A/A floor beside them.


PANELS = {
    "overall": {
        "overall": "overall",
        "family": "overall",
        "attribute": "by attribute",
        "control": "controls",
    },
    "domain": {"superdomain": "by superdomain", "domain": "by domain"},
}
"""Panel to the levels that it shows, in this order, each with its words in the panel's title."""
METRIC_TITLES = {
    "normalised": "fitness, normalised form",
    "search": "fitness, search form",
    "gap": "gap in decisions",
    "gap_of_shares": "gap in decisions",
    "invalid": "invalid answers",
    "tau_c_sai": "tau-c, stimulus to attribute",
    "tau_c_asa": "tau-c, attribute to stimulus",
}
SELECTION = "selection"
"""Name of the effects that tell of the search itself; the section on the search shows them."""
MOST_ROWS = 18
"""Slices that one panel shows: those furthest from zero. The table has all."""
MOST_MODELS = 4
STRONGEST = 10
MOST_PANELS = 6
"""Panels of one family that are drawn: of the metrics that were measured most broadly."""
MOST_PANELS_IN_ALL = 36
MOST_TABLE_ROWS = 60
DIAGNOSTICS = frozenset({"invalid", "order_effect", "length", "refusal", "removed"})
"""Metrics that tell how answers came about, not what they show; they are drawn last."""
BROADEST_FIRST = ("overall", "family", "attribute", "control", "superdomain", "domain")


@dataclass(frozen=True)
class MetricFloor:
    """What A/A controls show in one metric: from the lowest to the highest end of their intervals."""

    low: float
    high: float
    n: int


def floor_of(zero: Sequence[Effect]) -> MetricFloor | None:
    """The floor of those A/A effects; `None` where there are none."""
    ends = _ends(zero)
    return MetricFloor(min(ends), max(ends), sum(e.n for e in zero)) if ends else None


@dataclass(frozen=True)
class EffectPanel:
    """The effects of one metric at some levels: one row a slice, one mark a model."""

    key: str
    family: str
    name: str
    condition: str
    metric: str
    """Its title; `name` is what the table calls it."""
    unit: str
    title: str
    labels: tuple[str, ...]
    """One an effect."""
    effects: tuple[Effect, ...]
    hidden: int
    """Slices that are only in the table."""
    floor: MetricFloor | None
    axis: tuple[float, float]
    """What all panels of the metric show, so that they can be compared: intervals, floor and zero."""


@dataclass(frozen=True)
class QuestionEffects:
    """Single questions in one metric."""

    metric: str
    unit: str
    questions: int
    below_q: int
    """How many have a corrected p below .05."""
    strongest: tuple[Effect, ...]


@dataclass(frozen=True)
class FamilyEffects:
    """Everything that was measured in one family of questions."""

    family: str
    models: tuple[str, ...]
    panels: tuple[EffectPanel, ...]
    undrawn: int
    """Panels that are left out; the table has what they would show."""
    table: tuple[Effect, ...]
    slices: int
    """How many rows the table would have if it were whole."""
    questions: tuple[QuestionEffects, ...]


def family_effects(effects: Iterable[Effect]) -> tuple[FamilyEffects, ...]:
    """All families, by name."""
    by_family: dict[str, list[Effect]] = {}
    for e in effects:
        by_family.setdefault(e.family, []).append(e)
    found = [_family(family, rows) for family, rows in sorted(by_family.items())]
    each = max(2, MOST_PANELS_IN_ALL // max(1, len(found)))
    return tuple(
        replace(f, panels=f.panels[:each], undrawn=f.undrawn + max(0, len(f.panels) - each)) for f in found
    )


def metric_of(effect: Effect) -> tuple[str, str]:
    """A metric and what it compares: `gap:woman-man` is the metric `gap` for `woman-man`."""
    metric, _, pair = effect.metric.partition(":")
    return metric, pair


def _family(family: str, rows: Sequence[Effect]) -> FamilyEffects:
    slices = [e for e in rows if e.level != "question" and e.name != SELECTION]
    by_metric: dict[tuple[str, str, str], list[Effect]] = {}
    for e in slices:
        by_metric.setdefault((metric_of(e)[0], e.unit, e.condition), []).append(e)
    broadest_first = sorted(
        by_metric.items(), key=lambda m: (m[0][0] in DIAGNOSTICS, -len({e.level for e in m[1]}), m[0])
    )
    panels = [p for (metric, _, _), found in broadest_first for p in _panels(family, metric, found)]
    told = [e for e in rows if e.level != "question"]
    broadest = sorted(told, key=lambda e: (BROADEST_FIRST.index(e.level), -abs(e.value), e.id))
    return FamilyEffects(
        family=family,
        models=tuple(sorted({e.model for e in slices})),
        panels=tuple(panels[:MOST_PANELS]),
        undrawn=max(0, len(panels) - MOST_PANELS),
        table=tuple(broadest[:MOST_TABLE_ROWS]),
        slices=len(told),
        questions=_questions(rows),
    )


def _questions(rows: Sequence[Effect]) -> tuple[QuestionEffects, ...]:
    by_metric: dict[tuple[str, str], list[Effect]] = {}
    for e in rows:
        if e.level == "question":
            by_metric.setdefault((e.metric, e.unit), []).append(e)
    return tuple(
        QuestionEffects(
            metric=metric,
            unit=unit,
            questions=len({e.name for e in found}),
            below_q=len({e.name for e in found if e.q_value is not None and e.q_value < 0.05}),
            strongest=tuple(sorted(found, key=lambda e: (-abs(e.value), e.id))[:STRONGEST]),
        )
        for (metric, unit), found in sorted(by_metric.items())
    )


def _panels(family: str, metric: str, rows: Sequence[Effect]) -> list[EffectPanel]:
    """The panels of one metric and condition that have anything to show, all on one axis."""
    unit, condition = rows[0].unit, rows[0].condition
    asked = "" if condition == PLAIN else f", asked with {condition.replace('_', ' ')}"
    zero = [e for e in rows if e.level == "control" and e.name == "a_a"]
    ends = _ends(zero)
    floor = floor_of(zero)
    chosen = {key: _furthest(rows, list(levels)) for key, levels in PANELS.items()}
    shown = [0.0, *ends, *_ends(e for found, _ in chosen.values() for e in found)]
    margin = 0.04 * (max(shown) - min(shown)) or 1.0
    return [
        EffectPanel(
            key=picture_key(f"effects-{family}-{metric}-{unit}-{condition}-{key}"),
            family=family,
            name=metric,
            condition=condition,
            metric=METRIC_TITLES.get(metric, metric.replace("_", " ")) + asked,
            unit=unit,
            title=", ".join(dict.fromkeys(PANELS[key][e.level] for e in found)),
            labels=tuple(slice_labels(found)),
            effects=tuple(found),
            hidden=hidden,
            floor=floor,
            axis=(min(shown) - margin, max(shown) + margin),
        )
        for key, (found, hidden) in chosen.items()
        if found
    ]


def metric_title(metric: str) -> str:
    """A metric in words, with what it compares."""
    name, _, pair = metric.partition(":")
    title = METRIC_TITLES.get(name, name.replace("_", " "))
    return f"{title}: {pair.replace('-', ' − ').replace('_', ' ')}" if pair else title


def picture_key(text: str) -> str:
    """A name for a picture that may stand in HTML and SVG ids, whatever it was made from."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
    return f"{plain[:60]}-{content_hash(text)[:6]}"


def _furthest(rows: Sequence[Effect], levels: Sequence[str]) -> tuple[list[Effect], int]:
    """The effects of the slices that are furthest from zero, in the order of levels and names, and how many
    slices are left out."""
    reach: dict[tuple[str, str, str], float] = {}
    effects = [e for e in rows if e.level in levels]
    for e in effects:
        key = (e.name, e.attribute, e.metric)
        reach[key] = max(reach.get(key, 0.0), abs(e.value))
    shown = set(sorted(reach, key=lambda key: (-reach[key], key))[:MOST_ROWS])
    kept = [e for e in effects if (e.name, e.attribute, e.metric) in shown]
    ordered = sorted(kept, key=lambda e: (levels.index(e.level), e.name, e.attribute, e.metric, e.model))
    return ordered, len(reach) - len(shown)


def slice_labels(effects: Sequence[Effect]) -> list[str]:
    """What a row stands for: the slice, its attribute where several share a level, what is compared."""
    attributes = {e.attribute for e in effects if e.level in ("superdomain", "domain")}
    return [_label(e, several=len(attributes) > 1) for e in effects]


def _label(e: Effect, *, several: bool) -> str:
    pair = metric_of(e)[1].replace("-", " − ")
    name = {"a_a": "A/A"}.get(e.name, e.name.rpartition("/")[2].replace("_", " "))
    if e.level == "family":
        name = "all questions"
    if e.level == "attribute" and pair:
        return pair
    if several and not pair and e.level in ("superdomain", "domain"):
        name = f"{name}, {e.attribute}"
    return f"{name}: {pair}" if pair else name


def _ends(effects: Iterable[Effect]) -> list[float]:
    return [end for e in effects for end in (e.low, e.high, e.value) if end is not None]


# The effects by which models are compared, each beside the A/A floor of the same model.


MOST_HEADLINES = 40
FEWEST = 2
"""Controls that a floor must stand on, before anything is held against it."""


@dataclass(frozen=True)
class Headline:
    """An effect by which models are compared, beside what the same model shows on A/A controls."""

    effect: Effect
    floor: MetricFloor | None

    @property
    def standing(self) -> str:
        """Whether its interval and that of the floor have nothing in common."""
        e, floor = self.effect, self.floor
        if floor is None or floor.n < FEWEST or e.low is None or e.high is None:
            return "not comparable"
        return "outside" if e.low > floor.high or e.high < floor.low else "inside"


def headlines(effects: Sequence[Effect], form: str | None) -> tuple[Headline, ...]:
    """Families and attributes, as the leaderboard compares models by them."""
    compared = ranked_effects(effects, form or "")
    zero: dict[tuple[str, str, str, str], list[Effect]] = {}
    for e in compared:
        if e.level == "control" and e.name == "a_a":
            zero.setdefault(_compared(e), []).append(e)
    rows = [
        Headline(e, floor_of(zero.get(_compared(e), ())))
        for e in compared
        if e.level in ("family", "attribute")
    ]
    return tuple(
        sorted(
            rows,
            key=lambda r: (
                r.effect.family, metric_of(r.effect)[0], r.effect.level != "family",
                r.effect.name, r.effect.metric, r.effect.model,
            ),
        )
    )  # fmt: skip


def _compared(e: Effect) -> tuple[str, str, str, str]:
    return e.family, metric_of(e)[0], e.model, e.condition
