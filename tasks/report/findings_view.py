"""Findings on the pages: sentences, one picture per attribute and metric, and comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.answers import PLAIN, ValueFinding
from tasks.report.comparisons import PairedComparison
from tasks.report.effects import svg_key
from tasks.report.names import Names
from tasks.report.sentences import (
    FindingSentence,
    condense_comparisons,
    criterion_name,
    language_name,
    summarise_findings,
)

MOST_PANELS = 4
MOST_VALUES = 14
"""Values per picture. Those with the largest contrasts are drawn."""
MOST_COMPARISONS = 8


@dataclass(frozen=True)
class ContrastPanel:
    """How the values of one attribute are treated in one metric, by each model."""

    key: str
    title: str
    unit: str
    models: tuple[tuple[str, str], ...]
    """Models with their short names."""
    values: tuple[tuple[str, str], ...]
    """Values with their titles."""
    hidden: int
    """Number of values that are not drawn."""
    findings: Mapping[tuple[str, str], ValueFinding]
    """Finding by model and value."""
    axis: tuple[float, float]


@dataclass(frozen=True)
class FindingsView:
    """Findings as pages show them."""

    sentences: tuple[FindingSentence, ...]
    panels: tuple[ContrastPanel, ...]
    undrawn: int
    """Number of pictures that are not drawn."""
    rows: tuple[ValueFinding, ...]
    """Findings of whole attributes."""
    comparisons: tuple[tuple[PairedComparison, str], ...]
    """The first comparison of each group and the sentence of the group: differences first."""
    names: Names

    @property
    def unmeasured(self) -> list[FindingSentence]:
        """Sentences on missing measurements."""
        return [s for s in self.sentences if s.kind == "not_measured"]

    @property
    def measured(self) -> list[FindingSentence]:
        """All other sentences."""
        return [s for s in self.sentences if s.kind != "not_measured"]


def view_findings(
    findings: Iterable[ValueFinding],
    comparisons: Iterable[PairedComparison],
    names: Names,
    spans: Mapping[str, float],
) -> FindingsView:
    """Prepare findings and comparisons for a page."""
    rows = list(findings)
    whole = [f for f in rows if f.topic == f.framing == "all" and f.condition == PLAIN]
    panels = contrast_panels(whole, names, spans)
    return FindingsView(
        sentences=tuple(summarise_findings(rows, names, spans)),
        panels=panels[:MOST_PANELS],
        undrawn=max(0, len(panels) - MOST_PANELS),
        rows=tuple(whole),
        comparisons=tuple(_each_kind_first(condense_comparisons(comparisons, names))),
        names=names,
    )


def _each_kind_first(compared: Sequence[tuple[PairedComparison, str]]) -> list[tuple[PairedComparison, str]]:
    """Return the first comparison of models, of languages and of framings before all others."""
    first: dict[str, int] = {}
    for i, (comparison, _) in enumerate(compared):
        first.setdefault(comparison.by, i)
    order = sorted(range(len(compared)), key=lambda i: first[compared[i][0].by] != i)
    return [compared[i] for i in order]


def contrast_panels(
    findings: Sequence[ValueFinding], names: Names, spans: Mapping[str, float]
) -> tuple[ContrastPanel, ...]:
    """Return one panel per family, attribute, metric and language. Those with differences come first.

    The first panels belong to different families. Contrasts that were not measured are left out: a point
    without an interval would look like a result.
    """
    groups: dict[tuple[str, str, str, str], list[ValueFinding]] = {}
    for f in findings:
        if f.contrast is not None and f.verdict != "not_measured":
            groups.setdefault((f.family, f.attribute, f.metric, f.language), []).append(f)
    several = len({language for *_, language in groups}) > 1
    ordered = sorted(
        groups.items(),
        key=lambda g: (-sum(f.verdict == "differs" for f in g[1]), -max(abs(f.contrast or 0) for f in g[1])),
    )
    seen: Counter[str] = Counter()
    ranked = []
    for key, inside in ordered:
        ranked.append((seen[key[0]], key, inside))
        seen[key[0]] += 1
    ranked.sort(key=lambda item: item[0])
    return tuple(_panel(key, inside, names, spans, several) for _, key, inside in ranked)


def _panel(
    key: tuple[str, str, str, str],
    findings: Sequence[ValueFinding],
    names: Names,
    spans: Mapping[str, float],
    several_languages: bool,
) -> ContrastPanel:
    _, attribute, metric, language = key
    reach: dict[str, float] = {}
    for f in findings:
        reach[f.value] = max(reach.get(f.value, 0.0), abs(f.contrast or 0.0))
    shown = set(sorted(reach, key=lambda v: -reach[v])[:MOST_VALUES])
    order = (
        {v.id: i for i, v in enumerate(names.attributes[attribute].values)}
        if attribute in names.attributes
        else {}
    )
    values = sorted(shown, key=lambda v: (order.get(v, len(order)), v))
    drawn = [f for f in findings if f.value in shown]
    ends = [0.0, *(end for f in drawn for end in (f.low, f.high, f.contrast) if end is not None)]
    margin = 0.06 * (max(ends) - min(ends)) or 0.1
    unit = findings[0].unit
    if unit.startswith("judge's score"):
        unit = f"points of {spans[metric]:g}" if metric in spans else "points"
    where = f", {language_name(language)}" if several_languages else ""
    return ContrastPanel(
        key=svg_key("contrast-" + "-".join(key)),
        title=f"{names.attribute(attribute)}, {criterion_name(metric)}{where}",
        unit=unit,
        models=tuple((m, names.model(m)) for m in sorted({f.model for f in drawn})),
        values=tuple((v, names.value(attribute, v)) for v in values),
        hidden=len(reach) - len(shown),
        findings={(f.model, f.value): f for f in drawn},
        axis=(min(ends) - margin, max(ends) + margin),
    )
