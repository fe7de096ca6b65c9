"""What single sections of the report show, computed from the tables of a release."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from schemas.decision import Dropped
from schemas.label import LabelChange
from schemas.manifest import StageCost
from schemas.question import Question


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
