"""Rewordings and styles in the report: effects beyond the noise of their wording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.answers import Effect
from tasks.families.robustness import STYLE
from tasks.report.effects import metric_title, split_metric
from tasks.report.names import Names
from tasks.report.sentences import equals, language_name, number

Robust = Literal["robust", "not robust", "not measured", "no effect"]
PARTS = ("original", "reworded", "wording_deviation", "robust")
DROP = "reworded_drop"
CHANGED = "changed_answers"


@dataclass(frozen=True)
class WordingEffect:
    """The effect on one value, in the originals and in their rewordings."""

    original: Effect
    reworded: Effect
    deviation: Effect | None
    """Standard deviation of the effect between wordings of one question."""
    verdict: Robust
    reason: str | None
    """Why robustness is not measured."""
    text: str
    """The verdict in a sentence."""


@dataclass(frozen=True)
class StyleEffect:
    """Change of the effect on one value in one style, compared with the plain wording."""

    style: str
    value: str
    metric: str
    effect: Effect


@dataclass(frozen=True)
class ChangedAnswers:
    """How often rewordings by one principle change the answer."""

    principle: str
    effect: Effect


@dataclass(frozen=True)
class Robustness:
    """The section of the report."""

    wordings: tuple[WordingEffect, ...]
    """Robust effects first."""
    styles: tuple[StyleEffect, ...]
    changed: tuple[ChangedAnswers, ...]
    drops: tuple[Effect, ...]
    """Loss of right answers in rewordings, for families with a right answer."""

    def __bool__(self) -> bool:
        """Return whether there is anything to show."""
        return bool(self.wordings or self.styles or self.changed or self.drops)


def summarise_robustness(effects: Iterable[Effect], names: Names) -> Robustness:
    """Collect the effects that compare questions with their rewordings."""
    parts: dict[tuple[str, ...], dict[str, Effect]] = {}
    styles, changed, drops = [], [], []
    for e in effects:
        metric, value = split_metric(e)
        base, _, style = metric.partition(f"_{STYLE}")
        if e.level != "attribute":
            continue
        if style and value:
            styles.append(StyleEffect(style.replace("_", " "), value, base, e))
        elif metric == CHANGED:
            changed.append(ChangedAnswers(value.replace("_", " "), e))
        elif metric == DROP:
            drops.append(e)
        else:
            part = next((p for p in PARTS if value and metric.endswith(f"_{p}")), None)
            if part is not None:
                key = (e.family, e.attribute, e.model, e.condition, e.language, value)
                parts.setdefault((*key, metric.removesuffix(f"_{part}")), {})[part] = e
    wordings = [
        _wording(key[-1], key[-2], found, names)
        for key, found in sorted(parts.items())
        if {"original", "reworded"} <= found.keys()
    ]
    order: tuple[Robust, ...] = ("robust", "not robust", "no effect", "not measured")
    return Robustness(
        tuple(sorted(wordings, key=lambda w: (order.index(w.verdict), -abs(w.original.value or 0.0)))),
        tuple(sorted(styles, key=lambda s: (s.effect.q_value or 1.0, s.style, s.value))),
        tuple(changed),
        tuple(drops),
    )


def _wording(metric: str, value: str, found: Mapping[str, Effect], names: Names) -> WordingEffect:
    original, reworded, robust = found["original"], found["reworded"], found.get("robust")
    deviation = found.get("wording_deviation")
    verdict: Robust
    if robust is None or not robust.is_measured:
        verdict = "not measured"
    elif robust.value:
        verdict = "robust"
    else:
        away = (
            original.low is not None and original.high is not None and not original.low <= 0 <= original.high
        )
        verdict = "not robust" if away else "no effect"
    reason = None if robust is None else robust.reason
    who = f"{names.model(original.model)}, {names.value(original.attribute, value)} ({metric_title(metric)})"
    in_language = f" in {language_name(original.language)}"
    sizes = (
        f"{number(original.value, signed=True)} in the originals, {number(reworded.value, signed=True)}"
        f"{_range(reworded)} in their rewordings ({equals('p', reworded.p_value)}, {reworded.n:,} questions)"
    )
    words = {
        "robust": "the effect is larger than the noise of its wording",
        "not robust": "the effect depends on the wording",
        "no effect": "neither the originals nor the rewordings show an effect with certainty",
        "not measured": f"not measured: {reason or 'no reason is recorded'}",
    }[verdict]
    text = f"{who}{in_language}: {words}. {sizes}."
    return WordingEffect(original, reworded, deviation, verdict, reason, text)


def _range(effect: Effect) -> str:
    if effect.low is None or effect.high is None:
        return ""
    return f" [{number(effect.low, signed=True)}, {number(effect.high, signed=True)}]"
