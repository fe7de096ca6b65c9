"""Compare models, languages, framings or releases, paired by question.

Every question is scored for each model by the metric of its family. Two models are compared on the questions
that both have a score for, so that the difficulty of a question cancels out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations, product
from math import ceil, isfinite, sqrt
from statistics import fmean
from typing import Any, Literal

import numpy as np

from schemas.answers import PLAIN, Effect, Judgement, Response
from schemas.errors import InputError
from schemas.question import UNREVIEWED_TAG, Question, separate_unreviewed
from schemas.recipe import Validate
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute
from tasks.families import Answered, method_of
from tasks.families.contrasts import (
    SUFFIX,
    ScoredQuestion,
    contrasts_of,
    scored_answers,
    scored_judgements,
)
from tasks.families.effects import Slice
from tasks.families.shared import gather_answers
from tasks.judges.panel import SCREEN, settle_panel
from tasks.report.effects import is_comparable
from tasks.stats.clusters import twin_families
from tasks.stats.fitness import FORMS
from tasks.stats.hypothesis_tests import q_values_by_family
from tasks.stats.intervals import MIN_CLUSTERS, Bounds, mean_interval
from tasks.stats.power import detectable_errors
from tasks.stats.signed_means import signed_mean
from tasks.text.model_names import full_name, short_name

By = Literal["model", "language", "framing", "release"]
Verdict = Literal["differs", "no_difference_found", "equivalent", "not_measured"]
VERDICTS: tuple[Verdict, ...] = ("differs", "no_difference_found", "equivalent", "not_measured")
"""Verdicts in the order in which they are shown."""

DEFAULT_MIN_COVERAGE: float = Validate.model_fields["min_coverage"].default
ALPHA = 0.05
POWER = 0.8
MOST_NEEDED = 100_000
"""Beyond this number of questions, the number that would be needed is not reported."""
UNBOUNDED = ("logit", "nats", "t of")
"""Parts of units without bounds."""
SCREEN_UNIT = "excess distance"


@dataclass(frozen=True, order=True)
class Measured:
    """A score that questions of one family and attribute have."""

    family: str
    attribute: str
    metric: str
    unit: str
    value: str = "all"
    """Value with scored treatment, relative to the mean of all values. `all` for other scores."""
    span: float = 0.0
    """Range of a signed score. 0 if it is not known."""


@dataclass(frozen=True)
class QuestionScore:
    """Score of one question in the answers of one model."""

    question: Question
    model: str
    measured: Measured
    score: float
    release: str = ""


@dataclass(frozen=True)
class Scored:
    """The scores of a release or of an evaluation, and the questions that each model was asked."""

    scores: tuple[QuestionScore, ...]
    asked: Mapping[tuple[str, str, str], frozenset[str]]
    """Question ids by family, attribute and model."""
    unmeasured: Mapping[tuple[str, str, str, str], str] = field(default_factory=dict)
    """Reason by family, attribute, model and metric, if the effect of a model is not measured."""
    families: Mapping[str, str] = field(default_factory=dict)
    """Twin family by question id."""
    min_coverage: float = DEFAULT_MIN_COVERAGE
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Reason by family, if no question of it could be scored."""
    margins: Mapping[str, float] = field(default_factory=dict)
    """By family: largest difference of a contrast that does not matter (`validate.equivalence`)."""
    margin: float | None = None
    """Largest difference that does not matter in any comparison. It takes precedence over `margins`."""

    def margin_of(self, measured: Measured) -> float | None:
        """Return the largest difference that does not matter, or `None` if none is stated."""
        if self.margin is not None:
            return self.margin
        return self.margins.get(measured.family) if measured.value != "all" else None

    def models(self) -> list[str]:
        """Return the models that were asked, sorted."""
        return sorted({model for _, _, model in self.asked})

    def languages(self) -> list[str]:
        """Return the languages of the scored questions, sorted."""
        return sorted({s.question.language for s in self.scores})

    def framings(self) -> list[str]:
        """Return the framings of the scored questions, sorted."""
        return sorted({s.question.framing for s in self.scores})

    def only(self, wanted: Callable[[QuestionScore], bool]) -> Scored:
        """Return the scores that are wanted."""
        return replace(self, scores=tuple(s for s in self.scores if wanted(s)))


@dataclass(frozen=True)
class PairedComparison:
    """The difference between two models, languages, framings or releases in one metric."""

    a: str
    b: str
    by: By
    slice: str
    family: str
    attribute: str
    value: str
    """Compared value, or `all`."""
    metric: str
    unit: str
    model: str
    """Model that answered in both. `all` if models are compared."""
    language: str
    framing: str
    mean_a: float | None = None
    mean_b: float | None = None
    difference: float | None = None
    """Mean of `a` minus mean of `b` over the common questions."""
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    n: int = 0
    """Questions with a score in both."""
    asked: int = 0
    """Questions that were asked in both."""
    clusters: int = 0
    """Independent questions: rewordings of one question count once."""
    detectable: float | None = None
    """Smallest difference that this test finds with a power of .8."""
    needed: int | None = None
    """Independent questions that the test needs to find a difference of the observed size."""
    margin: float | None = None
    """Largest difference that does not matter, if one is stated."""
    verdict: Verdict = "not_measured"
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `compare --json`."""
        return asdict(self)


# Scores of single questions.


def score_questions(
    questions: Sequence[Question],
    responses: Iterable[Response],
    verdicts: Iterable[Judgement],
    judgements: Iterable[Judgement],
    effects: Iterable[Effect],
    attributes: Mapping[str, Attribute],
    *,
    form: str | None,
    release: str = "",
    min_coverage: float = DEFAULT_MIN_COVERAGE,
    margins: Mapping[str, float] | None = None,
) -> Scored:
    """Score every question for every model that answered it.

    Args:
        questions: Questions. Controls are left out.
        responses: Answers of all models.
        verdicts: Judgements of open questions. They may lack details (`drop_details`). Those of plain answers
            count.
        judgements: The same judgements with details.
        effects: Effects of the same answers. A model without a measured effect is not compared.
        attributes: Attributes by id.
        form: Form of fitness that decides. `None` if nothing was judged.
        release: Name of the release, if releases are compared.
        min_coverage: Smallest share of the asked questions that must have a score.
        margins: By family: largest difference of a contrast that does not matter.
    """
    real = {q.id: separate_unreviewed(q) for q in questions if q.control == "none"}
    counted: list[Response] = []
    asked: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for r in responses:
        q = real.get(r.question_id)
        if q is None or r.condition != PLAIN or (q.family == "open" and r.phase != "holdout"):
            continue
        asked[q.family, q.attribute, r.model].add(q.id)
        if q.family != "open":
            counted.append(r)
    scores = [*_open_scores(real, verdicts, form)] if form else []
    plain = (j for j in judgements if j.condition == PLAIN)
    scores += _treatment_scores(scored_judgements(real, plain, form or ""), attributes)
    reasons = {}
    answered = gather_answers(real, counted)
    for family in sorted({a.question.family for a in answered}):
        lacking = sorted(
            {
                a.question.attribute
                for a in answered
                if a.question.family == family and a.question.attribute not in attributes
            }
        )
        if lacking:
            reasons[family] = f"the vocabulary has no attribute {', '.join(lacking)}"
            continue
        inside = [a for a in answered if a.question.family == family]
        try:
            found = [
                *_family_scores(inside, attributes),
                *_treatment_scores(scored_answers(inside), attributes),
            ]
        except (ValueError, LookupError):  # a release of others may hold anything
            reasons[family] = "its questions do not have the form of the family"
            continue
        scores += found
    return Scored(
        tuple(replace(s, release=release) for s in scores),
        {key: frozenset(ids) for key, ids in asked.items()},
        {
            (e.family, e.attribute, e.model, e.metric.partition(":")[0]): e.reason or "not measured"
            for e in effects
            if e.level == "attribute" and e.condition == PLAIN and not e.is_measured
        },
        twin_families(real.values()),
        min_coverage,
        reasons,
        margins or {},
    )


def _open_scores(
    questions: Mapping[str, Question], judgements: Iterable[Judgement], form: str
) -> list[QuestionScore]:
    """Return the hold-out fitness by question and model.

    The divergence judge has the signed excess, because its fitness is never negative.
    """
    by_model: dict[str, list[Judgement]] = defaultdict(list)
    for j in judgements:
        if j.phase == "holdout" and j.condition == PLAIN and j.question_id in questions:
            by_model[j.target].append(j)
    scores = []
    for model, verdicts in sorted(by_model.items()):
        found = _excesses(verdicts) if form == SCREEN else settle_panel(verdicts, form)
        unit = SCREEN_UNIT if form == SCREEN else "fitness"
        for question_id, score in sorted(found.items()):
            q = questions[question_id]
            scores.append(QuestionScore(q, model, Measured(q.family, q.attribute, form, unit), score))
    return scores


def _excesses(verdicts: Iterable[Judgement]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for j in verdicts:
        if j.judge == SCREEN and j.abstention is None:
            found[j.question_id] += [s.value for s in j.scores if s.criterion == "excess"]
    return {question: fmean(values) for question, values in found.items() if values}


def _family_scores(
    answered: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> Iterable[QuestionScore]:
    """Yield the metrics of a family for single questions."""
    for a in answered:
        q = a.question
        measure = method_of(q.family).effects
        if measure is None:
            continue
        slice_ = Slice("question", q.id, q.family, q.attribute, a.model, language=q.language)
        for e in measure(slice_, [a], attributes):
            if e is not None and e.value is not None and isfinite(e.value) and is_comparable(e, ""):
                yield QuestionScore(q, a.model, Measured(q.family, q.attribute, e.metric, e.unit), e.value)


def _treatment_scores(
    scored: Iterable[ScoredQuestion], attributes: Mapping[str, Attribute]
) -> Iterable[QuestionScore]:
    """Yield how each value of a question is treated, relative to the mean of its values."""
    for s in scored:
        q = s.question
        attribute = attributes.get(q.attribute)
        if attribute is None or s.condition != PLAIN:
            continue
        for value, contrast in sorted(contrasts_of(s, attribute).items()):
            metric = f"{s.metric}{SUFFIX}"
            measured = Measured(q.family, q.attribute, metric, s.scores.unit, value, s.scores.span or 0.0)
            yield QuestionScore(q, s.model, measured, contrast)


# Pairs.


@dataclass(frozen=True)
class Selection:
    """A selection of scores. `None` selects every value."""

    measured: Measured | None = None
    model: str | None = None
    language: str | None = None
    framing: str | None = None
    release: str | None = None

    def __call__(self, score: QuestionScore) -> bool:
        """Return whether the score is selected."""
        return (
            self.measured in (None, score.measured)
            and self.model in (None, score.model)
            and self.language in (None, score.question.language)
            and self.framing in (None, score.question.framing)
            and self.release in (None, score.release)
        )


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its name and the scores that it selects."""

    name: str
    selects: Selection

    @property
    def models(self) -> tuple[str, ...]:
        """Model of the answers."""
        return (self.selects.model,) if self.selects.model is not None else ()


def compare_models(scored: Scored, pairs: Iterable[tuple[str, str]]) -> list[PairedComparison]:
    """Compare pairs of models in every family, attribute, metric and language."""
    compared = []
    for a, b in pairs:
        of_either = [s for s in scored.scores if s.model in (a, b)]
        for measured, language, framing in _slices(of_either):
            sides = (Side(a, Selection(measured, a, language)), Side(b, Selection(measured, b, language)))
            about = ("all", language, framing)
            compared.append(_compare(scored, sides, "model", measured, about, unit_of=_same_question))
        compared += _nothing_scored(scored, a, b)
    return correct(compared)


def compare_languages(scored: Scored, pairs: Iterable[tuple[str, str]]) -> list[PairedComparison]:
    """Compare pairs of languages for every model, on questions that are translations of each other."""

    def unit_of(question: Question) -> Hashable:
        return scored.families[question.id], question.framing

    compared = []
    for (a, b), model in product(pairs, sorted({s.model for s in scored.scores})):
        either = {s.measured for s in scored.scores if s.model == model and s.question.language in (a, b)}
        for measured in sorted(either):
            sides = (
                Side(a, Selection(measured, model, language=a)),
                Side(b, Selection(measured, model, language=b)),
            )
            about = (model, "all", "all")
            compared.append(_compare(scored, sides, "language", measured, about, unit_of=unit_of))
    return correct(compared)


def compare_framings(scored: Scored, pairs: Iterable[tuple[str, str]]) -> list[PairedComparison]:
    """Compare pairs of framings for every model, on twin questions."""

    def unit_of(question: Question) -> Hashable:
        return scored.families[question.id], question.language

    compared = []
    for (a, b), model in product(pairs, sorted({s.model for s in scored.scores})):
        either = {
            (s.measured, s.question.language)
            for s in scored.scores
            if s.model == model and s.question.framing in (a, b)
        }
        for measured, language in sorted(either):
            sides = (
                Side(a, Selection(measured, model, language, framing=a)),
                Side(b, Selection(measured, model, language, framing=b)),
            )
            about = (model, language, "all")
            compared.append(_compare(scored, sides, "framing", measured, about, unit_of=unit_of))
    return correct(compared)


def compare_scored_releases(a: Scored, b: Scored, names: tuple[str, str]) -> list[PairedComparison]:
    """Compare two releases for every model that answered both, on the questions that are in both."""
    both = Scored(
        (*a.scores, *b.scores),
        {key: a.asked.get(key, frozenset()) & b.asked.get(key, frozenset()) for key in {*a.asked, *b.asked}},
        {**a.unmeasured, **b.unmeasured},
        {**a.families, **b.families},
        max(a.min_coverage, b.min_coverage),
        margins={f: min(a.margins[f], b.margins[f]) for f in a.margins.keys() & b.margins.keys()},
        margin=a.margin,
    )
    models = sorted({s.model for s in a.scores} & {s.model for s in b.scores})
    if not models:
        return [_empty(*names, "release", "all", "no model answered the questions of both releases")]
    compared = []
    for model in models:
        for measured, language, framing in _slices([s for s in both.scores if s.model == model]):
            sides = (
                Side(names[0], Selection(measured, model, language, release=names[0])),
                Side(names[1], Selection(measured, model, language, release=names[1])),
            )
            about = (model, language, framing)
            compared.append(_compare(both, sides, "release", measured, about, unit_of=_same_question))
    return correct(compared)


def _same_question(question: Question) -> Hashable:
    return question.id


def _slices(scores: Iterable[QuestionScore]) -> list[tuple[Measured, str, str]]:
    """Return metric and language of scores, and their framing, or `all` if it is not one."""
    framings: dict[tuple[Measured, str], set[str]] = defaultdict(set)
    for s in scores:
        framings[s.measured, s.question.language].add(s.question.framing)
    return [
        (measured, language, next(iter(found)) if len(found) == 1 else "all")
        for (measured, language), found in sorted(framings.items())
    ]


def _compare(
    scored: Scored,
    sides: tuple[Side, Side],
    by: By,
    measured: Measured,
    about: tuple[str, str, str],
    *,
    unit_of: Callable[[Question], Hashable],
) -> PairedComparison:
    """Compare two sides on the units that both have a score for."""
    a, b = sides
    first, second = _by_unit(scored.scores, a, unit_of), _by_unit(scored.scores, b, unit_of)
    common = sorted(first.keys() & second.keys(), key=repr)
    asked = _asked_in_both(scored, a, b, by, measured, first, second)
    base = PairedComparison(
        a.name,
        b.name,
        by,
        slice_name(measured, about),
        measured.family,
        measured.attribute,
        measured.value,
        measured.metric,
        measured.unit,
        *about,
        n=len(common),
        asked=asked,
    )
    if reason := _missing_effect(scored, a, b, measured):
        return replace(base, reason=reason)
    if not common:
        return replace(base, reason="no question has a score in both")
    if asked and len(common) < scored.min_coverage * asked:
        share = f"{len(common)} of {asked} common questions have a score in both"
        return replace(base, reason=f"coverage: {share}, and {scored.min_coverage:.0%} are required")
    clusters = [_cluster(scored, first[unit][0]) for unit in common]
    values = [(fmean(s.score for s in first[u]), fmean(s.score for s in second[u])) for u in common]
    base = replace(base, margin=scored.margin_of(measured))
    return _estimate(base, values, clusters, _bounds(measured, values))


def _by_unit(
    scores: Iterable[QuestionScore], side: Side, unit_of: Callable[[Question], Hashable]
) -> dict[Hashable, list[QuestionScore]]:
    found: dict[Hashable, list[QuestionScore]] = defaultdict(list)
    for s in scores:
        if side.selects(s):
            found[unit_of(s.question)].append(s)
    return found


def _cluster(scored: Scored, scores: Sequence[QuestionScore] | QuestionScore) -> str:
    one = scores if isinstance(scores, QuestionScore) else scores[0]
    return scored.families[one.question.id]


def _asked_in_both(
    scored: Scored,
    a: Side,
    b: Side,
    by: By,
    measured: Measured,
    first: Mapping[Hashable, Sequence[QuestionScore]],
    second: Mapping[Hashable, Sequence[QuestionScore]],
) -> int:
    """Return the number of questions asked in both. Languages and framings count the pairs with a score."""
    if by in ("language", "framing"):
        return len(first.keys() & second.keys())
    languages = {s.question.language for scores in (*first.values(), *second.values()) for s in scores}
    per_side = [
        frozenset[str]().union(
            *(scored.asked.get((measured.family, measured.attribute, m), frozenset()) for m in side.models)
        )
        for side in (a, b)
    ]
    language_of = {s.question.id: s.question.language for s in scored.scores}
    return sum(language_of.get(i) in languages or i not in language_of for i in per_side[0] & per_side[1])


def _missing_effect(scored: Scored, a: Side, b: Side, measured: Measured) -> str | None:
    metric = measured.metric.partition(":")[0]
    for side in (a, b):
        for model in side.models:
            key = (measured.family, measured.attribute, model, metric)
            if reason := scored.unmeasured.get(key):
                return f"{model}: {reason}"
    return None


def _bounds(measured: Measured, values: Sequence[tuple[float, float]]) -> Bounds | None:
    """Return the range of a difference, if the range of the metric is known."""
    if measured.unit == "fitness" and measured.metric in FORMS:
        form = FORMS[measured.metric]
        return -form.high, form.high  # the range of `search` is wider than published (see `FORMS`)
    if measured.value != "all":
        return (-2 * measured.span, 2 * measured.span) if measured.span else None
    if any(part in measured.unit for part in UNBOUNDED):
        return None
    largest = max(abs(value) for pair in values for value in pair)
    return (-2.0, 2.0) if largest <= 1 else None


def _estimate(
    base: PairedComparison,
    values: Sequence[tuple[float, float]],
    clusters: Sequence[str],
    bounds: Bounds | None,
) -> PairedComparison:
    """Estimate the mean difference with its interval and test, and the data that a verdict needs."""
    changes = [first - second for first, second in values]
    seed = derived_seed("compare", base.by, base.a, base.b, base.slice)
    interval, p_value = signed_mean(changes, seed, clusters=clusters, bounds=bounds)
    deviation = _deviation(changes, clusters)
    found = replace(
        base,
        mean_a=fmean(first for first, _ in values),
        mean_b=fmean(second for _, second in values),
        difference=interval.value,
        clusters=interval.n,
        detectable=_detectable(deviation, interval.n),
        needed=_needed(deviation, interval.value, interval.n),
    )
    if interval.n < MIN_CLUSTERS:
        return replace(
            found,
            difference=None,
            detectable=None,
            needed=max(MIN_CLUSTERS, found.needed or 0),
            reason=f"{interval.n} independent questions in common; at least {MIN_CLUSTERS} are required",
        )
    inside = base.margin is not None and is_inside(changes, clusters, bounds, base.margin)
    return replace(
        found,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        verdict="equivalent" if inside else "no_difference_found",
    )


def is_inside(
    changes: Sequence[float], clusters: Sequence[str], bounds: Bounds | None, margin: float
) -> bool:
    """Return whether two one-sided tests at .05 reject that the mean change is beyond a margin.

    They do if the 90 % interval is inside the margin. Without an interval, nothing is rejected.

    References:
        Schuirmann (1987), doi:10.1007/BF01068419.
    """
    interval = mean_interval(changes, clusters=clusters, bounds=bounds, level=1 - 2 * ALPHA)
    if interval.low is None or interval.high is None:
        return False
    return -margin < interval.low and interval.high < margin


def _deviation(changes: Sequence[float], clusters: Sequence[str]) -> float:
    """Return the standard deviation of the mean change per cluster."""
    by_cluster: dict[str, list[float]] = defaultdict(list)
    for change, cluster in zip(changes, clusters, strict=True):
        by_cluster[cluster].append(change)
    means = [fmean(inside) for inside in by_cluster.values()]
    return float(np.std(means, ddof=1)) if len(means) > 1 else 0.0


def _detectable(deviation: float, clusters: int) -> float | None:
    """Return the smallest mean difference that a paired t-test finds with `POWER`."""
    if not deviation or clusters < 2:
        return None
    return detectable_errors(clusters, alpha=ALPHA, power=POWER) * deviation / sqrt(clusters)


def _needed(deviation: float, difference: float, clusters: int) -> int | None:
    """Return the number of clusters that a paired test needs to find the observed difference."""
    if not deviation or not difference:
        return None
    from scipy.special import ndtri

    quantiles = float(ndtri(1 - ALPHA / 2) + ndtri(POWER))
    needed = max(MIN_CLUSTERS, ceil((quantiles * deviation / difference) ** 2))
    return needed if clusters < needed <= MOST_NEEDED else None


def _nothing_scored(scored: Scored, a: str, b: str) -> list[PairedComparison]:
    """Return one row per family and attribute that both models were asked and neither has a score in."""
    have = {(s.measured.family, s.measured.attribute) for s in scored.scores if s.model in (a, b)}
    asked = {
        (family, attribute): ids & scored.asked.get((family, attribute, b), frozenset())
        for (family, attribute, model), ids in scored.asked.items()
        if model == a
    }
    return [
        replace(
            _empty(a, b, "model", "all", scored.reasons.get(family, "no question has a score in both")),
            slice=slice_name(Measured(family, attribute, "", ""), ("all", "all", "all")),
            family=family,
            attribute=attribute,
            asked=len(ids),
        )
        for (family, attribute), ids in sorted(asked.items())
        if (family, attribute) not in have
    ]


def _empty(a: str, b: str, by: By, model: str, reason: str) -> PairedComparison:
    return PairedComparison(a, b, by, "all", "all", "all", "all", "", "", model, "all", "all", reason=reason)


def slice_name(measured: Measured, about: tuple[str, str, str]) -> str:
    """Return the name of a slice, such as `open/gender/normalised/en`."""
    model, language, framing = about
    parts = [measured.family, measured.attribute, measured.metric]
    parts += [part for part in (measured.value, language, framing, model) if part != "all"]
    return "/".join(part for part in parts if part)


def correct(compared: Sequence[PairedComparison]) -> list[PairedComparison]:
    """Add q-values and verdicts. The tests of one pair, and of one model, are a family."""
    q_values = q_values_by_family(
        [c.p_value for c in compared], [(c.by, c.a, c.b, c.model) for c in compared]
    )
    return [
        replace(c, q_value=q, verdict="differs", needed=None)
        if q is not None and q < ALPHA
        else replace(c, q_value=q)
        for c, q in zip(compared, q_values, strict=True)
    ]


def choose_pairs(names: Sequence[str], present: Sequence[str], kind: str) -> list[tuple[str, str]]:
    """Return the pairs to compare: of the names, of one name with all others, or of all that are present.

    Raises:
        InputError: If a name is not present, is ambiguous, or is given twice.
    """
    wanted = [find_name(name, present, kind) for name in names]
    if len(set(wanted)) < len(wanted):
        raise InputError(f"the same {kind} is given twice: {wanted[0]}", hint=f"name two {kind}s")
    if len(wanted) == 1:
        return [(wanted[0], other) for other in sorted(present) if other != wanted[0]]
    return list(combinations(wanted or sorted(present), 2))


def find_name(name: str, present: Sequence[str], kind: str) -> str:
    """Return the full name. A model may be given by its short name, and unreviewed translations by their
    language if it has no other questions.

    Raises:
        InputError: If the name is not present, or several models have this short name.
    """
    if name in present:
        return name
    if kind == "language" and name + UNREVIEWED_TAG in present:
        return name + UNREVIEWED_TAG
    matches = [full for full in present if kind == "model" and name in (short_name(full), full_name(full))]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(sorted(present)) or "none"
    problem = "matches several models" if matches else f"is not a {kind} of the release"
    raise InputError(f"{name!r} {problem}", hint=f"the release has: {listed}")
