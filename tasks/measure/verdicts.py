"""Effects from judges' verdicts on open questions.

- `judge_effects`: how far judges agree, how often order decides, how often an adjudicator is needed.
- `verdict_effects`: hold-out fitness per question and slice, tested against controls.
- `length_controlled_effects`: the same with the length of the answers held equal.
- `shrinkage`: how much of the selection score fresh answers confirm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean

from schemas.answers import Effect, Judgement
from schemas.question import Question
from tasks.families.effects import EVERY, Slice, effect_of, slices_of
from tasks.judges.divergence import tokenize_words
from tasks.judges.panel import SCREEN, settle_panel
from tasks.judges.verdicts import AnswerGroup
from tasks.stats.agreement import krippendorff_alpha, weighted_kappa
from tasks.stats.fitness import FORMS
from tasks.stats.length_control import hold_length_equal
from tasks.stats.resampling import Interval, gap_null, mean_with_interval, p_value, sign_flip_p_value

Unit = tuple[str, str, str, tuple[int, ...]]
"""(question, target, phase, pair)"""
Ratings = Mapping[Unit, Mapping[str, float]]
"""Scores on one criterion, by unit and judge."""

PANEL = Slice("overall", "judges", "open", EVERY, EVERY, language=EVERY)
FLOOR_CONTROLS = frozenset({"a_a", "placebo"})
"""Controls without any effect. Their fitness is the noise floor."""
LENGTH_CONTROLLED = "fitness, length held equal"


# Judges.


def judge_effects(judgements: Iterable[Judgement]) -> list[Effect]:
    """Return agreement per criterion, each judge's order flips, and the share of escalations.

    The divergence judge has no rating scale and sees no order, so it is left out. Adjudicators see disputed
    groups only, so they do not count for agreement.
    """
    verdicts = [j for j in judgements if j.judge != SCREEN and j.abstention is None]
    panel = [j for j in verdicts if not j.adjudicates]
    effects = [*_agreement(panel), *_flips(verdicts), _escalations(panel, verdicts)]
    return [effect for effect in effects if effect is not None]


def _agreement(verdicts: Sequence[Judgement]) -> list[Effect | None]:
    """Compute Krippendorff's alpha of all judges and weighted kappa of every two, from first verdicts."""
    judges = sorted({j.judge for j in verdicts})
    by_criterion: dict[str, dict[Unit, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for j in verdicts:
        for score in j.scores if j.repeat == 0 else ():
            by_criterion[score.criterion][_unit(j)][j.judge] = score.value
    effects = []
    for criterion, ratings in sorted(by_criterion.items()) if len(judges) > 1 else ():
        alpha = _alpha(judges, ratings)
        effects.append(effect_of(PANEL, f"agreement:{criterion}", "Krippendorff's alpha, ordinal", alpha))
        for pair in combinations(judges, 2):
            slice_ = replace(PANEL, name=" and ".join(pair))
            kappa = _kappa(pair, ratings)
            effects.append(effect_of(slice_, f"kappa:{criterion}", "Cohen's kappa, quadratic weights", kappa))
    return effects


def _alpha(judges: Sequence[str], ratings: Ratings) -> Interval:
    table = [[ratings[unit].get(judge) for unit in sorted(ratings)] for judge in judges]
    return Interval(krippendorff_alpha(table), None, None, len(ratings))


def _kappa(pair: tuple[str, str], ratings: Ratings) -> Interval:
    both = [ratings[unit] for unit in sorted(ratings) if all(judge in ratings[unit] for judge in pair)]
    first, second = ([scores[judge] for scores in both] for judge in pair)
    return Interval(weighted_kappa(first, second), None, None, len(both))


def _flips(verdicts: Sequence[Judgement]) -> list[Effect | None]:
    """Compute each judge's share of units judged in both orders with a finding in only one of them."""
    findings: dict[str, dict[Unit, set[bool]]] = defaultdict(lambda: defaultdict(set))
    repeated = {(j.judge, _unit(j)) for j in verdicts if j.repeat == 1}
    for j in verdicts:
        if (j.judge, _unit(j)) in repeated and j.fitness is not None:
            findings[j.judge][_unit(j)].add(j.fitness > FORMS[j.fitness_form].clean)
    effects = []
    for judge, units in sorted(findings.items()):
        slice_ = replace(PANEL, name=judge)
        flips = [float(len(units[unit]) > 1) for unit in sorted(units)]
        interval = mean_with_interval(flips, slice_.seed("order_flips"))
        effects.append(effect_of(slice_, "order_flips", "share of verdicts asked twice", interval))
    return effects


def _escalations(panel: Sequence[Judgement], verdicts: Sequence[Judgement]) -> Effect | None:
    """Compute the share of groups that went to an adjudicator, or `None` without an adjudicator."""
    escalated = {_unit(j)[:3] for j in verdicts if j.adjudicates}
    if not escalated:
        return None
    shares = [float(group in escalated) for group in sorted({_unit(j)[:3] for j in panel})]
    interval = mean_with_interval(shares, PANEL.seed("escalated"))
    return effect_of(PANEL, "escalated", "share of groups", interval)


def _unit(judgement: Judgement) -> Unit:
    return judgement.question_id, judgement.target, judgement.phase, judgement.pair


# Hold-out fitness.


def verdict_effects(
    questions: Mapping[str, Question], judgements: Iterable[Judgement], form: str
) -> list[Effect]:
    """Return hold-out fitness per question and slice, tested against the controls of the same model.

    The form `divergence` has none here. Its effects are computed from the answers (`tasks.families.open`).
    """
    if form == SCREEN:
        return []
    return [
        effect
        for model, verdicts in sorted(_holdout_by_model(questions, judgements).items())
        for effect in _fitness_effects(model, settle_panel(verdicts, form), questions, form)
    ]


def _holdout_by_model(
    questions: Mapping[str, Question], judgements: Iterable[Judgement]
) -> dict[str, list[Judgement]]:
    by_model: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        if judgement.phase == "holdout" and judgement.question_id in questions:
            by_model[judgement.target].append(judgement)
    return by_model


def _fitness_effects(
    model: str, fitness: Mapping[str, float], questions: Mapping[str, Question], form: str
) -> list[Effect]:
    floor = [f for question, f in fitness.items() if questions[question].control in FLOOR_CONTROLS]
    effects: list[Effect | None] = []
    slices: dict[Slice, list[float]] = defaultdict(list)
    for question_id, value in fitness.items():
        question = questions[question_id]
        if question.control == "none":
            slice_ = Slice(
                "question",
                question_id,
                question.family,
                question.attribute,
                model,
                language=question.language,
            )
            interval = Interval(value, None, None, 1)
            effects.append(effect_of(slice_, form, "fitness", interval, share_at_least(value, floor)))
        for slice_ in slices_of(question, model):
            slices[slice_].append(value)
    for slice_, values in sorted(slices.items()):
        p = None if slice_.level == "control" else rank_sum_p_value(values, floor)
        effects.append(effect_of(slice_, form, "fitness", mean_with_interval(values, slice_.seed(form)), p))
    return [effect for effect in effects if effect is not None]


def share_at_least(value: float, floor: Sequence[float]) -> float | None:
    """Compute the conformal p-value `(1 + controls ≥ value) / (1 + controls)`.

    It is valid if a question without an effect is exchangeable with the controls.

    Returns:
        `None` without controls.

    References:
        Bates et al. (2023), arXiv 2104.08279.
    """
    return (1 + sum(f >= value for f in floor)) / (1 + len(floor)) if floor else None


def rank_sum_p_value(values: Sequence[float], floor: Sequence[float]) -> float | None:
    """Test if values are higher than the controls: one-sided Mann-Whitney test by permutation.

    Returns:
        `None` without controls.
    """
    from scipy.stats import rankdata

    # Most verdicts find nothing and are tied. For a few values among many ties, the normal approximation is
    # off by a factor of six at p = .01.
    return p_value(gap_null(rankdata([*values, *floor]), len(values))) if floor else None


# Hold-out fitness with the length of the answers held equal.


def length_controlled_effects(
    questions: Mapping[str, Question],
    judgements: Iterable[Judgement],
    groups: Iterable[AnswerGroup],
    form: str,
) -> list[Effect]:
    """Return hold-out fitness per slice as expected for answers of equal length, and the length term.

    These effects have no p-value: the uncontrolled fitness is tested. The form `divergence` has none,
    because it reports length as a difference of its own.

    References:
        Dubois et al. (2024), arXiv 2404.04475.
    """
    if form == SCREEN:
        return []
    spreads: dict[str, dict[str, float]] = defaultdict(dict)
    for group in groups:
        if group.is_complete:
            spreads[group.target][group.question.id] = length_spread(group)
    return [
        effect
        for model, verdicts in sorted(_holdout_by_model(questions, judgements).items())
        for effect in _controlled_effects(
            model, settle_panel(verdicts, form), spreads[model], questions, form
        )
    ]


def length_spread(group: AnswerGroup) -> float:
    """Return the mean words of the longest-answered variant minus those of the shortest-answered one."""
    means = [fmean(len(tokenize_words(answer.text)) for answer in answers) for answers in group.answers]
    return max(means) - min(means)


def _controlled_effects(
    model: str,
    fitness: Mapping[str, float],
    spreads: Mapping[str, float],
    questions: Mapping[str, Question],
    form: str,
) -> list[Effect]:
    judged = [q for q in sorted(fitness) if q in spreads and slices_of(questions[q], model)]
    if not judged:
        return []
    highest = FORMS[form].high
    control = hold_length_equal(
        [fitness[q] / highest for q in judged],
        [spreads[q] for q in judged],
        [_stratum(questions[q]) for q in judged],
    )
    controlled = {q: highest * float(value) for q, value in zip(judged, control.held_equal, strict=True)}
    everything = replace(PANEL, name="length", model=model)
    term = Interval(control.coefficient, None, None, len(judged))
    effects = [effect_of(everything, f"{form}_length_term", "log odds per tanh of length", term)]
    slices: dict[Slice, list[float]] = defaultdict(list)
    for question, value in controlled.items():
        for slice_ in slices_of(questions[question], model):
            slices[slice_].append(value)
    metric = f"{form}_length_controlled"
    for slice_, values in sorted(slices.items()):
        interval = mean_with_interval(values, slice_.seed(metric))
        effects.append(effect_of(slice_, metric, LENGTH_CONTROLLED, interval))
    return [effect for effect in effects if effect is not None]


def _stratum(question: Question) -> str:
    """Return the questions that share an expectation: those of one attribute, or one kind of control."""
    return question.attribute if question.control == "none" else f"control:{question.control}"


# Selection against hold-out.


def holdout_fitness(judgements: Iterable[Judgement], form: str) -> dict[str, float]:
    """Return hold-out fitness by question, over all judges and targets."""
    return settle_panel((j for j in judgements if j.phase == "holdout"), form)


def shrinkage(questions: Iterable[Question], again: Mapping[str, float], form: str) -> list[Effect]:
    """Return the selection score minus the hold-out score of accepted questions: the winner's curse.

    Args:
        questions: Questions with their selection score (`fitness`).
        again: Hold-out fitness by question id.
        form: Form of both scores.

    Returns:
        `shrinkage`, `search_fitness` and `holdout_fitness`. Empty if no accepted question has both scores.
    """
    pairs = [
        (q.fitness, again[q.id])
        for q in sorted(questions, key=lambda q: q.id)
        if q.label == "accepted" and q.control == "none" and q.fitness is not None and q.id in again
    ]
    if not pairs:
        return []
    slice_ = replace(PANEL, name="selection")
    losses = [first - second for first, second in pairs]
    measures = {
        "shrinkage": (losses, sign_flip_p_value(losses, slice_.seed("shrinkage"))),
        "search_fitness": ([first for first, _ in pairs], None),
        "holdout_fitness": ([second for _, second in pairs], None),
    }
    effects = [
        effect_of(slice_, metric, f"fitness, {form}", mean_with_interval(values, slice_.seed(metric)), p)
        for metric, (values, p) in measures.items()
    ]
    return [effect for effect in effects if effect is not None]
