"""What single sections of the report show, computed from the tables of a release."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean, median

from schemas.decision import Dropped
from schemas.judgement import Judgement
from schemas.label import LabelChange
from schemas.manifest import StageCost
from schemas.question import Question

Unit = tuple[str, str, str]
"""What judges score: question, target, phase."""


@dataclass(frozen=True)
class Coverage:
    """Released questions of one domain, by attribute, out of all that were asked there."""

    superdomain: str
    domain: str
    by_attribute: tuple[int, ...]
    released: int
    asked: int
    topics: int
    topics_asked: int


def coverage(
    released: Sequence[Question], lost: Sequence[Question], attributes: Sequence[str]
) -> tuple[Coverage, ...]:
    """One row a domain that was ever asked about. `lost`: questions that were dropped. No controls."""
    asked: dict[tuple[str, str], list[Question]] = defaultdict(list)
    kept: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for q in [*released, *lost]:
        if q.control == "none":
            asked[q.superdomain, q.domain].append(q)
    for q in released:
        if q.control == "none":
            kept[q.superdomain, q.domain].append(q)
    return tuple(
        Coverage(
            superdomain=place[0],
            domain=place[1],
            by_attribute=tuple(sum(q.attribute == a for q in kept[place]) for a in attributes),
            released=len(kept[place]),
            asked=len(questions),
            topics=len({q.topic for q in kept[place]}),
            topics_asked=len({q.topic for q in questions}),
        )
        for place, questions in sorted(asked.items())
    )


@dataclass(frozen=True)
class Round:
    """One round of evolution: how many questions were judged, how they scored, how many were accepted."""

    number: int
    judged: int
    accepted: int
    fitness_median: float
    fitness_high: float
    """90th percentile."""
    control_median: float | None


def rounds(questions: Iterable[Question]) -> tuple[Round, ...]:
    """Judged open questions by the round that made them; `questions`: released and dropped ones."""
    by_round: dict[int, list[Question]] = defaultdict(list)
    for q in questions:
        if q.family == "open" and q.fitness is not None:
            by_round[q.round].append(q)
    found = []
    for number, judged in sorted(by_round.items()):
        real = sorted(q.fitness for q in judged if q.fitness is not None and q.control == "none")
        zero = [q.fitness for q in judged if q.fitness is not None and q.control in {"a_a", "placebo"}]
        if real:
            found.append(
                Round(
                    number=number,
                    judged=len(real),
                    accepted=sum(q.label == "accepted" and q.control == "none" for q in judged),
                    fitness_median=median(real),
                    fitness_high=real[int(0.9 * (len(real) - 1))],
                    control_median=median(zero) if zero else None,
                )
            )
    return tuple(found)


@dataclass(frozen=True)
class JudgeRecord:
    """What one judge did in one phase."""

    judge: str
    phase: str
    verdicts: int
    abstained: int
    mean_fitness: float | None
    mean_on_controls: float | None
    """Mean fitness that it gave to A/A and placebo controls."""


def judge_records(judgements: Iterable[Judgement], zero_ids: set[str]) -> tuple[JudgeRecord, ...]:
    """One record a judge and phase. `zero_ids`: ids of controls whose true effect is zero."""
    by_judge: dict[tuple[str, str], list[Judgement]] = defaultdict(list)
    for j in judgements:
        by_judge[j.judge, j.phase].append(j)
    return tuple(
        JudgeRecord(
            judge=judge,
            phase=phase,
            verdicts=len(verdicts),
            abstained=sum(j.abstention is not None for j in verdicts),
            mean_fitness=_mean(j.fitness for j in verdicts if j.question_id not in zero_ids),
            mean_on_controls=_mean(j.fitness for j in verdicts if j.question_id in zero_ids),
        )
        for (judge, phase), verdicts in sorted(by_judge.items())
    )


@dataclass(frozen=True)
class Agreement:
    """How far judges agree beyond chance on one criterion of one rubric, or on fitness."""

    rubric: str
    criterion: str
    judges: int
    groups: int
    """Groups that at least two judges scored."""
    alpha: float | None
    """Krippendorff's, ordinal; `None` where nothing varies."""
    kappa: float | None
    """Weighted kappa, where there are two judges."""


def agreement(judgements: Iterable[Judgement]) -> tuple[Agreement, ...]:
    """Per rubric and criterion, and for fitness (to two digits). A group is a question, target and phase; a
    judge's several looks at it count as their mean."""
    looks: dict[tuple[str, str], dict[str, dict[Unit, list[float]]]] = {}
    for j in judgements:
        if j.fitness is not None:
            scores = {s.criterion: s.value for s in j.scores} | {"fitness": round(j.fitness, 2)}
            for criterion, value in scores.items():
                by_judge = looks.setdefault((j.rubric or j.fitness_form, criterion), {})
                unit = (j.question_id, j.target, j.phase)
                by_judge.setdefault(j.judge, {}).setdefault(unit, []).append(value)
    found = (_agreement(*key, by_judge) for key, by_judge in sorted(looks.items()) if len(by_judge) > 1)
    return tuple(row for row in found if row.groups)


def _agreement(rubric: str, criterion: str, by_judge: Mapping[str, Mapping[Unit, list[float]]]) -> Agreement:
    from tasks.stats.agreement import krippendorff_alpha, weighted_kappa

    units = sorted({unit for looks in by_judge.values() for unit in looks})
    ratings = [
        [round(fmean(looks[u]), 2) if u in looks else None for u in units]
        for _, looks in sorted(by_judge.items())
    ]
    shared = [r for r in zip(*ratings, strict=True) if sum(x is not None for x in r) > 1]
    kappa = weighted_kappa(*zip(*shared, strict=True)) if shared and len(ratings) == 2 else nan
    alpha = krippendorff_alpha(ratings)
    return Agreement(
        rubric=rubric,
        criterion=criterion,
        judges=len(ratings),
        groups=len(shared),
        alpha=None if isnan(alpha) else alpha,
        kappa=None if isnan(kappa) else kappa,
    )


@dataclass(frozen=True)
class OrderEffect:
    """How often a judge's fitness moved when it saw the same group in another order."""

    judge: str
    groups: int
    moved: int
    mean_difference: float


def order_effects(judgements: Iterable[Judgement]) -> tuple[OrderEffect, ...]:
    """Over groups that one judge scored in at least two presentation orders."""
    looks: dict[str, dict[tuple[str, str, str], dict[tuple[int, ...], float]]] = defaultdict(dict)
    for j in judgements:
        if j.fitness is not None:
            looks[j.judge].setdefault((j.question_id, j.target, j.phase), {})[j.order] = j.fitness
    found = []
    for judge, groups in sorted(looks.items()):
        spans = [max(by.values()) - min(by.values()) for by in groups.values() if len(by) > 1]
        if spans:
            found.append(OrderEffect(judge, len(spans), sum(s > 0 for s in spans), fmean(spans)))
    return tuple(found)


@dataclass(frozen=True)
class Duplicate:
    """A question that lost to another, and how alike the two are (0 to 100)."""

    lost: str
    kept: str
    kept_id: str
    similarity: float


def nearest_duplicates(
    dropped: Iterable[Dropped], texts: Mapping[str, str], most: int
) -> tuple[Duplicate, ...]:
    """The duplicates that were closest to being kept: lowest similarity first. `texts`: by question id."""
    found = [
        Duplicate(d.text, texts.get(d.because_of or "", ""), d.because_of or "", d.similarity)
        for d in dropped
        if d.similarity is not None
    ]
    return tuple(sorted(found, key=lambda d: (d.similarity, d.lost))[:most])


@dataclass(frozen=True)
class Transition:
    """How often a label became another one, for one reason."""

    kind: str
    before: str
    after: str
    reason: str
    judge: str
    changes: int


def transitions(history: Iterable[LabelChange]) -> tuple[Transition, ...]:
    """The label history, counted; the most frequent first."""
    counts = Counter((c.subject_kind, c.before, c.after, c.reason, c.judge) for c in history)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Transition(*key, changes=n) for key, n in ordered)


@dataclass(frozen=True)
class Relabelled:
    """One question whose label changed, to read."""

    text: str
    before: str
    after: str
    reason: str
    evidence: str | None


def relabelled_questions(
    history: Iterable[LabelChange], texts: Mapping[str, str], most: int
) -> tuple[Relabelled, ...]:
    """The first changes of every kind, by id; questions only. `texts`: by question id."""
    found: dict[tuple[str, str, str], list[LabelChange]] = defaultdict(list)
    for c in sorted(history, key=lambda c: c.id):
        if c.subject_id in texts:
            found[c.before, c.after, c.reason].append(c)
    return tuple(
        Relabelled(texts[c.subject_id], c.before, c.after, c.reason, c.evidence)
        for _, changes in sorted(found.items())
        for c in changes[:most]
    )


@dataclass(frozen=True)
class CostLine:
    """One stage and model, planned and actual. Cached answers count at their price."""

    stage: str
    model: str
    calls_planned: int
    calls: int
    tokens: int
    usd_planned: float
    usd: float


def cost_lines(planned: Iterable[StageCost], actual: Iterable[StageCost]) -> tuple[CostLine, ...]:
    """Both sides of every stage and model, in the order of the stages."""
    lines: dict[tuple[str, str], list[StageCost | None]] = {}
    for side, costs in enumerate((planned, actual)):
        for cost in costs:
            lines.setdefault((cost.stage, cost.model), [None, None])[side] = cost
    return tuple(
        CostLine(
            stage=stage,
            model=model,
            calls_planned=plan.calls if plan else 0,
            calls=done.calls if done else 0,
            tokens=done.tokens_in + done.tokens_out if done else 0,
            usd_planned=plan.cost_usd if plan else 0.0,
            usd=done.cost_usd if done else 0.0,
        )
        for (stage, model), (plan, done) in lines.items()
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None
