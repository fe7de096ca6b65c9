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

from schemas.answers import PLAIN, Effect, Judgement
from schemas.question import SELECTED, Question
from schemas.release import CorrectedTreatment
from tasks.families.contrasts import SUFFIX
from tasks.families.effects import EVERY, Slice, effect_of, not_measured, slices_of
from tasks.judges.divergence import tokenize_words
from tasks.judges.panel import SCREEN, settle_panel, signed_scores
from tasks.judges.verdicts import AnswerGroup
from tasks.stats.agreement import krippendorff_alpha, weighted_kappa
from tasks.stats.clusters import ControlFloor, matched_scores, twin_families
from tasks.stats.comparisons import conformal_p_value, matched_rank_test
from tasks.stats.fitness import FORMS
from tasks.stats.hypothesis_tests import q_values
from tasks.stats.intervals import SHARE_BOUNDS, mean_interval
from tasks.stats.length_control import WIDEST, controlled_interval, hold_length_equal, inflation
from tasks.stats.resampling import Interval
from tasks.stats.signed_means import signed_mean

Unit = tuple[str, str, str, tuple[int, ...]]
"""(question, target, phase, pair)"""
Ratings = Mapping[Unit, Mapping[str, float]]
"""Scores on one criterion, by unit and judge."""

PANEL = Slice("overall", "judges", "open", EVERY, EVERY, language=EVERY)
FLOOR_CONTROLS = frozenset({"a_a", "placebo"})
"""Controls without any effect. Their fitness is the noise floor."""
LENGTH_CONTROLLED = "fitness, length held equal"
NO_MATCHING_CONTROL = "controls: none has the same number of versions and the same framings"
CORRECTED_TREATMENT = "corrected_treatment"
"""Metric of the judges' mean treatment, corrected with people's scores (`tasks.stats.prediction_powered`)."""
TREATMENT_UNIT = "points of 4"
"""Scores are from 1 to 5."""
NO_LABELS = "labels: nobody scored these answers"
LENGTHS_TOO_ALIKE = "length: the lengths do not tell its effect from that of the values"


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
        interval = mean_interval(flips, bounds=SHARE_BOUNDS)
        effects.append(effect_of(slice_, "order_flips", "share of verdicts asked twice", interval))
    return effects


def _escalations(panel: Sequence[Judgement], verdicts: Sequence[Judgement]) -> Effect | None:
    """Compute the share of groups that went to an adjudicator, or `None` without an adjudicator."""
    escalated = {_unit(j)[:3] for j in verdicts if j.adjudicates}
    if not escalated:
        return None
    shares = [float(group in escalated) for group in sorted({_unit(j)[:3] for j in panel})]
    interval = mean_interval(shares, bounds=SHARE_BOUNDS)
    return effect_of(PANEL, "escalated", "share of groups", interval)


def _unit(judgement: Judgement) -> Unit:
    return judgement.question_id, judgement.target, judgement.phase, judgement.pair


# Hold-out fitness.


def verdict_effects(
    questions: Mapping[str, Question], judgements: Iterable[Judgement], form: str
) -> list[Effect]:
    """Return hold-out fitness per question and slice, tested against the controls of the same model.

    Only slices have a row for answers under other prompts. They are tested against controls under the same
    prompt. The form `divergence` has none here. Its effects are computed from the answers
    (`tasks.families.open`).
    """
    return [
        effect
        for (model, condition), fitness in fitness_by_condition(questions, judgements, form).items()
        for effect in _fitness_effects(model, condition, fitness, questions, form)
    ]


def fitness_by_condition(
    questions: Mapping[str, Question], judgements: Iterable[Judgement], form: str
) -> dict[tuple[str, str], dict[str, float]]:
    """Return hold-out fitness by question, for every model and condition. The form `divergence` has none."""
    if form == SCREEN:
        return {}
    groups: dict[tuple[str, str], list[Judgement]] = defaultdict(list)
    for j in judgements:
        if j.phase == "holdout" and j.question_id in questions:
            groups[j.target, j.condition].append(j)
    return {key: settle_panel(verdicts, form) for key, verdicts in sorted(groups.items())}


def _fitness_effects(
    model: str, condition: str, fitness: Mapping[str, float], questions: Mapping[str, Question], form: str
) -> list[Effect]:
    floor = _floor_of(fitness, questions)
    effects: list[Effect | None] = []
    slices: dict[Slice, dict[str, float]] = defaultdict(dict)
    for question_id, value in fitness.items():
        question = questions[question_id]
        if question.control == "none" and condition == PLAIN:
            effects.append(_question_effect(model, question, value, floor, form))
        for slice_ in slices_of(question, model, condition):
            slices[slice_][question_id] = value
    families = twin_families(questions[i] for i in fitness)
    for slice_, scores in sorted(slices.items()):
        clusters = [families[i] for i in scores]
        interval = mean_interval(list(scores.values()), clusters=clusters, bounds=(0.0, FORMS[form].high))
        if slice_.level == "control":
            effects.append(effect_of(slice_, form, "fitness", interval))
            continue
        strata = matched_scores(scores, questions)
        controls = {matched: floor.matching(matched) for matched in strata}
        test = matched_rank_test(strata, controls, slice_.seed(form))
        effect = effect_of(slice_, form, "fitness", interval, test.p_value)
        if effect is not None and test.p_value is None:
            effect = effect.model_copy(update={"reason": NO_MATCHING_CONTROL})
        effects.append(effect)
    return [effect for effect in effects if effect is not None]


def _question_effect(
    model: str, question: Question, value: float, floor: ControlFloor, form: str
) -> Effect | None:
    slice_ = Slice(
        "question", question.id, question.family, question.attribute, model, language=question.language
    )
    p_value = conformal_p_value(value, floor.matching_question(question))
    return effect_of(slice_, form, "fitness", Interval(value, None, None, 1), p_value)


def _floor_of(scores: Mapping[str, float], questions: Mapping[str, Question]) -> ControlFloor:
    zero = {i: score for i, score in scores.items() if questions[i].control in FLOOR_CONTROLS}
    return ControlFloor(zero, questions)


# Hold-out fitness with the length of the answers held equal.


def length_controlled_effects(
    questions: Mapping[str, Question],
    judgements: Iterable[Judgement],
    spreads: Mapping[str, Mapping[str, float]],
    form: str,
) -> list[Effect]:
    """Return hold-out fitness per slice as expected at the controls' length difference, and the length term.

    These effects have no p-value: the uncontrolled fitness is tested. The form `divergence` has none,
    because it reports length as a difference of its own.

    Args:
        questions: Questions by id.
        judgements: Judgements of their answers.
        spreads: `length_spread` of complete groups, by model and question.
        form: Form of the fitness that decides.

    References:
        Dubois et al. (2024), arXiv 2404.04475.
    """
    return [
        effect
        for (model, condition), fitness in fitness_by_condition(questions, judgements, form).items()
        if condition == PLAIN
        for effect in _controlled_effects(model, fitness, spreads.get(model, {}), questions, form)
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
    by_chance = [spreads[q] for q in judged if questions[q].control in FLOOR_CONTROLS]
    families = twin_families(questions[q] for q in judged)
    control = hold_length_equal(
        [fitness[q] / highest for q in judged],
        [spreads[q] for q in judged],
        [_stratum(questions[q]) for q in judged],
        reference=fmean(by_chance) if by_chance else 0.0,
        clusters=[families[q] for q in judged],
    )
    everything = replace(PANEL, name="length", model=model)
    term = Interval(control.coefficient, None, None, len(judged))
    effects = [effect_of(everything, f"{form}_length_term", "log odds per tanh of length", term)]
    slices: dict[Slice, list[int]] = defaultdict(list)
    for i, question in enumerate(judged):
        for slice_ in slices_of(questions[question], model):
            slices[slice_].append(i)
    metric = f"{form}_length_controlled"
    for slice_, members in sorted(slices.items()):
        if inflation(control, members) > WIDEST:
            effects.append(not_measured(slice_, metric, LENGTH_CONTROLLED, LENGTHS_TOO_ALIKE))
            continue
        share = controlled_interval(control, members)
        low, high = (None if bound is None else highest * bound for bound in (share.low, share.high))
        interval = Interval(highest * share.value, low, high, share.n)
        effects.append(effect_of(slice_, metric, LENGTH_CONTROLLED, interval))
    return [effect for effect in effects if effect is not None]


def _stratum(question: Question) -> str:
    """Return the questions that share an expectation: those of one attribute, or one kind of control."""
    return question.attribute if question.control == "none" else f"control:{question.control}"


# Selection against hold-out.


def holdout_fitness(judgements: Iterable[Judgement], form: str) -> dict[str, float]:
    """Return hold-out fitness by question, over all judges and targets."""
    return settle_panel((j for j in judgements if j.phase == "holdout"), form)


def confirm_questions(
    questions: Mapping[str, Question], judgements: Iterable[Judgement], form: str, fdr: float
) -> set[str]:
    """Return the selected open questions that exceed matching controls on fresh answers.

    Every question is compared with the controls of its number of versions and its framing. Benjamini and
    Hochberg's procedure limits the share of questions without an effect among those that are confirmed.
    """
    scores = signed_scores((j for j in judgements if j.question_id in questions), form, "holdout")
    floor = _floor_of(scores, questions)
    tested = sorted(i for i in scores if needs_confirmation(questions[i]))
    p_values = [conformal_p_value(scores[i], floor.matching_question(questions[i])) for i in tested]
    return {i for i, q in zip(tested, q_values(p_values), strict=True) if q is not None and q <= fdr}


def needs_confirmation(question: Question) -> bool:
    """Return whether a question was selected by a search."""
    selected = question.label in SELECTED and question.label != "survey"
    return question.family == "open" and question.control == "none" and selected


def shrinkage(questions: Iterable[Question], judgements: Iterable[Judgement], form: str) -> list[Effect]:
    """Return the selection score minus the hold-out score of accepted questions: the winner's curse.

    Args:
        questions: Questions with their label.
        judgements: Judgements of both phases.
        form: Form of the fitness that decides.

    Returns:
        `shrinkage`, `search_fitness` and `holdout_fitness`. Empty if no accepted question has both scores.
    """
    verdicts = list(judgements)
    rows = sorted(questions, key=lambda q: q.id)
    before = {q.id: q.fitness for q in rows if q.fitness is not None}
    if form == SCREEN:
        before |= signed_scores(verdicts, form, "search")
    again = signed_scores(verdicts, form, "holdout")
    accepted = [
        q for q in rows if q.label in SELECTED and q.control == "none" and q.id in before and q.id in again
    ]
    if not accepted:
        return []
    slice_ = replace(PANEL, name="selection")
    families = twin_families(accepted)
    clusters = [families[q.id] for q in accepted]
    highest = FORMS[form].high
    lowest = -1.0 if form == SCREEN else 0.0
    first, second = [before[q.id] for q in accepted], [again[q.id] for q in accepted]
    losses = [one - other for one, other in zip(first, second, strict=True)]
    widest = (lowest - highest, highest - lowest)
    lost = signed_mean(losses, slice_.seed("shrinkage"), clusters=clusters, bounds=widest)
    unit = f"fitness, {form}"
    effects = [effect_of(slice_, "shrinkage", unit, *lost)]
    for metric, values in (("search_fitness", first), ("holdout_fitness", second)):
        interval = mean_interval(values, clusters=clusters, bounds=(lowest, highest))
        effects.append(effect_of(slice_, metric, unit, interval))
    return [effect for effect in effects if effect is not None]


# Effects of judges that are corrected with people's scores.


def corrected_effects(treatment: Iterable[CorrectedTreatment], questions: Iterable[Question]) -> list[Effect]:
    """Return the corrected contrasts as effects. With several judges, only those of their mean count.

    Args:
        treatment: Corrected treatment by judge, model, attribute and value.
        questions: Questions of the release, for their languages.
    """
    rows = list(treatment)
    several = len({row.judge for row in rows}) > 1
    languages: dict[str, set[str]] = defaultdict(set)
    for q in questions:
        if q.family == "open" and q.label in SELECTED:
            languages[q.attribute].add(q.language)
    effects = []
    for row in rows:
        if several and row.judge != EVERY:
            continue
        spoken = languages[row.attribute]
        language = next(iter(spoken)) if len(spoken) == 1 else EVERY
        slice_ = Slice("attribute", row.attribute, "open", row.attribute, row.model, language=language)
        metric = f"{CORRECTED_TREATMENT}{SUFFIX}:{row.value}"
        effect = None
        if row.corrected is not None:
            interval = Interval(
                row.corrected, row.corrected_low, row.corrected_high, row.families or row.labels
            )
            effect = effect_of(slice_, metric, TREATMENT_UNIT, interval, row.corrected_p)
        if effect is None:
            effect = not_measured(slice_, metric, TREATMENT_UNIT, row.reason or NO_LABELS)
        effects.append(effect.model_copy(update={"compared": row.value}))
    return effects
