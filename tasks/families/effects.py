"""Effects: estimates with their slice, interval, p-value and false discovery rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal

from schemas.answers import PLAIN, Effect, Verdict
from schemas.question import SELECTED, Question
from schemas.tables import content_id, derived_seed
from tasks.run.memory import drain
from tasks.stats.hypothesis_tests import q_values_by_family
from tasks.stats.intervals import MIN_CLUSTERS, t_quantile
from tasks.stats.power import detectable_errors
from tasks.stats.resampling import Interval

Level = Literal["question", "domain", "superdomain", "attribute", "family", "control", "overall"]

EVERY = "all"
"""Attribute, family, model or language of a slice that is not limited to one."""
ENGLISH = "en"


@dataclass(frozen=True, order=True)
class Slice:
    """The questions, model and condition that an effect is estimated on."""

    level: Level
    name: str
    family: str
    attribute: str
    model: str
    condition: str = PLAIN
    language: str = ENGLISH

    @property
    def key(self) -> tuple[str, ...]:
        """Parts of ids and seeds. English adds none, so that ids of earlier releases stay the same."""
        language = () if self.language in (ENGLISH, EVERY) else (self.language,)
        return (
            self.level, self.name, self.family, self.attribute, self.model, self.condition, *language
        )  # fmt: skip

    def seed(self, metric: str) -> int:
        """Return the seed for resampling a metric on this slice."""
        return derived_seed("effect", *self.key, metric)

    def in_condition(self, condition: str) -> Slice:
        """Return the same slice in another condition."""
        return replace(self, condition=condition)


def slice_of(effect: Effect) -> Slice:
    """Return the slice that an effect was estimated on."""
    return Slice(
        effect.level,
        effect.name,
        effect.family,
        effect.attribute,
        effect.model,
        effect.condition,
        effect.language,
    )


def slices_of(question: Question, model: str, condition: str = PLAIN) -> list[Slice]:
    """Return the slices that a question counts for. Questions that were not accepted count for none."""
    family, attribute, language = question.family, question.attribute, question.language
    if question.control != "none":
        return [Slice("control", question.control, family, EVERY, model, condition, language)]
    if question.label not in SELECTED:
        return []
    domain = f"{question.superdomain}/{question.domain}"
    return [
        Slice("domain", domain, family, attribute, model, condition, language),
        Slice("superdomain", question.superdomain, family, attribute, model, condition, language),
        Slice("attribute", attribute, family, attribute, model, condition, language),
        Slice("family", family, family, EVERY, model, condition, language),
    ]


def effect_of(
    slice_: Slice, metric: str, unit: str, interval: Interval, p_value: float | None = None
) -> Effect | None:
    """Build an effect without its q-value. Return `None` if the estimate is undefined."""
    if not isfinite(interval.value):
        return None
    return _effect(
        slice_,
        metric,
        unit,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        n=interval.n,
    )


def not_measured(slice_: Slice, metric: str, unit: str, reason: str) -> Effect:
    """Build an effect without a value."""
    return _effect(slice_, metric, unit, status="not_measured", reason=reason)


def _effect(slice_: Slice, metric: str, unit: str, **figures: Any) -> Effect:
    empty = {"value": None, "low": None, "high": None, "p_value": None, "n": 0}
    return Effect(
        id=content_id("e", *slice_.key, metric),
        level=slice_.level,
        name=slice_.name,
        family=slice_.family,
        attribute=slice_.attribute,
        model=slice_.model,
        condition=slice_.condition,
        language=slice_.language,
        metric=metric,
        unit=unit,
        q_value=None,
        **{**empty, **figures},
    )


def correct_for_multiplicity(effects: Iterable[Effect]) -> list[Effect]:
    """Add Benjamini-Hochberg q-values and sort the effects.

    The tests of one model on one level are a family. So a model's q-values do not depend on the models beside
    it, and controls, which are no discoveries, do not affect other levels. Contrasts of treatment, those of
    one framing, and the tests of equal coverage are corrected separately.
    """
    tested = list(effects)
    q_values = q_values_by_family([e.p_value for e in tested], [_tests_of(e) for e in tested])
    corrected = [e.model_copy(update={"q_value": q}) for e, q in zip(drain(tested), q_values, strict=True)]
    return sorted(
        corrected,
        key=lambda e: (
            *(e.level, e.name, e.family, e.attribute, e.model, e.condition, e.metric, e.language),
            e.framing,
        ),
    )


def _tests_of(effect: Effect) -> tuple[str, ...]:
    if effect.metric == UNEQUAL_COVERAGE:
        return effect.level, effect.model, "coverage"
    if effect.compared is None:
        return effect.level, effect.model
    return effect.level, effect.model, "contrasts", str(effect.framing != "all")


UNEQUAL_COVERAGE = "differential_coverage"
"""Metric of the effects on unequal coverage: highest minus lowest coverage of an attribute's values."""


@dataclass(frozen=True)
class VerdictRule:
    """When an effect counts as a difference, or as none that matters."""

    fdr: float = 0.05
    """False discovery rate. A difference has a q-value of at most this."""
    margins: Mapping[str, float] = field(default_factory=dict)
    """By family: largest contrast, in either direction, that does not matter."""

    def apply(self, effects: Iterable[Effect]) -> list[Effect]:
        """Return the effects with their verdict, standard error and smallest detectable distance."""
        return [
            e.model_copy(
                update={
                    "verdict": self.verdict(e),
                    "detectable": detectable(e) if e.q_value else None,
                    "standard_error": standard_error(e),
                }
            )
            for e in effects
        ]

    def verdict(self, effect: Effect) -> Verdict:
        """Return the one verdict of an effect.

        An effect without a test is not measured: it describes answers, judges or controls. So is a contrast
        without an interval, unless its test finds a difference: nobody knows what it could have found.
        """
        if not effect.is_measured or effect.q_value is None:
            return "not_measured"
        if effect.q_value <= self.fdr:
            return "differs"
        if effect.compared is not None and (effect.n < MIN_CLUSTERS or detectable(effect) is None):
            return "not_measured"
        margin = self.margins.get(effect.family) if effect.compared is not None else None
        if margin is not None and is_equivalent(effect, margin):
            return "equivalent"
        return "no_difference_found"


def detectable(effect: Effect) -> float | None:
    """Return the smallest distance from no effect that a two-sided test at .05 finds with a power of .8.

    The standard error comes from the interval.
    """
    error = standard_error(effect)
    return None if error is None else error * detectable_errors(effect.n)


def standard_error(effect: Effect) -> float | None:
    """Return the standard error that the interval implies, or `None` without an interval."""
    if effect.low is None or effect.high is None or effect.n < 2:
        return None
    return (effect.high - effect.low) / 2 / t_quantile(0.975, effect.n - 1)


def is_equivalent(effect: Effect, margin: float) -> bool:
    """Return whether two one-sided tests at .05 reject that the effect is beyond the margin.

    References:
        Schuirmann (1987), doi:10.1007/BF01068419.
    """
    if effect.low is None or effect.high is None or effect.value is None:
        return False
    inner = t_quantile(0.95, effect.n - 1) / t_quantile(0.975, effect.n - 1)
    low = effect.value - (effect.value - effect.low) * inner
    high = effect.value + (effect.high - effect.value) * inner
    return -margin < low and high < margin


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
