"""Effects from judges' verdicts on fresh answers, and how much of the selection score they confirm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from schemas.effect import Effect
from schemas.judgement import Judgement
from schemas.question import Question
from tasks.judging.panel import SCREEN, settle_panel
from tasks.measuring.effects import EVERY, Slice, effect_of, slices_of
from tasks.stats.bootstrap import Interval, mean_with_interval
from tasks.stats.permutation import gap_null, p_value, sign_flip_p_value

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
        for effect in _effects_of_model(model, settle_panel(said, form), questions, form)
    ]


def _effects_of_model(
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
