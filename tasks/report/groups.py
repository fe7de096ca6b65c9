"""Select groups to read, and summarise how reliable the judges are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean

from schemas.answers import PLAIN, Judgement, Response
from schemas.gate import Passport, ProbeResult
from schemas.labels import LabelChange
from schemas.question import Question, Variant
from schemas.recipe import Bar
from schemas.release import Manifest
from tasks.report.quotes import Quotation, find_quotations, mark_variant, quote, row_query, truncate_spans

MOST_ATTRIBUTES = MOST_FAMILIES = MOST_VARIANTS = 6
MOST_ANSWERS = 3
MOST_VERDICTS = 4


@dataclass(frozen=True)
class VariantAnswers:
    """A variant with the answers of one model."""

    value: str
    text: Quotation
    answers: tuple[Quotation, ...]
    more: int
    """Number of answers that are not shown."""
    chosen: tuple[str, ...]
    """Choices among options, most frequent first, such as `yes × 3`."""
    failed: int


@dataclass(frozen=True)
class ReportedJudgement:
    """One judge's judgement of the displayed answers."""

    id: str
    judge: str
    fitness: float | None
    abstention: str | None
    scores: tuple[tuple[str, float, Quotation], ...]
    """Criterion, score, reasoning."""


@dataclass(frozen=True)
class ReportedGroup:
    """A question with its answers and judgements, as the report shows it."""

    question: Question
    config: str
    reason: str
    model: str
    phase: str
    variants: tuple[VariantAnswers, ...]
    hidden: int
    """Number of variants that are not shown."""
    verdicts: tuple[ReportedJudgement, ...]


ChosenQuestion = tuple[Question, str, str]
"""A question, its config, and the reason why it is shown."""


def choose_groups(
    questions: Sequence[Question], hard_negatives: Sequence[Question], controls: Sequence[Question]
) -> list[ChosenQuestion]:
    """Choose a sample that does not only contain the best questions.

    For each attribute the questions with the highest and the median fitness, one question of each templated
    family, two hard negatives, and one control of each kind.
    """
    chosen: list[ChosenQuestion] = []
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


def report_groups(
    chosen: Iterable[ChosenQuestion],
    responses: Iterable[Response],
    judgements: Iterable[Judgement] = (),
    history: Iterable[LabelChange] = (),
) -> tuple[ReportedGroup, ...]:
    """Return the chosen questions with their judgements and the answers of one model.

    The model is the first by name in the hold-out, otherwise in the search.
    """
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
    return tuple(_report_group(w, answers[w[0].id], verdicts[w[0].id], evidence[w[0].id]) for w in wanted)


def _report_group(
    wanted: ChosenQuestion,
    answers: Sequence[Response],
    judgements: Sequence[Judgement],
    evidence: Sequence[str],
) -> ReportedGroup:
    question, config, reason = wanted
    first = min(answers, key=lambda r: (r.phase, r.model, r.condition != PLAIN, r.condition), default=None)
    selected = [r for r in answers if first and _response_set(r) == _response_set(first)]
    judged = _first_judgements(judgements, first)
    quoted = [*evidence, *(q for j in judged for s in j.scores for q in find_quotations(s.reasoning))]
    return ReportedGroup(
        question=question,
        config=config,
        reason=reason,
        model=first.model if first else "not answered",
        phase=first.phase if first else "",
        variants=tuple(
            _variant_answers(v, question, config, [r for r in selected if r.variant == v.index], quoted)
            for v in question.variants[:MOST_VARIANTS]
        ),
        hidden=max(0, len(question.variants) - MOST_VARIANTS),
        verdicts=tuple(_reported_judgement(j) for j in judged),
    )


def _response_set(r: Response) -> tuple[str, str, str]:
    return (r.phase, r.model, r.condition)


def _first_judgements(judgements: Iterable[Judgement], first: Response | None) -> list[Judgement]:
    """Return the first judgement of each judge on the displayed answers."""
    by_judge: Mapping[str, Judgement] = {}
    if first is not None:
        shown = (first.phase, first.model, first.condition)
        displayed = [j for j in judgements if (j.phase, j.target, j.condition) == shown]
        latest_first = sorted(displayed, key=lambda j: (j.judge, j.repeat, j.order, j.id), reverse=True)
        by_judge = {j.judge: j for j in latest_first}
    return [by_judge[judge] for judge in sorted(by_judge)][:MOST_VERDICTS]


def _reported_judgement(j: Judgement) -> ReportedJudgement:
    query = row_query("scores", "judgements", j.id)
    scores = tuple((s.criterion, s.value, quote(s.reasoning, query)) for s in j.scores[:8])
    return ReportedJudgement(j.id, j.judge, j.fitness, j.abstention, scores)


def _variant_answers(
    variant: Variant, question: Question, config: str, answers: Sequence[Response], evidence: Sequence[str]
) -> VariantAnswers:
    ordered = sorted(answers, key=lambda r: r.sample)
    picks: dict[str, int] = defaultdict(int)
    for r in ordered:
        if question.options and r.failure is None:
            picks["invalid" if r.option is None else question.options[r.option].text] += 1
    texts = [r for r in ordered if r.failure is None and not question.options]
    return VariantAnswers(
        value=variant.value,
        text=truncate_spans(
            mark_variant(variant, question.template),
            row_query(f"variants[{variant.index + 1}].text", config, question.id),
        ),
        answers=tuple(
            quote(r.text, row_query("text", "responses", r.id), evidence) for r in texts[:MOST_ANSWERS]
        ),
        more=max(0, len(texts) - MOST_ANSWERS),
        chosen=tuple(
            f"{text[:120]} × {n}" for text, n in sorted(picks.items(), key=lambda p: (-p[1], p[0]))[:8]
        ),
        failed=sum(r.failure is not None for r in ordered),
    )


# Judges: abstentions, agreement and order effects.


ScoredUnit = tuple[str, str, str]
"""Unit of agreement: question, target, phase."""


@dataclass(frozen=True)
class JudgeRecord:
    """The judgements of one judge in one phase, counted."""

    judge: str
    phase: str
    verdicts: int
    abstained: int
    mean_fitness: float | None
    mean_on_controls: float | None
    """Mean fitness of A/A and placebo controls."""


def judge_records(judgements: Iterable[Judgement], zero_ids: set[str]) -> tuple[JudgeRecord, ...]:
    """Return one record per judge and phase.

    Args:
        judgements: All judgements.
        zero_ids: Ids of the controls with a true effect of zero.
    """
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
    """Agreement beyond chance on one criterion of a rubric, or on fitness."""

    rubric: str
    criterion: str
    judges: int
    groups: int
    """Groups that at least two judges scored."""
    alpha: float | None
    """Krippendorff's alpha for ordinal data. `None` without variation."""
    kappa: float | None
    """Weighted kappa. Only for two judges."""


def judge_agreement(judgements: Iterable[Judgement]) -> tuple[JudgeAgreement, ...]:
    """Return the agreement by rubric and criterion, and for fitness rounded to two digits.

    Several judgements of one judge on the same question, target and phase count as their mean. Adjudicators
    are excluded, because they only see disputed groups.

    References:
        Krippendorff (2004), Content Analysis, chapter 11. Cohen (1968), doi:10.1037/h0026256.
    """
    looks: dict[tuple[str, str], dict[str, dict[ScoredUnit, list[float]]]] = {}
    for j in judgements:
        if j.fitness is not None and not j.adjudicates:
            scores = {s.criterion: s.value for s in j.scores} | {"fitness": round(j.fitness, 2)}
            for criterion, value in scores.items():
                by_judge = looks.setdefault((j.rubric or j.fitness_form, criterion), {})
                unit = (j.question_id, j.target, j.phase)
                by_judge.setdefault(j.judge, {}).setdefault(unit, []).append(value)
    rows = (_agreement(*key, by_judge) for key, by_judge in sorted(looks.items()) if len(by_judge) > 1)
    return tuple(row for row in rows if row.groups)


def _agreement(
    rubric: str, criterion: str, by_judge: Mapping[str, Mapping[ScoredUnit, list[float]]]
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
    """How often a judge's fitness changed with the presentation order."""

    judge: str
    groups: int
    moved: int
    flipped: int
    """Number of groups above the floor in one order and not above it in another."""
    mean_difference: float


def measure_order_effects(judgements: Iterable[Judgement], floor: float = 0.0) -> tuple[OrderEffect, ...]:
    """Compare the fitness that each judge gave in different presentation orders.

    Only groups with at least two orders count. Several judgements in one order count as their mean.
    """
    looks: dict[str, dict[tuple[object, ...], dict[tuple[int, ...], list[float]]]] = defaultdict(dict)
    for j in judgements:
        if j.fitness is not None:
            group = looks[j.judge].setdefault((j.question_id, j.target, j.phase, j.pair), {})
            group.setdefault(j.order, []).append(j.fitness)
    effects = []
    for judge, groups in sorted(looks.items()):
        seen = [[fmean(f) for f in by.values()] for by in groups.values() if len(by) > 1]
        spans = [max(means) - min(means) for means in seen]
        if spans:
            flipped = sum(min(means) <= floor < max(means) for means in seen)
            effects.append(OrderEffect(judge, len(spans), sum(s > 0 for s in spans), flipped, fmean(spans)))
    return tuple(effects)


@dataclass(frozen=True)
class AuditedJudge:
    """A judge's passport as the report shows it."""

    passport: Passport
    results: tuple[ProbeResult, ...]
    """Probe results, without intermediate shares."""
    below: tuple[str, ...]
    """Sentences on results below the recipe's bar."""


def audited_judges(manifest: Manifest) -> tuple[AuditedJudge, ...]:
    """Return one entry per passport of the release."""
    bar = Bar.model_validate(manifest.recipe.get("judging", {}).get("bar", {}))
    hidden = ("_before", "_after", "_unchanged")
    return tuple(
        AuditedJudge(
            passport=passport,
            results=tuple(r for r in passport.probes if not r.measure.endswith(hidden)),
            below=passport.shortfalls(bar),
        )
        for passport in manifest.passports
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None
