"""The search, round by round: how much was made, how it scored, and which way of making it gave what."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from schemas.answers import Effect
from schemas.labels import Dropped, LabelChange
from schemas.question import Question
from schemas.recipe import Recipe
from schemas.release import Manifest, NearMiss, StageCost
from tasks.judges.passports import audit_warnings, deciding_judges
from tasks.release.fitness import FitnessFloor, Shrinkage, judge_kind
from tasks.report.effects import SELECTION


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
                    fitness_high=real[-(-9 * len(real) // 10) - 1],
                    control_median=median(zero) if zero else None,
                )
            )
    return tuple(found)


@dataclass(frozen=True)
class Operation:
    """What one way of making questions gave in one round."""

    number: int
    operator: str | None
    """`None`: seeds, and controls that stand beside them."""
    made: int
    judged: int
    accepted: int
    fitness_mean: float | None


def operations(questions: Iterable[Question]) -> tuple[Operation, ...]:
    """Open questions that are no controls, by round and operator; `questions`: released and dropped ones."""
    found: dict[tuple[int, str | None], list[Question]] = defaultdict(list)
    for q in questions:
        if q.family == "open" and q.control == "none":
            found[q.round, q.operator].append(q)
    return tuple(
        Operation(
            number=number,
            operator=operator,
            made=len(made),
            judged=len(scores := [q.fitness for q in made if q.fitness is not None]),
            accepted=sum(q.label == "accepted" for q in made),
            fitness_mean=fmean(scores) if scores else None,
        )
        for (number, operator), made in sorted(found.items(), key=lambda f: (f[0][0], f[0][1] or ""))
    )


# What single sections of the report show, computed from the tables of a release.


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
class DuplicateQuestion:
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
) -> tuple[DuplicateQuestion, ...]:
    """The duplicates that were closest to being kept: lowest similarity first. `texts`: by question id."""
    found = [
        DuplicateQuestion(
            d.id, d.reason, d.text, texts.get(d.because_of or "", ""), d.because_of or "", d.similarity
        )
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


# Whether a release may be trusted: the few things that decide it, each with how it stands.


Standing = Literal["holds", "mind", "fails", "absent"]
"""As it should be; to be minded; not as it must be; nothing is known."""
TOLERATED = 2.0
"""Per cent of failed calls and of abstentions that nobody needs to mind."""


@dataclass(frozen=True)
class DecidingJudges:
    """The judges that decide, and what is known of them."""

    judges: int
    passed: int
    warnings: tuple[str, ...]
    """In words: who was not audited, and in what one is below the bar."""


def panel_of(manifest: Manifest) -> DecidingJudges:
    """Judges that pass are those that no warning names."""
    recipe = Recipe.model_validate(manifest.recipe)
    judges = deciding_judges(recipe)
    warnings = audit_warnings(recipe, manifest.passports)
    named = [j for j in judges if any(w.startswith((f"{j}: ", f"{j} ")) for w in warnings)]
    return DecidingJudges(len(judges), len(judges) - len(named), warnings)


def selection_effects(effects: Sequence[Effect]) -> dict[str, Effect]:
    """What the search itself shows, by metric: `search_fitness`, `holdout_fitness`, `shrinkage`; of the first
    family by name."""
    found = sorted((e for e in effects if e.name == SELECTION), key=lambda e: (e.family, e.id), reverse=True)
    return {e.metric: e for e in found}


def standings(
    manifest: Manifest,
    panel: DecidingJudges,
    floor: FitnessFloor | None,
    accepted: Sequence[float],
    shrinkage: Shrinkage | None,
    selection: Mapping[str, Effect],
    lost: Sequence[float],
) -> dict[str, Standing]:
    """How each of them stands. `lost`: per cent of calls that failed and of verdicts that were not given."""
    review = manifest.review
    return {
        "gate": _gate(manifest),
        "judges": _judges(manifest, panel),
        "floor": _floor(floor, accepted),
        "shrinkage": _shrinkage(floor, shrinkage, selection.get("holdout_fitness")),
        "people": "absent" if review is None else "mind" if review.contested else "holds",
        "losses": "mind" if max(lost, default=0.0) > TOLERATED else "holds",
    }


def _gate(manifest: Manifest) -> Standing:
    if manifest.validation.get("errors"):
        return "fails"
    return "mind" if manifest.validation.get("warnings") else "holds"


def _judges(manifest: Manifest, panel: DecidingJudges) -> Standing:
    """A statistic alone is a screen, however well it does."""
    if not panel.judges:
        return "absent"
    return "mind" if panel.warnings or judge_kind(manifest.judged_by) == "divergence" else "holds"


def _floor(floor: FitnessFloor | None, accepted: Sequence[float]) -> Standing:
    if floor is None or not accepted:
        return "absent"
    return "holds" if median(accepted) > floor.value else "mind"


def _shrinkage(floor: FitnessFloor | None, shrinkage: Shrinkage | None, holdout: Effect | None) -> Standing:
    """Good is what stays above nothing, and above the controls, on fresh samples."""
    if shrinkage is None:
        return "absent"
    low = holdout.low if holdout is not None and holdout.low is not None else shrinkage.holdout
    return "holds" if low > 0 and shrinkage.holdout > (floor.value if floor else 0.0) else "mind"
