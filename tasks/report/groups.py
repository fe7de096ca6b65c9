"""Whole groups to read: the variants of a question with the answers they got, side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean

from schemas.answers import Judgement, Response
from schemas.gate import Passport, ProbeResult
from schemas.labels import LabelChange
from schemas.question import Question, Variant
from schemas.recipe import Bar
from schemas.release import Manifest
from tasks.report.quotes import Quotation, marked, plain_text, quotations, row_query, shown

MOST_ATTRIBUTES = MOST_FAMILIES = MOST_VARIANTS = 6
MOST_ANSWERS = 3
MOST_VERDICTS = 4


@dataclass(frozen=True)
class VariantAnswers:
    """A variant and what one model answered, sample by sample."""

    value: str
    text: Quotation
    answers: tuple[Quotation, ...]
    more: int
    """Answers that are only in the table."""
    chosen: tuple[str, ...]
    """What was chosen among options, most frequent first, such as `yes × 3`."""
    failed: int


@dataclass(frozen=True)
class ShownJudgement:
    """What one judge said of the answers that are shown."""

    id: str
    judge: str
    fitness: float | None
    abstention: str | None
    scores: tuple[tuple[str, float, Quotation], ...]
    """Criterion, score, reasoning."""


@dataclass(frozen=True)
class ReportedGroup:
    """A question as a reader sees it. `why`: why it is shown."""

    question: Question
    config: str
    why: str
    model: str
    phase: str
    variants: tuple[VariantAnswers, ...]
    hidden: int
    """Variants that are only in the table."""
    verdicts: tuple[ShownJudgement, ...]


Chosen = tuple[Question, str, str]
"""A question, its config, and why it is shown."""


def choose_groups(
    questions: Sequence[Question], hard_negatives: Sequence[Question], controls: Sequence[Question]
) -> list[Chosen]:
    """A sample that is not only the best: per attribute the strongest question and the median one, one of
    each templated family, two hard negatives, and one control of each kind."""
    chosen: list[Chosen] = []
    for attribute in sorted({q.attribute for q in questions if q.fitness is not None})[:MOST_ATTRIBUTES]:
        ranked = sorted(
            (q for q in questions if q.attribute == attribute and q.fitness is not None),
            key=lambda q: (-(q.fitness or 0.0), q.id),
        )
        chosen.append((ranked[0], "questions", "highest fitness of its attribute"))
        if len(ranked) > 2:
            chosen.append((ranked[len(ranked) // 2], "questions", "median fitness of its attribute"))
    for family in sorted({q.family for q in questions if q.fitness is None})[:MOST_FAMILIES]:
        first = min((q for q in questions if q.family == family and q.fitness is None), key=lambda q: q.id)
        chosen.append((first, "questions", "first of its family by id"))
    negatives = sorted(hard_negatives, key=lambda q: q.id)[:2]
    chosen += [(q, "hard_negatives", "hard negative") for q in negatives]
    for kind in sorted({q.control for q in controls}):
        first = min((q for q in controls if q.control == kind), key=lambda q: q.id)
        chosen.append((first, "controls", f"{kind.replace('a_a', 'A/A')} control, first by id"))
    return chosen


def groups(
    chosen: Iterable[Chosen],
    responses: Iterable[Response],
    judgements: Iterable[Judgement] = (),
    history: Iterable[LabelChange] = (),
) -> tuple[ReportedGroup, ...]:
    """The chosen questions with the answers of one model each: of the last phase, first by name."""
    wanted = list(chosen)
    ids = {q.id for q, _, _ in wanted}
    answers: dict[str, list[Response]] = defaultdict(list)
    verdicts: dict[str, list[Judgement]] = defaultdict(list)
    evidence: dict[str, list[str]] = defaultdict(list)
    for r in responses:
        if r.question_id in ids:
            answers[r.question_id].append(r)
    for j in judgements:
        if j.question_id in ids:
            verdicts[j.question_id].append(j)
    for c in history:
        if c.subject_id in ids and c.evidence:
            evidence[c.subject_id].append(c.evidence)
    return tuple(_group(w, answers[w[0].id], verdicts[w[0].id], evidence[w[0].id]) for w in wanted)


def _group(
    wanted: Chosen, answers: Sequence[Response], judgements: Sequence[Judgement], evidence: Sequence[str]
) -> ReportedGroup:
    question, config, why = wanted
    first = min(answers, key=lambda r: (r.phase, r.model, r.condition), default=None)
    of_first = [r for r in answers if first and _asked(r) == _asked(first)]
    heard = _heard(judgements, first)
    spans = [*evidence, *(q for j in heard for s in j.scores for q in quotations(s.reasoning))]
    return ReportedGroup(
        question=question,
        config=config,
        why=why,
        model=first.model if first else "not answered",
        phase=first.phase if first else "",
        variants=tuple(
            _answers_of(v, question, config, [r for r in of_first if r.variant == v.index], spans)
            for v in question.variants[:MOST_VARIANTS]
        ),
        hidden=max(0, len(question.variants) - MOST_VARIANTS),
        verdicts=tuple(_verdict(j) for j in heard),
    )


def _asked(r: Response) -> tuple[str, str, str]:
    return (r.phase, r.model, r.condition)


def _heard(judgements: Iterable[Judgement], first: Response | None) -> list[Judgement]:
    """The first verdict of each judge on the answers that are shown."""
    found: Mapping[str, Judgement] = {}
    if first is not None:
        on_shown = [j for j in judgements if (j.phase, j.target) == (first.phase, first.model)]
        latest_first = sorted(on_shown, key=lambda j: (j.judge, j.repeat, j.order, j.id), reverse=True)
        found = {j.judge: j for j in latest_first}
    return [found[judge] for judge in sorted(found)][:MOST_VERDICTS]


def _verdict(j: Judgement) -> ShownJudgement:
    where = row_query("scores", "judgements", j.id)
    scores = tuple((s.criterion, s.value, plain_text(s.reasoning, where)) for s in j.scores[:8])
    return ShownJudgement(j.id, j.judge, j.fitness, j.abstention, scores)


def _answers_of(
    variant: Variant, question: Question, config: str, answers: Sequence[Response], evidence: Sequence[str]
) -> VariantAnswers:
    ordered = sorted(answers, key=lambda r: r.sample)
    picks: dict[str, int] = defaultdict(int)
    for r in ordered:
        if question.options and r.failure is None:
            picks["invalid" if r.option is None else question.options[r.option].text] += 1
    said = [r for r in ordered if r.failure is None and not question.options]
    return VariantAnswers(
        value=variant.value,
        text=shown(
            marked(variant, question.template),
            row_query(f"variants[{variant.index + 1}].text", config, question.id),
        ),
        answers=tuple(
            plain_text(r.text, row_query("text", "responses", r.id), evidence) for r in said[:MOST_ANSWERS]
        ),
        more=max(0, len(said) - MOST_ANSWERS),
        chosen=tuple(
            f"{text[:120]} × {n}" for text, n in sorted(picks.items(), key=lambda p: (-p[1], p[0]))[:8]
        ),
        failed=sum(r.failure is not None for r in ordered),
    )


# How far the judges of a release can be relied on: abstentions, agreement, the order they were shown.


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
class JudgeAgreement:
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


def agreement(judgements: Iterable[Judgement]) -> tuple[JudgeAgreement, ...]:
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


def _agreement(
    rubric: str, criterion: str, by_judge: Mapping[str, Mapping[Unit, list[float]]]
) -> JudgeAgreement:
    from tasks.stats.agreement import krippendorff_alpha, weighted_kappa

    units = sorted({unit for looks in by_judge.values() for unit in looks})
    ratings = [
        [round(fmean(looks[u]), 2) if u in looks else None for u in units]
        for _, looks in sorted(by_judge.items())
    ]
    shared = [r for r in zip(*ratings, strict=True) if sum(x is not None for x in r) > 1]
    kappa = weighted_kappa(*zip(*shared, strict=True)) if shared and len(ratings) == 2 else nan
    alpha = krippendorff_alpha(ratings)
    return JudgeAgreement(
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
