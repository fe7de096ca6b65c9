"""What single sections of the report show, computed from the tables of a release."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.decision import Dropped
from schemas.label import LabelChange
from schemas.manifest import NearMiss, StageCost
from schemas.question import Question

AFRESH = "_holdout"
"""What the plan appends to a stage that is done again on fresh samples."""


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
class Duplicate:
    """A question that lost to another, and how alike the two are (0 to 100)."""

    id: str
    """Of the row in `dropped`."""
    reason: str
    lost: str
    kept: str
    kept_id: str
    similarity: float


def nearest_duplicates(
    dropped: Iterable[Dropped], texts: Mapping[str, str], most: int
) -> tuple[Duplicate, ...]:
    """The duplicates that were closest to being kept: lowest similarity first. `texts`: by question id."""
    found = [
        Duplicate(d.id, d.reason, d.text, texts.get(d.because_of or "", ""), d.because_of or "", d.similarity)
        for d in dropped
        if d.similarity is not None
    ]
    return tuple(sorted(found, key=lambda d: (d.similarity, d.lost))[:most])


@dataclass(frozen=True)
class StayedApart:
    """Two questions that both stayed, just below the threshold. `number`: in the manifest, from 0."""

    number: int
    left: str
    right: str
    similarity: float


def stayed_apart(pairs: Iterable[NearMiss], texts: Mapping[str, str], most: int) -> tuple[StayedApart, ...]:
    """The pairs that were closest to being merged, most alike first. `texts`: by question id."""
    found = [
        StayedApart(number, texts[p.question_id], texts[p.other_id], p.similarity)
        for number, p in enumerate(pairs)
        if p.question_id in texts and p.other_id in texts
    ]
    return tuple(sorted(found, key=lambda p: (-p.similarity, p.left, p.right))[:most])


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

    id: str
    """Of the row in `label_history`."""
    text: str
    query: str
    """The accepted question that it was held against."""
    before: str
    after: str
    reason: str
    judge: str
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
        Relabelled(
            c.id,
            texts[c.subject_id],
            texts.get(c.query_id, ""),
            c.before,
            c.after,
            c.reason,
            c.judge,
            c.evidence,
        )
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
    tokens_planned: int
    tokens: int
    usd_planned: float
    usd: float


def cost_lines(planned: Iterable[StageCost], actual: Iterable[StageCost]) -> tuple[CostLine, ...]:
    """Both sides of every stage and model, in the order of the stages. What is asked afresh is planned apart
    and done by the same stage, so both count as that stage."""
    lines: dict[tuple[str, str], tuple[list[StageCost], list[StageCost]]] = {}
    for side, costs in enumerate((planned, actual)):
        for cost in costs:
            key = (cost.stage.removesuffix(AFRESH), cost.model)
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
