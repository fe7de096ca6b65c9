"""Contrasts: the direction of a difference, as the score of each value minus the mean of all values.

A contrast below 0 means that the value is treated worse. The scores come from the answers
(`Method.treatment`). For open questions they come from the judges, which score every version
(`Judgement.version_scores`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import fmean
from typing import Literal

import numpy as np

from schemas.answers import Effect, Judgement
from schemas.question import SELECTED, Question
from schemas.tables import content_id, derived_seed
from schemas.vocabulary import Attribute
from tasks.families import Answered, VersionScores, method_of
from tasks.families.effects import Slice, effect_of, not_measured
from tasks.judges.panel import SCREEN
from tasks.stats.clusters import twin_families
from tasks.stats.resampling import Floats, row_sums
from tasks.stats.signed_means import signed_mean

SUFFIX = "_contrast"
"""Ending of the metric of every contrast, before the value: `favourable_contrast:woman`."""
TREATMENT = "treatment"
"""Metric of a slice of answers without a direction."""
NO_DIRECTION = "direction: the scores of this family have no better and worse side"
NO_JUDGE_DIRECTION = "direction: the judge does not score the versions one by one"
EXCHANGES = 500
"""Random exchanges of the values of one question, for the levels of a factor."""
MANY_VALUES = 12
"""Products with more values are compared by the levels of their factors only."""

Framing = Literal["all", "explicit", "implicit"]


@dataclass(frozen=True)
class ScoredQuestion:
    """The scores of the versions of one question."""

    question: Question
    model: str
    condition: str
    metric: str
    scores: VersionScores


def scored_answers(answered: Iterable[Answered]) -> Iterator[ScoredQuestion]:
    """Yield the scores of the questions of all families but `open`."""
    for a in answered:
        treatment = method_of(a.question.family).treatment
        scores = treatment.scores(a) if treatment and counts_for_contrasts(a.question) else None
        if treatment and scores is not None:
            yield ScoredQuestion(a.question, a.model, a.condition, treatment.metric, scores)


def counts_for_contrasts(question: Question) -> bool:
    """Return whether a question counts: not a control, and selected if its family selects."""
    return question.control == "none" and question.label in SELECTED


def scored_judgements(
    questions: Mapping[str, Question], judgements: Iterable[Judgement], form: str
) -> Iterator[ScoredQuestion]:
    """Yield the scores that judges gave to the versions of open questions on fresh answers.

    Scores are averaged over orders, pairs and judges. The judges that decided count. If they gave no scores
    of versions, those of the statistical judge do.
    """
    chosen: dict[tuple[str, str, str], dict[bool, list[_JudgeScores]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for j in judgements:
        question = questions.get(j.question_id)
        if question and counts_for_contrasts(question) and j.phase == "holdout" and j.version_scores:
            group = j.question_id, j.target, j.condition
            chosen[group][j.judge == SCREEN].append(_directed_scores(j))
    for (question_id, target, condition), by_kind in sorted(chosen.items()):
        verdicts = by_kind.get(form == SCREEN) or by_kind.get(form != SCREEN) or []
        for metric, scores in sorted(_scores_by_criterion(verdicts).items()):
            yield ScoredQuestion(questions[question_id], target, condition, metric, scores)


_JudgeScores = tuple[str, tuple[tuple[str, int, float, float | None], ...]]
"""A judge with its scores: criterion, version, score with the better end up, and span of the scale."""


def _directed_scores(judgement: Judgement) -> _JudgeScores:
    """Return the scores that have a better end. They take a small part of the memory of a judgement."""
    return judgement.judge, tuple(
        (
            s.criterion,
            s.version,
            s.score if s.better == "high" else -s.score,
            None if s.low is None or s.high is None else s.high - s.low,
        )
        for s in judgement.version_scores
        if s.better is not None
    )


def _scores_by_criterion(verdicts: Sequence[_JudgeScores]) -> dict[str, VersionScores]:
    given: dict[str, dict[int, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    spans: dict[str, float | None] = {}
    for judge, scores in verdicts:
        for criterion, version, score, span in scores:
            given[criterion][version].setdefault(judge, []).append(score)
            spans[criterion] = span
    return {
        criterion: VersionScores(
            f"judge's score of {criterion.replace('_', ' ')}",
            {i: fmean(fmean(scores) for scores in by_judge.values()) for i, by_judge in versions.items()},
            spans[criterion],
        )
        for criterion, versions in given.items()
    }


def contrast_effects(scored: Iterable[ScoredQuestion], attributes: Mapping[str, Attribute]) -> list[Effect]:
    """Return one effect per value and slice: attribute, framing of the attribute, and superdomain.

    Twin families are the clusters. The test exchanges the values within whole families. With two values, this
    is the exchange of signs.
    """
    slices: dict[tuple[Slice, Framing, str], list[ScoredQuestion]] = defaultdict(list)
    for s in scored:
        for slice_, framing in _slices_of(s):
            slices[slice_, framing, s.metric].append(s)
    framings = {(key[0], key[2]): set[str]() for key in slices}
    topics: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for slice_, framing, metric in slices:
        framings[slice_, metric].add(framing)
        if slice_.level == "superdomain":
            topics[_outside_topics(slice_, metric)].add(slice_.name)
    effects: list[Effect] = []
    for (slice_, framing, metric), members in sorted(slices.items(), key=lambda item: item[0]):
        one_framing = framing != "all" and len(framings[slice_, metric]) < 3
        one_topic = slice_.level == "superdomain" and len(topics[_outside_topics(slice_, metric)]) < 2
        if not one_framing and not one_topic:
            effects += _contrasts(slice_, framing, metric, members, attributes[slice_.attribute])
    return effects


def _slices_of(scored: ScoredQuestion) -> Iterator[tuple[Slice, Framing]]:
    q = scored.question
    whole = Slice("attribute", q.attribute, q.family, q.attribute, scored.model, scored.condition, q.language)
    yield whole, "all"
    yield whole, q.framing
    yield (
        Slice(
            "superdomain", q.superdomain, q.family, q.attribute, scored.model, scored.condition, q.language
        ),
        "all",
    )


def _outside_topics(slice_: Slice, metric: str) -> tuple[str, ...]:
    return slice_.family, slice_.attribute, slice_.model, slice_.condition, slice_.language, metric


def _contrasts(
    slice_: Slice,
    framing: Framing,
    metric: str,
    members: Sequence[ScoredQuestion],
    attribute: Attribute,
) -> Iterator[Effect]:
    families = twin_families(m.question for m in members)
    by_value: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    spans: dict[str, float | None] = {}
    scored = {m.question.id: m for m in members}
    for m in members:
        for value, contrast in contrasts_of(m, attribute).items():
            by_value[m.scores.unit, value][m.question.id] = contrast
            spans[m.scores.unit] = m.scores.span
    # Answers with and without token probabilities are never mixed. The unit of most questions is reported.
    most: dict[str, int] = defaultdict(int)
    for (unit, _), contrasts in by_value.items():
        most[unit] = max(most[unit], len(contrasts))
    for (unit, value), contrasts in sorted(by_value.items()):
        if unit != max(sorted(most), key=lambda u: most[u]):
            continue
        span = spans[unit]
        name = f"{metric}{SUFFIX}:{value}"
        interval, p_value = signed_mean(
            list(contrasts.values()),
            slice_.seed(f"{name} {framing}"),
            clusters=[families[i] for i in contrasts],
            bounds=None if span is None else (-span, span),
            nulls=_exchanged([scored[i] for i in contrasts], value, attribute, families),
        )
        effect = effect_of(slice_, name, unit, interval, p_value)
        if effect is not None:
            yield effect.model_copy(update=_labels(slice_, name, value, framing))


def _exchanged(
    members: Sequence[ScoredQuestion], value: str, attribute: Attribute, families: Mapping[str, str]
) -> list[Floats]:
    """Return the contrast of a value if the values of a question are exchanged, summed by twin family.

    All questions of a family with the same values exchange them together.
    """
    scores: dict[tuple[str, tuple[str, ...]], Floats] = {}
    for m in members:
        by_value = _scores_by_value(m)
        key = families[m.question.id], tuple(sorted(by_value))
        vector = np.array([fmean(by_value[name]) for name in key[1]])
        scores[key] = scores[key] + vector if key in scores else vector
    nulls: dict[str, list[Floats]] = defaultdict(list)
    for (family, names), vector in scores.items():
        nulls[family].append(_exchanges(vector, _weights(value, names, attribute)))
    return [reduce(_every_sum, parts) for parts in nulls.values()]


def _weights(value: str, names: Sequence[str], attribute: Attribute) -> Floats:
    """Return the weight of every value in a contrast of a value, or of the level of a factor."""
    if value in names:
        return np.array([name == value for name in names]) - 1 / len(names)
    factors = {v.id: v.factors for v in attribute.values}
    factor = next(f for f in attribute.factors if any(factors[name][f] == value for name in names))
    levels = [factors[name][factor] for name in names]
    shares = np.array([1 / levels.count(level) for level in levels])
    return shares * (np.array([level == value for level in levels]) - 1 / len(set(levels)))


def _exchanges(scores: Floats, weights: Floats) -> Floats:
    """Return the contrast for every exchange of the values (random ones for a factor), the observed first."""
    if len(scores) == 2:
        observed = float((scores * weights).sum())
        return np.array([observed, -observed])
    own = int(np.argmax(weights))
    if np.allclose(np.delete(weights, own), np.delete(weights, own).mean()):
        contrasts = scores - scores.mean()
        return np.concatenate([contrasts[own : own + 1], np.delete(contrasts, own)])
    generator = np.random.default_rng(derived_seed("exchanges", len(scores)))
    orders = generator.permuted(np.tile(np.arange(len(scores)), (EXCHANGES, 1)), axis=1)
    return row_sums(np.vstack([scores, scores[orders]]), weights)


def _every_sum(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.add.outer(one, other).ravel())


def _labels(slice_: Slice, name: str, value: str, framing: Framing) -> dict[str, object]:
    parts = (*slice_.key, name) if framing == "all" else (*slice_.key, name, framing)
    return {"id": content_id("e", *parts), "compared": value, "framing": framing}


def contrasts_of(scored: ScoredQuestion, attribute: Attribute) -> dict[str, float]:
    """Return the score of each value, minus the mean over the values of the question.

    The values of a product are also averaged by the levels of their factors. A question counts only if all of
    its versions have a score: without one of them, the mean would be that of other values.
    """
    by_value = _scores_by_value(scored)
    if len(scored.scores.by_variant) < len(scored.question.variants) or len(by_value) < 2:
        return {}
    contrasts: dict[str, float] = {}
    if len(by_value) <= MANY_VALUES or not attribute.factors:
        contrasts |= _less_mean({value: fmean(scores) for value, scores in by_value.items()})
    factors = {v.id: v.factors for v in attribute.values}
    for factor in attribute.factors:
        by_level: dict[str, list[float]] = defaultdict(list)
        for value, scores in by_value.items():
            by_level[factors[value][factor]] += scores
        if len(by_level) > 1:
            contrasts |= _less_mean({level: fmean(scores) for level, scores in by_level.items()})
    return contrasts


def _scores_by_value(scored: ScoredQuestion) -> dict[str, list[float]]:
    names = {v.index: v.value for v in scored.question.variants}
    by_value: dict[str, list[float]] = defaultdict(list)
    for i, score in scored.scores.by_variant.items():
        by_value[names[i]].append(score)
    return by_value


def _less_mean(scores: Mapping[str, float]) -> dict[str, float]:
    mean = fmean(scores.values())
    return {name: score - mean for name, score in scores.items()}


def undirected_slices(
    asked: Iterable[Answered],
    measured: Iterable[Effect],
    open_answers: Iterable[tuple[Question, str]] = (),
) -> list[Effect]:
    """Return a row without value for every model, family and attribute that has no contrast.

    Args:
        asked: Answers. Those to open questions count on hold-out only.
        measured: The contrasts, among other effects.
        open_answers: Further open questions and the models that answered them on hold-out.
    """
    fresh = [
        (a.question, a.model)
        for a in asked
        if a.question.family != "open" or any(r.phase == "holdout" for r in a.responses)
    ]
    present = {(e.model, e.family, e.attribute, e.language) for e in measured if e.compared is not None}
    missing = sorted(
        {
            (model, question.family, question.attribute, question.language)
            for question, model in (*fresh, *open_answers)
            if counts_for_contrasts(question)
        }
        - present
    )
    rows = []
    for model, family, attribute, language in missing:
        slice_ = Slice("attribute", attribute, family, attribute, model, language=language)
        reason = NO_JUDGE_DIRECTION if family == "open" else NO_DIRECTION
        row = not_measured(slice_, f"{TREATMENT}{SUFFIX}", "none", reason)
        rows.append(row.model_copy(update={"compared": "all"}))
    return rows
