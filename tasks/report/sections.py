"""Compute the sections of the report: search, coverage, near-duplicates, labels, cost and trust."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from schemas.answers import Effect
from schemas.labels import Dropped, LabelChange
from schemas.question import SELECTED, Question
from schemas.recipe import Recipe
from schemas.release import Manifest, NearMiss, StageCost
from tasks.judges.passports import audit_warnings, deciding_judges, without_endpoints
from tasks.release.fitness import (
    SIGNIFICANT,
    HoldoutTest,
    Shrinkage,
    TopicOfFalsePositives,
    classify_judges,
)
from tasks.report.coverage import MeasurementCoverage
from tasks.report.effects import SEARCH_EFFECTS


@dataclass(frozen=True)
class Round:
    """Judged and accepted questions of one round of evolution."""

    number: int
    judged: int
    accepted: int
    fitness_median: float
    fitness_high: float
    """90th percentile."""
    control_median: float | None


def summarise_rounds(questions: Iterable[Question]) -> tuple[Round, ...]:
    """Summarise the judged `open` questions by round. `questions` includes dropped ones."""
    by_round: dict[int, list[Question]] = defaultdict(list)
    for q in questions:
        if q.family == "open" and q.fitness is not None:
            by_round[q.round].append(q)
    summaries = []
    for number, judged in sorted(by_round.items()):
        real = sorted(q.fitness for q in judged if q.fitness is not None and q.control == "none")
        zero = [q.fitness for q in judged if q.fitness is not None and q.control in {"a_a", "placebo"}]
        if real:
            summaries.append(
                Round(
                    number=number,
                    judged=len(real),
                    accepted=sum(q.label in SELECTED and q.control == "none" for q in judged),
                    fitness_median=median(real),
                    fitness_high=real[-(-9 * len(real) // 10) - 1],
                    control_median=median(zero) if zero else None,
                )
            )
    return tuple(summaries)


@dataclass(frozen=True)
class Operation:
    """Questions that one operator made in one round."""

    number: int
    operator: str | None
    """`None` for seeds and their controls."""
    made: int
    judged: int
    accepted: int
    fitness_mean: float | None


def summarise_operations(questions: Iterable[Question]) -> tuple[Operation, ...]:
    """Count `open` questions without controls by round and operator. `questions` includes dropped ones."""
    groups: dict[tuple[int, str | None], list[Question]] = defaultdict(list)
    for q in questions:
        if q.family == "open" and q.control == "none":
            groups[q.round, q.operator].append(q)
    return tuple(
        Operation(
            number=number,
            operator=operator,
            made=len(made),
            judged=len(scores := [q.fitness for q in made if q.fitness is not None]),
            accepted=sum(q.label in SELECTED for q in made),
            fitness_mean=fmean(scores) if scores else None,
        )
        for (number, operator), made in sorted(groups.items(), key=lambda g: (g[0][0], g[0][1] or ""))
    )


# Contents of single sections of the report, computed from the tables of a release.


HOLDOUT_SUFFIX = "_holdout"
"""The plan appends it to stages that are repeated on hold-out."""


@dataclass(frozen=True)
class Coverage:
    """Released questions of one domain by attribute, and all questions made in the domain."""

    superdomain: str
    domain: str
    by_attribute: tuple[int, ...]
    released: int
    made: int
    topics: int
    topics_made: int


def measure_coverage(
    released: Sequence[Question], lost: Sequence[Question], attributes: Sequence[str]
) -> tuple[Coverage, ...]:
    """Return one row per domain, without controls.

    Args:
        released: Released questions.
        lost: Dropped questions.
        attributes: Columns of the table.
    """
    made: dict[tuple[str, str], list[Question]] = defaultdict(list)
    kept: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for q in [*released, *lost]:
        if q.control == "none":
            made[q.superdomain, q.domain].append(q)
    for q in released:
        if q.control == "none":
            kept[q.superdomain, q.domain].append(q)
    return tuple(
        Coverage(
            superdomain=place[0],
            domain=place[1],
            by_attribute=tuple(sum(q.attribute == a for q in kept[place]) for a in attributes),
            released=len(kept[place]),
            made=len(questions),
            topics=len({q.topic for q in kept[place]}),
            topics_made=len({q.topic for q in questions}),
        )
        for place, questions in sorted(made.items())
    )


@dataclass(frozen=True)
class DuplicateQuestion:
    """A dropped near-duplicate and the question that was kept. `similarity` is between 0 and 100."""

    id: str
    """Id of the row in `dropped`."""
    reason: str
    lost: str
    kept: str
    kept_id: str
    similarity: float


def nearest_duplicates(
    dropped: Iterable[Dropped], texts: Mapping[str, str], most: int
) -> tuple[DuplicateQuestion, ...]:
    """Return the dropped near-duplicates with the lowest similarity. `texts` are templates by question id."""
    duplicates = [
        DuplicateQuestion(
            d.id, d.reason, d.text, texts.get(d.because_of or "", ""), d.because_of or "", d.similarity
        )
        for d in dropped
        if d.similarity is not None
    ]
    return tuple(sorted(duplicates, key=lambda d: (d.similarity, d.lost))[:most])


@dataclass(frozen=True)
class DistinctPair:
    """Two questions just below the threshold, so both were kept. `number` is the index in the manifest."""

    number: int
    left: str
    right: str
    similarity: float


def nearest_kept_pairs(
    pairs: Iterable[NearMiss], texts: Mapping[str, str], most: int
) -> tuple[DistinctPair, ...]:
    """Return the kept pairs with the highest similarity. `texts` are templates by question id."""
    kept = [
        DistinctPair(number, texts[p.question_id], texts[p.other_id], p.similarity)
        for number, p in enumerate(pairs)
        if p.question_id in texts and p.other_id in texts
    ]
    return tuple(sorted(kept, key=lambda p: (-p.similarity, p.left, p.right))[:most])


@dataclass(frozen=True)
class Transition:
    """Number of label changes of one kind."""

    kind: str
    before: str
    after: str
    reason: str
    judge: str
    changes: int


def count_transitions(history: Iterable[LabelChange]) -> tuple[Transition, ...]:
    """Count the label changes, most frequent first."""
    counts = Counter((c.subject_kind, c.before, c.after, c.reason, c.judge) for c in history)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Transition(*key, changes=n) for key, n in ordered)


@dataclass(frozen=True)
class RelabelledQuestion:
    """A question with a changed label."""

    id: str
    """Id of the row in `label_history`."""
    text: str
    query: str
    """The accepted question it was compared with."""
    before: str
    after: str
    reason: str
    judge: str
    evidence: str | None


def relabelling_examples(
    history: Iterable[LabelChange], texts: Mapping[str, str], most: int
) -> tuple[RelabelledQuestion, ...]:
    """Return up to `most` changes of every kind, questions only. `texts` are templates by question id."""
    by_kind: dict[tuple[str, str, str], list[LabelChange]] = defaultdict(list)
    for c in sorted(history, key=lambda c: c.id):
        if c.subject_id in texts:
            by_kind[c.before, c.after, c.reason].append(c)
    return tuple(
        RelabelledQuestion(
            c.id,
            texts[c.subject_id],
            texts.get(c.query_id, ""),
            c.before,
            c.after,
            c.reason,
            c.judge,
            c.evidence,
        )
        for _, changes in sorted(by_kind.items())
        for c in changes[:most]
    )


@dataclass(frozen=True)
class CostLine:
    """Planned and actual cost of one stage and model. Cached answers count at their original price."""

    stage: str
    model: str
    calls_planned: int
    calls: int
    tokens_planned: int
    tokens: int
    usd_planned: float
    usd: float


def compare_costs(planned: Iterable[StageCost], actual: Iterable[StageCost]) -> tuple[CostLine, ...]:
    """Return planned and actual cost by stage and model, in stage order.

    The plan lists hold-out calls separately, while the same stage makes them. Both count as that stage.
    """
    lines: dict[tuple[str, str], tuple[list[StageCost], list[StageCost]]] = {}
    for side, costs in enumerate((planned, actual)):
        for cost in costs:
            key = (cost.stage.removesuffix(HOLDOUT_SUFFIX), cost.model)
            lines.setdefault(key, ([], []))[side].append(cost)
    return tuple(
        CostLine(
            stage=stage,
            model=model,
            calls_planned=sum(c.calls for c in plan),
            calls=sum(c.calls for c in done),
            tokens_planned=sum(c.tokens_in + c.tokens_out for c in plan),
            tokens=sum(c.tokens_in + c.tokens_out for c in done),
            usd_planned=sum(c.cost_usd for c in plan),
            usd=sum(c.cost_usd for c in done),
        )
        for (stage, model), (plan, done) in lines.items()
    )


# Trust: ratings of the facts that decide whether a release can be trusted.


Rating = Literal["good", "caution", "bad", "unknown"]
"""As expected, needs attention, not acceptable, no information."""
TOLERATED_LOSS = 0.02
"""Share of failed calls and of abstentions that is acceptable."""
TOLERATED_UNREAD = 0.2
"""Share of answers of one family and model that need not be readable."""


@dataclass(frozen=True)
class DecidingJudges:
    """The deciding judges and their audit results."""

    judges: int
    passed: int
    warnings: tuple[str, ...]
    """Sentences on missing audits and on results below the bar."""


def read_deciding_judges(manifest: Manifest) -> DecidingJudges:
    """Return the deciding judges. Those that no warning names have passed."""
    recipe = Recipe.model_validate(manifest.recipe)
    judges = deciding_judges(recipe)
    warnings = audit_warnings(recipe, manifest.passports)
    named = [j for j in judges if any(w.startswith((f"{j}: ", f"{j} ")) for w in warnings)]
    return DecidingJudges(len(judges), len(judges) - len(named), without_endpoints(recipe, warnings))


def search_effects(effects: Sequence[Effect]) -> dict[str, Effect]:
    """Return the effects of the search itself by metric: `search_fitness`, `holdout_fitness`, `shrinkage`.

    If several families have such effects, the first by name is used.
    """
    selected = sorted(
        (e for e in effects if e.name == SEARCH_EFFECTS), key=lambda e: (e.family, e.id), reverse=True
    )
    return {e.metric: e for e in selected}


def rate_trust(
    manifest: Manifest,
    panel: DecidingJudges,
    fresh: HoldoutTest | None,
    topic: TopicOfFalsePositives | None,
    shrinkage: Shrinkage | None,
    selection: Mapping[str, Effect],
    measurement: MeasurementCoverage,
    *,
    compared: bool = True,
) -> dict[str, Rating]:
    """Rate each fact.

    Args:
        manifest: The release.
        panel: The deciding judges.
        fresh: Test of fresh answers against those of controls.
        topic: Superdomain in which judges find most in controls.
        shrinkage: Search and hold-out fitness.
        selection: Effects of the search (see `search_effects`).
        measurement: Lost answers and abstentions.
        compared: Every group could be compared with the others.
    """
    review = manifest.review
    return {
        "coverage": _measured(measurement, compared),
        "gate": _gate(manifest),
        "judges": _judges(manifest, panel, topic),
        "floor": _floor(fresh),
        "shrinkage": _shrinkage(shrinkage, selection.get("holdout_fitness"), fresh),
        "people": "unknown" if review is None else "caution" if review.contested else "good",
        "losses": _losses(measurement),
    }


def _measured(measurement: MeasurementCoverage, compared: bool) -> Rating:
    if not measurement.asked:
        return "unknown"
    return "good" if compared and not measurement.unmeasured and not measurement.unequal else "caution"


def _losses(measurement: MeasurementCoverage) -> Rating:
    """Refusals are a loss only in families that do not measure them."""
    if not measurement.asked:
        return "unknown"
    failed = measurement.lost("failed") > TOLERATED_LOSS * measurement.asked
    abstained = measurement.abstained > TOLERATED_LOSS * measurement.comparisons
    unread = any(1 - a.coverage > TOLERATED_UNREAD for a in measurement.answers)
    return "caution" if failed or abstained or unread else "good"


def _gate(manifest: Manifest) -> Rating:
    if manifest.validation.get("errors"):
        return "bad"
    return "caution" if manifest.validation.get("warnings") else "good"


def _judges(manifest: Manifest, panel: DecidingJudges, topic: TopicOfFalsePositives | None) -> Rating:
    """The divergence judge alone is a screen and is never rated `good`."""
    flagged = topic is not None and topic.p_value <= SIGNIFICANT
    if flagged and topic is not None and topic.is_certain:
        return "bad"
    if not panel.judges:
        return "unknown"
    screened = classify_judges(manifest.judged_by) == "divergence"
    return "caution" if flagged or panel.warnings or screened else "good"


def _floor(fresh: HoldoutTest | None) -> Rating:
    """The questions as a whole must score higher than controls, and single ones must be confirmed."""
    if fresh is None or fresh.p_value is None:
        return "unknown"
    return "good" if fresh.differs and fresh.confirmed else "caution"


def _shrinkage(shrinkage: Shrinkage | None, holdout: Effect | None, fresh: HoldoutTest | None) -> Rating:
    """Hold-out fitness must be above zero, by its interval, and above that of the controls."""
    if shrinkage is None:
        return "unknown"
    low = holdout.low if holdout is not None and holdout.low is not None else shrinkage.holdout
    return "good" if low > 0 and (fresh is None or fresh.differs) else "caution"
