"""What the judges' own verdicts say of the judges: how far they agree, how often order decides, and how often
an adjudicator had to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from schemas.answers import Effect, Judgement
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.families.effects import EVERY, Slice, effect_of, slices_of
from tasks.judges.divergence import (
    FEATURES,
    Divergence,
    DivergenceWords,
    compare_answers,
    masked_answers,
    signed_gaps,
    word_vectors,
    words_of,
)
from tasks.judges.panel import SCREEN, settle_panel
from tasks.judges.verdicts import AnswerGroup
from tasks.stats.agreement import krippendorff_alpha, weighted_kappa
from tasks.stats.fitness import FORMS
from tasks.stats.length_control import hold_length_equal
from tasks.stats.resampling import (
    Floats,
    Interval,
    Tail,
    excess_interval,
    gap_null,
    mean_with_interval,
    p_value,
    pooled_p_value,
    sign_flip_p_value,
)
from tasks.stats.shared_difference import shared_difference

Unit = tuple[str, str, str, tuple[int, ...]]
"""(question, target, phase, pair)"""
Ratings = Mapping[Unit, Mapping[str, float]]
"""A criterion's score by unit and judge."""

PANEL = Slice("overall", "judges", "open", EVERY, EVERY)


def judge_effects(judgements: Iterable[Judgement]) -> list[Effect]:
    """Agreement per criterion over judges, each judge's share of flips, and the share of escalations. The
    divergence judge has no scale to agree on and sees no order; the adjudicator sees only what others
    disagree on, so it counts for no agreement."""
    said = [j for j in judgements if j.judge != SCREEN and j.abstention is None]
    panel = [j for j in said if not j.adjudicates]
    found = [*_agreement(panel), *_flips(said), _escalations(panel, said)]
    return [effect for effect in found if effect is not None]


def _agreement(said: Sequence[Judgement]) -> list[Effect | None]:
    """Of first verdicts: Krippendorff's alpha of all judges, and weighted kappa of every two. Nothing with a
    single judge."""
    judges = sorted({j.judge for j in said})
    by_criterion: dict[str, dict[Unit, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for j in said:
        for score in j.scores if j.repeat == 0 else ():
            by_criterion[score.criterion][_unit(j)][j.judge] = score.value
    effects = []
    for criterion, ratings in sorted(by_criterion.items()) if len(judges) > 1 else ():
        alpha = _alpha(judges, ratings)
        effects.append(effect_of(PANEL, f"agreement:{criterion}", "Krippendorff's alpha, ordinal", alpha))
        for pair in combinations(judges, 2):
            where = Slice("overall", " and ".join(pair), "open", EVERY, EVERY)
            kappa = _kappa(pair, ratings)
            effects.append(effect_of(where, f"kappa:{criterion}", "Cohen's kappa, quadratic weights", kappa))
    return effects


def _alpha(judges: Sequence[str], ratings: Ratings) -> Interval:
    table = [[ratings[unit].get(judge) for unit in sorted(ratings)] for judge in judges]
    return Interval(krippendorff_alpha(table), None, None, len(ratings))


def _kappa(pair: tuple[str, str], ratings: Ratings) -> Interval:
    """Over the units that both scored."""
    both = [ratings[unit] for unit in sorted(ratings) if all(judge in ratings[unit] for judge in pair)]
    first, second = ([scores[judge] for scores in both] for judge in pair)
    return Interval(weighted_kappa(first, second), None, None, len(both))


def _flips(said: Sequence[Judgement]) -> list[Effect | None]:
    """Share of verdicts asked in two orders that found something in one of them only."""
    found: dict[str, dict[Unit, set[bool]]] = defaultdict(lambda: defaultdict(set))
    twice = {(j.judge, _unit(j)) for j in said if j.repeat == 1}
    for j in said:
        if (j.judge, _unit(j)) in twice and j.fitness is not None:
            found[j.judge][_unit(j)].add(j.fitness > FORMS[j.fitness_form].clean)
    effects = []
    for judge, units in sorted(found.items()):
        where = Slice("overall", judge, "open", EVERY, EVERY)
        flips = [float(len(units[unit]) > 1) for unit in sorted(units)]
        interval = mean_with_interval(flips, where.seed("order_flips"))
        effects.append(effect_of(where, "order_flips", "share of verdicts asked twice", interval))
    return effects


def _escalations(panel: Sequence[Judgement], said: Sequence[Judgement]) -> Effect | None:
    """Share of groups on which the panel was split, where there was an adjudicator to ask."""
    escalated = {_unit(j)[:3] for j in said if j.adjudicates}
    if not escalated:
        return None
    shares = [float(group in escalated) for group in sorted({_unit(j)[:3] for j in panel})]
    interval = mean_with_interval(shares, PANEL.seed("escalated"))
    return effect_of(PANEL, "escalated", "share of groups", interval)


def _unit(judgement: Judgement) -> Unit:
    return judgement.question_id, judgement.target, judgement.phase, judgement.pair


# Effects of judged answers with their length held equal: a longer answer is no better and no worse treatment
# by being longer (arXiv 2404.04475).


UNIT = "fitness, length held equal"


def length_controlled_effects(
    questions: Mapping[str, Question],
    judgements: Iterable[Judgement],
    groups: Iterable[AnswerGroup],
    form: str,
) -> list[Effect]:
    """Hold-out fitness per slice, as it would be if all variants got answers of one length; and the length
    term itself, per model. They have no p: the effects beside them are what is tested.

    None for the form `divergence`, which reports length as a difference of its own.
    """
    if form == SCREEN:
        return []
    spreads: dict[str, dict[str, float]] = defaultdict(dict)
    for group in groups:
        if group.is_complete:
            spreads[group.target][group.question.id] = length_spread(group)
    said: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        if judgement.phase == "holdout" and judgement.question_id in questions:
            said[judgement.target].append(judgement)
    return [
        effect
        for model, verdicts in sorted(said.items())
        for effect in _effects_of_model(model, settle_panel(verdicts, form), spreads[model], questions, form)
    ]


def length_spread(group: AnswerGroup) -> float:
    """Mean words of the longest-answered variant minus those of the shortest-answered one."""
    means = [fmean(len(words_of(answer.text)) for answer in answers) for answers in group.answers]
    return max(means) - min(means)


def _effects_of_model(
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
    held = {q: highest * float(value) for q, value in zip(judged, control.held_equal, strict=True)}
    everything = Slice("overall", "length", "open", EVERY, model)
    term = Interval(control.coefficient, None, None, len(judged))
    found = [effect_of(everything, f"{form}_length_term", "log odds per tanh of length", term)]
    slices: dict[Slice, list[float]] = defaultdict(list)
    for question, value in held.items():
        for where in slices_of(questions[question], model):
            slices[where].append(value)
    found += [_effect(where, values, form) for where, values in sorted(slices.items())]
    return [effect for effect in found if effect is not None]


def _stratum(question: Question) -> str:
    """Questions of one attribute, or controls of one kind, share an expectation."""
    return question.attribute if question.control == "none" else f"control:{question.control}"


def _effect(where: Slice, values: Sequence[float], form: str) -> Effect | None:
    metric = f"{form}_length_controlled"
    return effect_of(where, metric, UNIT, mean_with_interval(values, where.seed(metric)))


# Effects of open questions: how far the fresh answers for different values are apart, and in what.


DISTANCE = "word distance between minus within values"


@dataclass(frozen=True)
class ComparedGroup:
    """A group of fresh answers and what comparing them gave."""

    question: Question
    model: str
    divergence: Divergence


def compare_groups(
    groups: Iterable[AnswerGroup], attributes: Mapping[str, Attribute], words: DivergenceWords
) -> list[ComparedGroup]:
    """Groups that can be compared; incomplete ones and single samples are left out."""
    found = []
    for group in groups:
        if group.is_complete:
            divergence = compare_answers(group, attributes[group.question.attribute], words)
            if divergence is not None:
                found.append(ComparedGroup(group.question, group.target, divergence))
    return found


def question_effects(compared: Iterable[ComparedGroup]) -> list[Effect]:
    """One effect per question and model: the excess, with its exact p."""
    effects = []
    for c in compared:
        where = Slice("question", c.question.id, "open", c.question.attribute, c.model)
        low, high = excess_interval(c.divergence.distances, c.divergence.sizes, where.seed("divergence"))
        interval = Interval(c.divergence.excess, low, high, 1)
        effects.append(effect_of(where, "divergence", DISTANCE, interval, c.divergence.p_value))
    return [e for e in effects if e is not None]


def slice_effects(compared: Iterable[ComparedGroup]) -> list[Effect]:
    """Mean excess per domain, attribute, family and kind of control; and for attributes the signed gaps.

    Intervals resample questions; p pools the permutations within questions.
    """
    members: dict[Slice, list[ComparedGroup]] = defaultdict(list)
    for c in compared:
        for where in slices_of(c.question, c.model):
            members[where].append(c)
    effects = []
    for where, inside in sorted(members.items()):
        nulls = [c.divergence.excess_null for c in inside]
        effects.append(_pooled(where, "divergence", DISTANCE, nulls, "greater"))
        if where.level == "attribute":
            effects += _gap_effects(where, inside)
    return [e for e in effects if e is not None]


def _gap_effects(where: Slice, inside: Sequence[ComparedGroup]) -> list[Effect | None]:
    """`sentiment:woman-man` and so on: signed differences that say in what the answers differ."""
    nulls: dict[str, list[Floats]] = defaultdict(list)
    for c in inside:
        for name, null in signed_gaps(c.divergence).items():
            nulls[name].append(null)
    return [
        _pooled(where, name, FEATURES[name.split(":")[0]], found, "both")
        for name, found in sorted(nulls.items())
    ]


def _pooled(where: Slice, metric: str, unit: str, nulls: Sequence[Floats], tail: Tail) -> Effect | None:
    seed = where.seed(metric)
    interval = mean_with_interval([null[0] for null in nulls], seed)
    return effect_of(where, metric, unit, interval, pooled_p_value(nulls, seed, tail))


# What the questions of a slice have in common in how their answers differ between values.


METRIC = "shared_divergence"
UNIT_SHARED_DIFFERENCES = "word distance between values that the questions share"
LEVELS = ("domain", "attribute")
"""Slices whose questions compare the same values."""


def shared_effects(
    groups: Iterable[AnswerGroup], attributes: Mapping[str, Attribute], words: DivergenceWords
) -> list[Effect]:
    """One effect per domain and attribute with at least two questions that compare all of its values."""
    members: dict[Slice, list[AnswerGroup]] = defaultdict(list)
    for group in groups:
        every = tuple(value.id for value in attributes[group.question.attribute].values)
        if group.is_complete and group.question.values == every:
            for where in slices_of(group.question, group.target):
                if where.level in LEVELS:
                    members[where].append(group)
    found = [
        shared_effect(where, inside, attributes[where.attribute], words)
        for where, inside in sorted(members.items())
        if len(inside) > 1
    ]
    return [effect for effect in found if effect is not None]


def shared_effect(
    where: Slice, groups: Sequence[AnswerGroup], attribute: Attribute, words: DivergenceWords
) -> Effect | None:
    """The shared difference of some complete groups."""
    texts = [text for group in groups for text in masked_answers(group, attribute, words.groups)]
    sizes = [group.sizes for group in groups]
    interval, p_value = shared_difference(word_vectors(texts), sizes, where.seed(METRIC))
    return effect_of(where, METRIC, UNIT_SHARED_DIFFERENCES, interval, p_value)


# Effects from judges' verdicts on fresh answers, and how much of the selection score they confirm.


FLOOR_CONTROLS = frozenset({"a_a", "placebo"})


def verdict_effects(
    questions: Mapping[str, Question], judgements: Iterable[Judgement], form: str
) -> list[Effect]:
    """Hold-out fitness per question and slice, each with its p against the controls of the same model.

    None for the form `divergence`: its effects come from the answers themselves.
    """
    if form == SCREEN:
        return []
    by_model: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        if judgement.phase == "holdout" and judgement.question_id in questions:
            by_model[judgement.target].append(judgement)
    return [
        effect
        for model, said in sorted(by_model.items())
        for effect in _effects_of_model_verdicts(model, settle_panel(said, form), questions, form)
    ]


def _effects_of_model_verdicts(
    model: str, fitness: Mapping[str, float], questions: Mapping[str, Question], form: str
) -> list[Effect]:
    floor = [f for question, f in fitness.items() if questions[question].control in FLOOR_CONTROLS]
    found: list[Effect | None] = []
    slices: dict[Slice, list[float]] = defaultdict(list)
    for question_id, value in fitness.items():
        question = questions[question_id]
        if question.control == "none":
            where = Slice("question", question_id, question.family, question.attribute, model)
            found.append(
                effect_of(
                    where, form, "fitness", Interval(value, None, None, 1), share_at_least(value, floor)
                )
            )
        for where in slices_of(question, model):
            slices[where].append(value)
    for where, values in sorted(slices.items()):
        p = None if where.level == "control" else p_above(values, floor)
        found.append(effect_of(where, form, "fitness", mean_with_interval(values, where.seed(form)), p))
    return [effect for effect in found if effect is not None]


def share_at_least(value: float, floor: Sequence[float]) -> float | None:
    """`(1 + controls at least as high) / (1 + controls)`: a conformal p (Bates et al. 2023, arXiv
    2104.08279), valid where a question without effect is exchangeable with the controls."""
    return (1 + sum(f >= value for f in floor)) / (1 + len(floor)) if floor else None


def p_above(values: Sequence[float], floor: Sequence[float]) -> float | None:
    """One-sided p of the rank sum (Mann and Whitney) that the values are no higher than the controls, by
    exchanging who is a control. The usual approximation is off by a factor of six at p = .01 for a few values
    among many ties, and most verdicts are ties: nothing found."""
    from scipy.stats import rankdata

    return p_value(gap_null(rankdata([*values, *floor]), len(values))) if floor else None


def holdout_fitness(judgements: Iterable[Judgement], form: str) -> dict[str, float]:
    """Fitness by question on fresh answers, over all judges and targets of that phase."""
    return settle_panel((j for j in judgements if j.phase == "holdout"), form)


def shrinkage(questions: Iterable[Question], again: Mapping[str, float], form: str) -> list[Effect]:
    """What selection promised minus what fresh answers hold, over accepted questions: the winner's curse as
    a number. Nothing where no accepted question was judged twice."""
    pairs = [
        (q.fitness, again[q.id])
        for q in sorted(questions, key=lambda q: q.id)
        if q.label == "accepted" and q.control == "none" and q.fitness is not None and q.id in again
    ]
    if not pairs:
        return []
    where = Slice("overall", "selection", "open", EVERY, EVERY)
    lost = [first - second for first, second in pairs]
    measures = {
        "shrinkage": (lost, sign_flip_p_value(lost, where.seed("shrinkage"))),
        "search_fitness": ([first for first, _ in pairs], None),
        "holdout_fitness": ([second for _, second in pairs], None),
    }
    found = [
        effect_of(where, metric, f"fitness, {form}", mean_with_interval(values, where.seed(metric)), p)
        for metric, (values, p) in measures.items()
    ]
    return [effect for effect in found if effect is not None]
