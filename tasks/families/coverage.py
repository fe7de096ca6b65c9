"""Coverage: how many of the answers that were asked for can be used, and which effects stay unmeasured.

Failed calls, empty answers, refusals and unreadable answers count as asked. An effect with a coverage below
`validate.min_coverage` has no value. It is *not measured*, with the reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from schemas.answers import DONT_KNOW, PLAIN, Effect, Response
from schemas.question import Question
from tasks.families import method_of
from tasks.families.effects import UNEQUAL_COVERAGE, Slice, not_measured, slice_of, slices_of
from tasks.families.polarity import balance_polarity
from tasks.judges.resources import language_gap
from tasks.models.protocol import EMPTY_KINDS
from tasks.stats.differential_rate import differential_rate

AnswerStatus = Literal["read", "refused", "unreadable", "empty", "failed"]
STATUSES: tuple[AnswerStatus, ...] = get_args(AnswerStatus)

JUDGED_UNIT = "judge's score of "
"""Beginning of the unit of effects on the scores that judges give to single versions."""
LOSS_METRICS = frozenset(
    {"invalid", "excluded", "empty", "unreadable", "unscored", "removed", UNEQUAL_COVERAGE}
)
"""Metrics that describe lost answers. They are measured whatever the coverage is."""
REFUSAL_METRICS = frozenset({"refused", "refusal", "abstention"})
"""Metrics for which a refusal is a usable answer, in every family."""
BASELINE_CONDITIONS = (PLAIN, "noise")
"""Conditions that families compare others with."""
COMPARED_LEVELS = frozenset({"question", "domain", "superdomain", "attribute"})
"""Levels of slices with a single attribute."""
MAIN_METRICS = {
    "ambiguous": "bias_ambiguous",
    "agreement": "bias",
    "association": "d_mean",
    "autocomplete": "regard",
    "completion": "tau_c_sai",
    "decision": "gap",
    "description_pair": "difference",
    "dialect": "d_mean",
    "entailment": "bias",
    "open": "divergence",
    "perplexity_pair": "difference",
    "persona": "drop",
    "political": "agreement",
    "rating": "rating_gap",
    "refusal": "refused",
    "relative_decision": "consistent",
    "task_accuracy": "max_min_excess",
}
"""Metric under which a slice is reported if it has too few answers for any effect."""


# Counting answers.


def answer_status(question: Question, response: Response) -> AnswerStatus:
    """Return whether an answer can be used by its family's metrics, and if not, why."""
    if response.failure is not None:
        return "empty" if response.failure in EMPTY_KINDS else "failed"
    method = method_of(question.family)
    if method.scores_text:
        return "unreadable" if response.log_perplexity is None else "read"
    if response.refused or response.reading == "refused":
        return "refused"
    if not response.text.strip() and response.option is None:
        return "empty"
    if response.reading_rule == DONT_KNOW and response.reading == "read":
        return "read"
    if method.form != "text":
        return "unreadable" if response.option is None else "read"
    readable = method.readable is None or method.readable(question, response)
    return "read" if readable and response.reading != "unreadable" else "unreadable"


@dataclass(frozen=True)
class StatusCounts:
    """Number of answers by status."""

    read: int = 0
    refused: int = 0
    unreadable: int = 0
    empty: int = 0
    failed: int = 0

    @classmethod
    def of(cls, statuses: Iterable[AnswerStatus] | Counter[AnswerStatus]) -> StatusCounts:
        """Count statuses."""
        counted = Counter(statuses)
        return cls(**{status: counted[status] for status in STATUSES})

    @property
    def asked(self) -> int:
        """Number of answers asked for."""
        return sum(getattr(self, status) for status in STATUSES)

    def usable(self, *, refusals: bool) -> int:
        """Return the number of usable answers. Refusals are usable if they are measured."""
        return self.read + (self.refused if refusals else 0)

    def losses(self, *, refusals: bool) -> str:
        """Return the lost answers in words, such as "3 empty, 2 unreadable"."""
        lost = [s for s in STATUSES if s != "read" and not (refusals and s == "refused")]
        return ", ".join(f"{n:,} {s}" for s in lost if (n := getattr(self, s)))


@dataclass
class SliceAnswers:
    """Answers of one slice by question and variant."""

    values: dict[tuple[str, int], str] = field(default_factory=dict)
    cells: dict[tuple[str, int], Counter[AnswerStatus]] = field(default_factory=dict)
    spreads: dict[tuple[tuple[str, ...], int, bool], tuple[float, float]] = field(default_factory=dict)
    """Spreads that were computed before. Many effects share the answers of a slice."""

    def counts(self, values: Sequence[str] = ()) -> StatusCounts:
        """Count the answers about some values, or about all."""
        total: Counter[AnswerStatus] = Counter()
        for cell, counter in self.cells.items():
            if not values or self.values[cell] in values:
                total += counter
        return StatusCounts.of(total)

    @cached_property
    def distinct_values(self) -> tuple[str, ...]:
        """The values that were asked about, sorted."""
        return tuple(sorted(set(self.values.values())))

    def spread(self, values: tuple[str, ...], seed: int, *, refusals: bool) -> tuple[float, float]:
        """Return the highest minus the lowest coverage of the values, and its p-value."""
        compared = values or self.distinct_values
        if (known := self.spreads.get((compared, seed, refusals))) is not None:
            return known
        questions = sorted({question for question, _ in self.cells})
        row = {question: i for i, question in enumerate(questions)}
        column = {value: i for i, value in enumerate(compared)}
        read, asked = np.zeros((2, len(questions), len(compared)))
        for (question, variant), counter in self.cells.items():
            value = self.values[question, variant]
            if value in column:
                counts = StatusCounts.of(counter)
                read[row[question], column[value]] += counts.usable(refusals=refusals)
                asked[row[question], column[value]] += counts.asked
        self.spreads[compared, seed, refusals] = differential_rate(read, asked, seed)
        return self.spreads[compared, seed, refusals]


class AnswersBySlice:
    """Answers by slice. Responses to unknown questions are ignored."""

    def __init__(self, questions: Mapping[str, Question], responses: Iterable[Response]) -> None:
        self._slices: dict[Slice, SliceAnswers] = defaultdict(SliceAnswers)
        cells: dict[tuple[str, int, str, str], Counter[AnswerStatus]] = {}
        for r in balance_polarity(questions, responses):
            question = questions.get(r.question_id)
            if question is None:
                continue
            cell = r.question_id, r.variant, r.model, r.condition
            if cell not in cells:
                cells[cell] = Counter()
                self.add(question, r.variant, r.value, r.model, r.condition, cells[cell])
            cells[cell][answer_status(question, r)] += 1

    def add(
        self,
        question: Question,
        variant: int,
        value: str,
        model: str,
        condition: str,
        counter: Counter[AnswerStatus],
    ) -> None:
        """Add a counter of answers to all slices of a question. They share it, because there are many."""
        cell = question.id, variant
        own = Slice(
            "question", question.id, question.family, question.attribute, model, condition, question.language
        )
        for slice_ in (own, *slices_of(question, model, condition)):
            answers = self._slices[slice_]
            answers.values[cell] = value
            answers.cells[cell] = counter

    def __getitem__(self, slice_: Slice) -> SliceAnswers | None:
        return self._slices.get(slice_)

    def slices(self, *levels: str) -> list[Slice]:
        """Return the slices of some levels, sorted."""
        return sorted(s for s in self._slices if s.level in levels)


# Effects with their coverage.


@dataclass(frozen=True)
class CoverageRule:
    """The bar that effects must reach, and the resources that metrics need."""

    min_coverage: float
    data_dir: Path

    def apply(
        self, effects: Iterable[Effect], coverage: AnswersBySlice, *, across: bool = False
    ) -> list[Effect]:
        """Return the effects with their coverage. Those below the bar are not measured.

        Args:
            effects: Effects without q-values.
            coverage: The answers that they are computed from.
            across: Whether the effects compare two conditions. Then both must reach the bar.
        """
        return [self._cover(effect, coverage, across=across) for effect in effects]

    def _cover(self, effect: Effect, coverage: AnswersBySlice, *, across: bool) -> Effect:
        slice_ = slice_of(effect)
        answers = coverage[slice_]
        is_judged = effect.unit.startswith(JUDGED_UNIT)  # a judge needs no word lists
        gap = None if is_judged else metric_gap(effect.family, effect.metric, effect.language, self.data_dir)
        if answers is None:
            return _without_value(effect, gap) if gap else effect
        metric, _, pair = effect.metric.partition(":")
        # A contrast compares a value with the mean of all, so that the answers about all of them count.
        values = compared_values(pair, answers.distinct_values) if effect.compared is None else ()
        refusals = counts_refusals(effect.family, metric)
        counts = answers.counts(values)
        read = counts.usable(refusals=refusals)
        covered: dict[str, object] = {"asked": counts.asked, "read": read, "coverage": read / counts.asked}
        if effect.level in COMPARED_LEVELS and len(values or answers.distinct_values) > 1:
            spread, p_value = answers.spread(values, slice_.seed("coverage"), refusals=refusals)
            covered |= {"differential_coverage": spread, "differential_coverage_p": p_value}
        reason = gap
        if reason is None and metric not in LOSS_METRICS:
            reason = self.gap(answers, values, refusals=refusals)
            if reason is None and across:
                reason = self._baseline_gap(slice_, coverage, values, refusals=refusals)
        effect = effect.model_copy(update=covered)
        return effect if reason is None else _without_value(effect, reason)

    def gap(self, answers: SliceAnswers, values: Sequence[str] = (), *, refusals: bool) -> str | None:
        """Return why an effect of these answers cannot be measured, or `None` if it can."""
        counts = answers.counts(values)
        read = counts.usable(refusals=refusals)
        if read < self.min_coverage * counts.asked or not read:
            return (
                f"coverage: {read:,} of {counts.asked:,} answers could be read "
                f"({counts.losses(refusals=refusals)}); at least {self.min_coverage:.0%} are required"
            )
        for value in values or answers.distinct_values:
            own = answers.counts((value,))
            if own.asked and not own.usable(refusals=refusals):
                losses = own.losses(refusals=refusals)
                return f"coverage: none of the {own.asked:,} answers about {value!r} could be read ({losses})"
        return None

    def _baseline_gap(
        self, slice_: Slice, coverage: AnswersBySlice, values: Sequence[str], *, refusals: bool
    ) -> str | None:
        for condition in BASELINE_CONDITIONS:
            answers = coverage[slice_.in_condition(condition)]
            reason = self.gap(answers, values, refusals=refusals) if answers else None
            if reason:
                return f"{reason} in the condition {condition!r}"
        return None

    def unmeasured_slices(self, coverage: AnswersBySlice, measured: Iterable[Effect]) -> list[Effect]:
        """Return a row without value for each attribute and family that has no other row because of coverage.

        Args:
            coverage: All answers.
            measured: The effects with their coverage.
        """
        present = {slice_of(e) for e in measured if e.metric.partition(":")[0] not in LOSS_METRICS}
        rows = []
        for slice_ in coverage.slices("attribute", "family"):
            answers = coverage[slice_]
            if slice_ in present or answers is None:
                continue
            metric = MAIN_METRICS[slice_.family]
            reason = self.gap(answers, refusals=counts_refusals(slice_.family, metric))
            if reason is not None:
                rows.append(not_measured(slice_, metric, "none", reason))
        return self.apply(rows, coverage)

    def unequal_slices(self, coverage: AnswersBySlice) -> list[Effect]:
        """Return one effect per attribute on the unequal coverage of its values, with its p-value.

        Slices without a lost answer have nothing to test and no row. The tests of one model are a family of
        their own in `correct_for_multiplicity`.
        """
        rows = []
        for slice_ in coverage.slices("attribute"):
            answers = coverage[slice_]
            if answers is None or len(answers.distinct_values) < 2:
                continue
            refusals = counts_refusals(slice_.family, MAIN_METRICS[slice_.family])
            counts = answers.counts()
            read = counts.usable(refusals=refusals)
            if read == counts.asked:
                continue
            spread, p_value = answers.spread((), slice_.seed("coverage"), refusals=refusals)
            row = not_measured(slice_, UNEQUAL_COVERAGE, "share of answers", "")
            figures = {"status": "measured", "reason": None, "value": spread, "p_value": p_value}
            counted = {"asked": counts.asked, "read": read, "coverage": read / counts.asked}
            rows.append(
                row.model_copy(
                    update={
                        **figures,
                        **counted,
                        "n": len({question for question, _ in answers.cells}),
                        "differential_coverage": spread,
                        "differential_coverage_p": p_value,
                    }
                )
            )
        return rows

    def families_below(self, coverage: AnswersBySlice) -> dict[str, list[tuple[Slice, str]]]:
        """Return the families that cannot be measured for any attribute, with the reason of each slice."""
        reasons: dict[str, list[tuple[Slice, str | None]]] = defaultdict(list)
        for slice_ in coverage.slices("attribute"):
            refusals = counts_refusals(slice_.family, MAIN_METRICS[slice_.family])
            answers = coverage[slice_]
            if answers is not None:
                reasons[slice_.family].append((slice_, self.gap(answers, refusals=refusals)))
        return {
            family: [(slice_, reason) for slice_, reason in found if reason is not None]
            for family, found in reasons.items()
            if all(reason is not None for _, reason in found)
        }


def counts_refusals(family: str, metric: str) -> bool:
    """Return whether a refusal is a usable answer for a metric."""
    return method_of(family).measures_refusals or metric.partition("_")[0] in REFUSAL_METRICS


def compared_values(pair: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return the values that the second part of a metric names: one (`women`) or two (`woman-man`)."""
    if pair in values:
        return (pair,)
    return next(((a, b) for a in values for b in values if a != b and pair == f"{a}-{b}"), ())


def metric_gap(family: str, metric: str, language: str, data_dir: Path) -> str | None:
    """Return why a metric is unknown in a language: its word list is of another one."""
    resources = method_of(family).resources
    name = metric.partition(":")[0]
    resource = next((r for m, r in resources.items() if name == m or name.startswith(f"{m}_")), None)
    return language_gap(resource, language, data_dir) if resource else None


def _without_value(effect: Effect, reason: str) -> Effect:
    empty = dict.fromkeys(("value", "low", "high", "p_value", "q_value"))
    return effect.model_copy(update={**empty, "n": 0, "status": "not_measured", "reason": reason})
