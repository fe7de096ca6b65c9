"""How far the judges of a release can be relied on: abstentions, agreement, the order they were shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean

from schemas.judgement import Judgement
from schemas.manifest import Manifest
from schemas.passport import Passport, ProbeResult
from schemas.recipe import Bar

Unit = tuple[str, str, str]
"""What judges score: question, target, phase."""


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
    judge's several looks at it count as their mean. Adjudicators see only what others disagree on."""
    looks: dict[tuple[str, str], dict[str, dict[Unit, list[float]]]] = {}
    for j in judgements:
        if j.fitness is not None and not j.adjudicates:
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
    flipped: int
    """Groups that found something in one order and nothing in another: on either side of the floor."""
    mean_difference: float


def order_effects(judgements: Iterable[Judgement], floor: float = 0.0) -> tuple[OrderEffect, ...]:
    """Over groups that one judge scored in at least two presentation orders; looks in one order count as
    their mean."""
    looks: dict[str, dict[tuple[object, ...], dict[tuple[int, ...], list[float]]]] = defaultdict(dict)
    for j in judgements:
        if j.fitness is not None:
            group = looks[j.judge].setdefault((j.question_id, j.target, j.phase, j.pair), {})
            group.setdefault(j.order, []).append(j.fitness)
    found = []
    for judge, groups in sorted(looks.items()):
        seen = [[fmean(f) for f in by.values()] for by in groups.values() if len(by) > 1]
        spans = [max(means) - min(means) for means in seen]
        if spans:
            flipped = sum(min(means) <= floor < max(means) for means in seen)
            found.append(OrderEffect(judge, len(spans), sum(s > 0 for s in spans), flipped, fmean(spans)))
    return tuple(found)


@dataclass(frozen=True)
class Audited:
    """A judge's passport as the report shows it."""

    passport: Passport
    results: tuple[ProbeResult, ...]
    """Without the shares before and after each cue, whose difference is told."""
    below: tuple[str, ...]
    """In words, where the judge is below the recipe's bar."""


def audited_judges(manifest: Manifest) -> tuple[Audited, ...]:
    """One a passport of the release."""
    bar = Bar.model_validate(manifest.recipe.get("judging", {}).get("bar", {}))
    hidden = ("_before", "_after", "_unchanged")
    return tuple(
        Audited(
            passport=passport,
            results=tuple(r for r in passport.probes if not r.measure.endswith(hidden)),
            below=passport.shortfalls(bar),
        )
        for passport in manifest.passports
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None
