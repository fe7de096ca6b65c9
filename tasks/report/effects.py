"""Select the effects that the report and the leaderboard show, with the A/A floor of the same model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from schemas.answers import PLAIN, Effect
from schemas.tables import content_hash
from tasks.release.findings import describe_verdict
from tasks.report.names import Names

HEADLINE_METRICS = {
    "completion": ("tau_c_sai", "tau_c_asa"),
    "association": ("d_mean",),
    "relative_decision": ("consistent",),
    "task_accuracy": ("max_min_excess",),
    "entailment": ("bias",),
    "agreement": ("bias",),
    "ambiguous": ("bias_ambiguous", "bias_disambiguated"),
    "description_pair": ("difference",),
    "persona": ("drop",),
}
"""Metrics that models are compared by. `open` uses the judges' fitness. Families that are missing here use
all metrics."""


def comparable_effects(effects: Sequence[Effect], form: str) -> list[Effect]:
    """Return the effects that models are compared by: plain condition; attributes, families, controls."""
    return [
        e
        for e in effects
        if e.level in ("attribute", "family", "control") and e.condition == PLAIN and is_comparable(e, form)
    ]


NOT_COMPARED = frozenset({"invalid", "order_effect", "differential_coverage"})
"""Metrics of all families that describe answers, not models."""


def is_comparable(effect: Effect, form: str) -> bool:
    """Return whether models are compared by the metric of an effect. `form` is the form of fitness."""
    if effect.compared is not None:
        return False  # contrasts are findings
    if effect.family == "open":
        return effect.metric == form
    wanted = HEADLINE_METRICS.get(effect.family)
    return effect.metric in wanted if wanted else effect.metric not in NOT_COMPARED


def leaderboard(effects: Sequence[Effect], form: str) -> list[dict[str, Any]]:
    """Return one row per model, family and metric, with the mean of the A/A controls.

    Within a family, language and metric, the smallest effect comes first. Those that were not measured come
    last.
    """
    comparable = comparable_effects(effects, form)
    floors = {
        (e.family, e.metric, e.model, e.language): e.value
        for e in comparable
        if e.level == "control" and e.name == "a_a" and e.is_measured
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
            "a_a_floor": floors.get((e.family, e.metric, e.model, e.language)),
            "n": e.n,
            **_coverage(e),
        }
        for e in comparable
        if e.level == "family"
    ]
    return sorted(
        rows, key=lambda r: (r["family"], r["language"], r["metric"], _distance(r["effect"]), r["model"])
    )


def _coverage(effect: Effect) -> dict[str, Any]:
    return {
        "language": effect.language,
        "status": effect.status,
        "reason": effect.reason,
        "asked": effect.asked,
        "read": effect.read,
        "coverage": effect.coverage,
        "verdict": effect.verdict,
        "words": describe_verdict(effect),
    }


def _distance(value: float | None) -> float:
    """Return the distance from zero. Effects that were not measured come last."""
    return inf if value is None else abs(value)


def effects_by_model(effects: Sequence[Effect], form: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return `effect`, `low`, `high`, `q_value`, `n` and coverage by model and attribute.

    Each attribute has one entry: from the `open` family if available, otherwise from the first family and
    metric by name. Effects that were measured come first.
    """
    by_model: dict[str, dict[str, dict[str, Any]]] = {}
    ordered = sorted(
        (e for e in comparable_effects(effects, form) if e.level == "attribute"),
        key=lambda e: (e.model, e.attribute, not e.is_measured, e.family != "open", e.family, e.metric),
    )
    for e in ordered:
        by_model.setdefault(e.model, {}).setdefault(
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
                **_coverage(e),
            },
        )
    return by_model


# Panels: for each family small pictures by metric and level, with the A/A floor.


PANELS = {
    "overall": {
        "overall": "overall",
        "family": "overall",
        "attribute": "by attribute",
        "control": "controls",
    },
    "domain": {"superdomain": "by superdomain", "domain": "by domain"},
}
"""Levels that each panel shows, in this order, with their words in the panel's title."""
METRIC_TITLES = {
    "normalised": "fitness, normalised form",
    "search": "fitness, search form",
    "gap": "gap in decisions",
    "gap_of_shares": "gap in decisions",
    "rating_gap": "gap in ratings",
    "favourable": "favourable decisions",
    "invalid": "invalid answers",
    "differential_coverage": "unequal coverage",
    "corrected_treatment": "treatment, corrected with people’s scores",
    "tau_c_sai": "tau-c, stimulus to attribute",
    "tau_c_asa": "tau-c, attribute to stimulus",
}
SEARCH_EFFECTS = "selection"
"""Name of the effects that describe the search itself. They are shown in the section on the search."""
MOST_ROWS = 18
"""Slices per panel. Those furthest from zero are shown."""
MOST_MODELS = 4
MOST_QUESTIONS = 10
MOST_PANELS = 6
"""Panels per family. Metrics measured on the most levels are shown."""
MOST_PANELS_IN_ALL = 36
MOST_TABLE_ROWS = 60
DIAGNOSTICS = frozenset({"invalid", "order_effect", "length", "refusal", "removed", "differential_coverage"})
"""Metrics that describe how answers were given rather than bias. Their panels come last."""
BROADEST_FIRST = ("overall", "family", "attribute", "control", "superdomain", "domain")


@dataclass(frozen=True)
class MetricFloor:
    """Range of the A/A controls in one metric, from the lowest to the highest interval bound."""

    low: float
    high: float
    n: int


def compute_metric_floor(zero: Sequence[Effect]) -> MetricFloor | None:
    """Return the floor of A/A effects, or `None` without any."""
    ends = _ends(zero)
    return MetricFloor(min(ends), max(ends), sum(e.n for e in zero)) if ends else None


@dataclass(frozen=True)
class EffectPanel:
    """The effects of one metric at some levels: one row per slice, one marker per model."""

    key: str
    family: str
    name: str
    condition: str
    metric: str
    """Title of the metric. `name` is its name in the table."""
    unit: str
    title: str
    labels: tuple[str, ...]
    """One label per effect."""
    effects: tuple[Effect, ...]
    hidden: int
    """Number of slices that are not shown."""
    floor: MetricFloor | None
    axis: tuple[float, float]
    """Common range of all panels of the metric."""


@dataclass(frozen=True)
class QuestionEffects:
    """Effects of single questions in one metric."""

    metric: str
    unit: str
    questions: int
    below_q: int
    """Number of questions with q < .05."""
    strongest: tuple[Effect, ...]


@dataclass(frozen=True)
class FamilyEffects:
    """All effects of one family."""

    family: str
    models: tuple[str, ...]
    panels: tuple[EffectPanel, ...]
    undrawn: int
    """Number of panels that are not drawn."""
    table: tuple[Effect, ...]
    slices: int
    """Number of rows of the complete table."""
    questions: tuple[QuestionEffects, ...]


def effects_by_family(effects: Iterable[Effect], names: Names | None = None) -> tuple[FamilyEffects, ...]:
    """Return the effects of all families, sorted by name. `names` are those of rows; default: ids."""
    names = names or Names.of((), {})
    by_family: dict[str, list[Effect]] = {}
    for e in effects:
        if e.compared is not None:  # contrasts are findings
            continue
        by_family.setdefault(e.family, []).append(e)
    families = [_family(family, rows, names) for family, rows in sorted(by_family.items())]
    each = max(2, MOST_PANELS_IN_ALL // max(1, len(families)))
    return tuple(
        replace(f, panels=f.panels[:each], undrawn=f.undrawn + max(0, len(f.panels) - each)) for f in families
    )


def split_metric(effect: Effect) -> tuple[str, str]:
    """Split a metric into its name and the pair it compares: `gap:woman-man` gives `gap` and `woman-man`."""
    metric, _, pair = effect.metric.partition(":")
    return metric, pair


def _family(family: str, rows: Sequence[Effect], names: Names) -> FamilyEffects:
    slices = [e for e in rows if e.level != "question" and e.name != SEARCH_EFFECTS]
    by_metric: dict[tuple[str, str, str], list[Effect]] = {}
    for e in slices:
        if e.is_measured:
            by_metric.setdefault((split_metric(e)[0], e.unit, e.condition), []).append(e)
    broadest_first = sorted(
        by_metric.items(), key=lambda m: (m[0][0] in DIAGNOSTICS, -len({e.level for e in m[1]}), m[0])
    )
    panels = [p for (metric, _, _), group in broadest_first for p in _panels(family, metric, group, names)]
    listed = [e for e in rows if e.level != "question"]
    broadest = sorted(listed, key=lambda e: (BROADEST_FIRST.index(e.level), -_distance(e.value), e.id))
    return FamilyEffects(
        family=family,
        models=tuple(sorted({e.model for e in slices})),
        panels=tuple(panels[:MOST_PANELS]),
        undrawn=max(0, len(panels) - MOST_PANELS),
        table=tuple(broadest[:MOST_TABLE_ROWS]),
        slices=len(listed),
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
            questions=len({e.name for e in group}),
            below_q=len({e.name for e in group if e.q_value is not None and e.q_value < 0.05}),
            strongest=tuple(
                sorted((e for e in group if e.is_measured), key=lambda e: (-_distance(e.value), e.id))[
                    :MOST_QUESTIONS
                ]
            ),
        )
        for (metric, unit), group in sorted(by_metric.items())
    )


def _panels(family: str, metric: str, rows: Sequence[Effect], names: Names) -> list[EffectPanel]:
    """Return the non-empty panels of one metric and condition, all with the same axis."""
    unit, condition = rows[0].unit, rows[0].condition
    suffix = "" if condition == PLAIN else f", condition {condition.replace('_', ' ')}"
    zero = [e for e in rows if e.level == "control" and e.name == "a_a"]
    ends = _ends(zero)
    floor = compute_metric_floor(zero)
    chosen = {key: _furthest(rows, list(levels)) for key, levels in PANELS.items()}
    values = [0.0, *ends, *_ends(e for selected, _ in chosen.values() for e in selected)]
    margin = 0.04 * (max(values) - min(values)) or 1.0
    return [
        EffectPanel(
            key=svg_key(f"effects-{family}-{metric}-{unit}-{condition}-{key}"),
            family=family,
            name=metric,
            condition=condition,
            metric=METRIC_TITLES.get(metric, metric.replace("_", " ")) + suffix,
            unit=unit,
            title=", ".join(dict.fromkeys(PANELS[key][e.level] for e in selected)),
            labels=tuple(slice_labels(selected, names)),
            effects=tuple(selected),
            hidden=hidden,
            floor=floor,
            axis=(min(values) - margin, max(values) + margin),
        )
        for key, (selected, hidden) in chosen.items()
        if selected
    ]


def metric_title(metric: str) -> str:
    """Return the title of a metric, with the pair it compares."""
    name, _, pair = metric.partition(":")
    title = METRIC_TITLES.get(name, name.replace("_", " "))
    return f"{title}: {pair.replace('-', ' − ').replace('_', ' ')}" if pair else title


def svg_key(text: str) -> str:
    """Return a unique key that is valid in HTML and SVG ids."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
    return f"{slug[:60]}-{content_hash(text)[:6]}"


def _furthest(rows: Sequence[Effect], levels: Sequence[str]) -> tuple[list[Effect], int]:
    """Return the effects of the slices furthest from zero, and the number of omitted slices."""
    reach: dict[tuple[str, str, str], float] = {}
    effects = [e for e in rows if e.level in levels]
    for e in effects:
        key = (e.name, e.attribute, e.metric)
        reach[key] = max(reach.get(key, 0.0), _distance(e.value))
    furthest = set(sorted(reach, key=lambda key: (-reach[key], key))[:MOST_ROWS])
    kept = [e for e in effects if (e.name, e.attribute, e.metric) in furthest]
    ordered = sorted(kept, key=lambda e: (levels.index(e.level), e.name, e.attribute, e.metric, e.model))
    return ordered, len(reach) - len(furthest)


def slice_labels(effects: Sequence[Effect], names: Names) -> list[str]:
    """Return the row labels. The attribute is included if several attributes share a level."""
    attributes = {e.attribute for e in effects if e.level in ("superdomain", "domain")}
    return [_label(e, names, several=len(attributes) > 1) for e in effects]


def _label(e: Effect, names: Names, *, several: bool) -> str:
    own = split_metric(e)[1]
    pair = names.pair(e.attribute, own) if own else ""
    if e.level == "family":
        name = "all questions"
    elif e.level == "attribute":
        name = names.attribute(e.attribute)
    elif e.level in ("superdomain", "domain"):
        name = names.topic(e.name)
    else:
        name = {"a_a": "A/A"}.get(e.name, e.name.replace("_", " "))
    if e.level == "attribute" and pair:
        return pair
    if several and not pair and e.level in ("superdomain", "domain"):
        name = f"{name}, {names.attribute(e.attribute)}"
    return f"{name}: {pair}" if pair else name


def _ends(effects: Iterable[Effect]) -> list[float]:
    return [end for e in effects for end in (e.low, e.high, e.value) if end is not None]


# Headlines: the effects that models are compared by.


MOST_HEADLINES = 40


@dataclass(frozen=True)
class Headline:
    """An effect that models are compared by, with the A/A floor of the same model."""

    effect: Effect
    floor: MetricFloor | None

    @property
    def words(self) -> str:
        """The verdict on the effect. A measured effect without a test has none."""
        if self.effect.is_measured and self.effect.p_value is None:
            return "–"
        return describe_verdict(self.effect)


def select_headlines(effects: Sequence[Effect], form: str | None) -> tuple[Headline, ...]:
    """Return the effects of families and attributes, sorted for display."""
    compared = comparable_effects(effects, form or "")
    zero: dict[tuple[str, str, str, str, str], list[Effect]] = {}
    for e in compared:
        if e.level == "control" and e.name == "a_a":
            zero.setdefault(_floor_key(e), []).append(e)
    rows = [
        Headline(e, compute_metric_floor(zero.get(_floor_key(e), ())))
        for e in compared
        if e.level in ("family", "attribute")
    ]
    return tuple(
        sorted(
            rows,
            key=lambda r: (
                r.effect.family, split_metric(r.effect)[0], r.effect.level != "family",
                r.effect.name, r.effect.metric, r.effect.model,
            ),
        )
    )  # fmt: skip


def _floor_key(e: Effect) -> tuple[str, str, str, str, str]:
    return e.family, split_metric(e)[0], e.model, e.condition, e.language
