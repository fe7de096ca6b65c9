"""Effects of judged answers with their length held equal: a longer answer is no better and no worse treatment
by being longer (arXiv 2404.04475)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from schemas.effect import Effect
from schemas.judgement import Judgement
from schemas.question import Question
from tasks.judging.answer_features import words_of
from tasks.judging.groups import AnswerGroup
from tasks.judging.panel import SCREEN, settle_panel
from tasks.measuring.effects import EVERY, Slice, effect_of, slices_of
from tasks.stats.bootstrap import Interval, mean_with_interval
from tasks.stats.fitness import FORMS
from tasks.stats.length_control import hold_length_equal

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
