"""Metrics of the user: functions of one answer, compared between values like all other scores.

A metric takes a `Response` and its `Question`, and returns a number, or `None` if it does not apply to the
answer. A higher number means that the value is treated better. Metrics come from the entry-point group
`counterfoil.metrics`, or from `counterfoil.evaluate(…, metrics=[f])`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from math import isfinite
from statistics import fmean

from schemas.answers import PLAIN, Effect, Response
from schemas.errors import InputError
from schemas.question import Question, separate_unreviewed
from schemas.vocabulary import Attribute
from tasks.families import VersionScores
from tasks.families.contrasts import SUFFIX, ScoredQuestion, contrast_effects, counts_for_contrasts
from tasks.families.effects import Slice, not_measured

UserMetric = Callable[[Response, Question], float | None]
GROUP = "counterfoil.metrics"

_given: list[UserMetric] = []


@contextmanager
def metrics_in_use(metrics: Sequence[UserMetric]) -> Iterator[None]:
    """Use these metrics besides those of the entry points while the block runs."""
    _given.extend(metrics)
    try:
        yield
    finally:
        del _given[len(_given) - len(metrics) :]


def metrics_by_name() -> dict[str, UserMetric]:
    """Return the metrics in use by name.

    Raises:
        InputError: If an entry point cannot be loaded, or two metrics have the same name.
    """
    found: dict[str, UserMetric] = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = point.load()
        except Exception as error:
            raise InputError(
                f"the metric {point.name!r} cannot be loaded: {error}",
                place=f"entry point {point.value}",
                hint=f"correct the package, or uninstall it; its group is {GROUP}",
            ) from error
    for metric in _given:
        name = getattr(metric, "__name__", type(metric).__name__).strip("<>")
        if name in found:
            raise InputError(f"two metrics are named {name!r}", hint="give each function a name of its own")
        found[name] = metric
    return found


def user_effects(
    metrics: Mapping[str, UserMetric],
    questions: Mapping[str, Question],
    responses: Iterable[Response],
    attributes: Mapping[str, Attribute],
    min_coverage: float,
) -> list[Effect]:
    """Return the contrasts of every metric, with coverage: answers with a number, of all asked.

    Args:
        metrics: Metrics by name.
        questions: Questions by id. Controls are left out.
        responses: Answers, failed calls included.
        attributes: Attributes by id. Questions about others are left out.
        min_coverage: Smallest share of answers with a number. Below it, a contrast is not measured.

    Raises:
        InputError: If a metric raises an error, or returns neither a finite number nor `None`.
    """
    asked = [
        r
        for r in responses
        if (q := questions.get(r.question_id)) is not None
        and q.attribute in attributes
        and counts_for_contrasts(q)
        and r.condition == PLAIN
        and (q.family != "open" or r.phase == "holdout")
    ]
    separated = {i: separate_unreviewed(q) for i, q in questions.items()}
    effects: list[Effect] = []
    for name, metric in metrics.items():
        scores = {r.id: _score(name, metric, r, questions[r.question_id]) for r in asked if not r.failure}
        covered: dict[tuple[str, ...], list[bool]] = defaultdict(list)
        for r in asked:
            covered[_slice_key(separated[r.question_id], r.model)].append(scores.get(r.id) is not None)
        contrasts = contrast_effects(_scored(name, separated, asked, scores), attributes)
        effects += [_cover(e, covered, min_coverage) for e in contrasts]
        present = {(e.family, e.attribute, e.language, e.model) for e in contrasts}
        effects += [
            _nothing(name, key, found) for key, found in sorted(covered.items()) if key not in present
        ]
    return effects


def _score(name: str, metric: UserMetric, response: Response, question: Question) -> float | None:
    place = f"answer {response.id} to question {question.id}"
    try:
        value = metric(response, question)
        number = None if value is None else float(value)
    except Exception as error:
        raise InputError(f"the metric {name!r} failed: {error}", place=place) from error
    if number is not None and not isfinite(number):
        raise InputError(
            f"the metric {name!r} returned {number}",
            place=place,
            hint="return None for answers that it does not apply to",
        )
    return number


def _scored(
    name: str,
    questions: Mapping[str, Question],
    responses: Iterable[Response],
    scores: Mapping[str, float | None],
) -> Iterator[ScoredQuestion]:
    """Yield the mean score of each version, by question and model."""
    found: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in responses:
        if (score := scores.get(r.id)) is not None:
            found[r.question_id, r.model][r.variant].append(score)
    for (question_id, model), versions in sorted(found.items()):
        by_variant = {variant: fmean(values) for variant, values in versions.items()}
        yield ScoredQuestion(questions[question_id], model, PLAIN, name, VersionScores(name, by_variant))


def _slice_key(question: Question, model: str) -> tuple[str, ...]:
    return question.family, question.attribute, question.language, model


def _cover(effect: Effect, covered: Mapping[tuple[str, ...], Sequence[bool]], least: float) -> Effect:
    """Add the coverage. Below the bar, the effect has no value."""
    found = covered[effect.family, effect.attribute, effect.language, effect.model]
    share = sum(found) / len(found)
    counted = {"asked": len(found), "read": sum(found), "coverage": share}
    if share >= least:
        return effect.model_copy(update=counted)
    reason = (
        f"coverage: {sum(found)} of {len(found)} answers have a number; at least {least:.0%} are required"
    )
    empty = {"value": None, "low": None, "high": None, "p_value": None, "n": 0}
    return effect.model_copy(update={**counted, **empty, "status": "not_measured", "reason": reason})


def _nothing(name: str, key: tuple[str, ...], found: Sequence[bool]) -> Effect:
    family, attribute, language, model = key
    slice_ = Slice("attribute", attribute, family, attribute, model, language=language)
    reason = f"{sum(found)} of {len(found)} answers have a number, and no question has one for all values"
    row = not_measured(slice_, f"{name}{SUFFIX}", name, reason)
    return row.model_copy(
        update={
            "compared": "all",
            "asked": len(found),
            "read": sum(found),
            "coverage": sum(found) / len(found),
        }
    )
