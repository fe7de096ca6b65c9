"""The families' metrics over a release's own answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Response
from schemas.errors import InputError
from schemas.labels import StageCounts
from schemas.question import QUESTIONS, Question
from schemas.vocabulary import Attribute
from tasks.families import Answered, Recorded, method_of
from tasks.families.effects import correct_for_multiplicity, figure
from tasks.families.shared import family_effects, gather_answers
from tasks.files.vocabulary import read_attributes, vocabulary_dir
from tasks.judges.divergence import read_divergence_words
from tasks.judges.panel import SCREEN, deciding_form
from tasks.judges.verdicts import group_answers
from tasks.measure.open_questions import (
    ComparedGroup,
    compare_groups,
    holdout_fitness,
    judge_effects,
    length_controlled_effects,
    question_effects,
    shared_effects,
    shrinkage,
    slice_effects,
    verdict_effects,
)
from tasks.release import MANIFEST, open_release
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table


def measure_release(family: str, path: Path, data_dir: Path) -> dict[str, Any]:
    """A family's metric over a release directory, or a file inside one. Raises `InputError` where it is no
    release, or holds no answers of that family."""
    root = next((p for p in (path, *path.parents) if (p / MANIFEST).is_file()), path)
    contents = open_release(root).contents
    questions = {q.id: q for q in contents.rows(QUESTIONS) if q.family == family}
    answers = [r for r in contents.rows(RESPONSES) if r.question_id in questions]
    if not answers:
        raise InputError(f"the release has no answers of family {family!r}", place=str(root))
    attributes = {
        a.id: a for a in read_attributes(data_dir, sorted({q.attribute for q in questions.values()}))
    }
    if family == "open":
        return _measure_open(list(questions.values()), answers, attributes, data_dir)
    answered = gather_answers(questions, answers)
    released = method_of(family).released
    return released(answered, attributes) if released else effect_figures(answered, attributes)


def effect_figures(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """The family's effects by metric, model, attribute and condition (left out where there is one only)."""
    found: dict[str, Any] = {}
    for e in family_effects(answered, attributes):
        if e.level in ("attribute", "family", "overall"):
            slot = found.setdefault(e.metric, {}).setdefault(e.model, {}).setdefault(e.name, {})
            slot[e.condition] = figure(e.value, e.low, e.high, n=e.n) | {"p_value": e.p_value, "unit": e.unit}
    return found


def _measure_open(
    questions: Sequence[Question],
    answers: Sequence[Response],
    attributes: Mapping[str, Attribute],
    data_dir: Path,
) -> dict[str, Any]:
    """`divergence` by model and attribute, over hold-out answers."""
    groups = group_answers(questions, [r for r in answers if r.phase == "holdout"])
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for e in slice_effects(compare_groups(groups, attributes, read_divergence_words(data_dir))):
        if e.level == "attribute" and e.metric == "divergence":
            found[e.model][e.attribute] = figure(e.value, e.low, e.high, n=e.n) | {"p_value": e.p_value}
    return {"divergence": dict(found)}


# Measure: what fresh answers show, over which slice, how surely, and what remains of the selection.


VOCABULARY = vocabulary_dir()


def measure(context: RunContext, questions: TableRef, responses: TableRef, judgements: TableRef) -> Outcome:
    """Effects of every slice, and the questions with their hold-out effect.

    Open questions are measured on hold-out answers only; forced choices on all answers, because no answer
    decided whether they were kept.
    """
    asked = {q.id: q for q in read_table(questions, QUESTIONS)}
    answers = read_table(responses, RESPONSES)
    verdicts = read_table(judgements, JUDGEMENTS)
    data_dir = Path(context.data_dir)
    attributes = {a.id: a for a in read_attributes(data_dir, sorted({q.attribute for q in asked.values()}))}
    form = deciding_form(context.recipe, data_dir)

    fresh = [r for r in answers if r.phase == "holdout"]
    open_questions = [q for q in asked.values() if q.family == "open"]
    groups = group_answers(open_questions, fresh)
    control_length = context.recipe.judging.length_control
    compared = compare_groups(groups, attributes, read_divergence_words(data_dir))
    again = holdout_fitness((j for j in verdicts if j.question_id in asked), form)

    effects = correct_for_multiplicity(
        [
            *question_effects(compared),
            *slice_effects(compared),
            *shared_effects(groups, attributes, read_divergence_words(data_dir)),
            *verdict_effects(asked, verdicts, form),
            *length_controlled_effects(asked, verdicts, groups if control_length else (), form),
            *family_effects(gather_answers(asked, answers), attributes),
            *shrinkage(asked.values(), again, form),
            *judge_effects(j for j in verdicts if j.question_id in asked),
        ]
    )
    measured = record_holdout_effects(asked.values(), again if form != SCREEN else mean_excess(compared))
    counts = StageCounts(
        stage="measure", unit="questions", rows=len(asked), kept=len(measured), dropped=0, failed=0
    )
    return Outcome(tables={EFFECTS: effects, QUESTIONS: measured}, counts=(counts,))


def mean_excess(compared: Iterable[ComparedGroup]) -> dict[str, float]:
    """By question, over targets. Unlike fitness it may be negative: it is not cut off at what was hoped."""
    found: dict[str, list[float]] = {}
    for c in compared:
        found.setdefault(c.question.id, []).append(c.divergence.excess)
    return {question: fmean(values) for question, values in found.items()}


def record_holdout_effects(questions: Iterable[Question], effects: Mapping[str, float]) -> list[Question]:
    """The questions, those that were measured again with their effect; in the order of their ids."""
    return [
        q.model_copy(update={"holdout_effect": effects.get(q.id)})
        for q in sorted(questions, key=lambda q: q.id)
    ]


def measure_file(
    family: str,
    input: Path,
    *,
    format: str,
    test: str | None = None,
    data_dir: Path = VOCABULARY,
) -> dict[str, Any]:
    """A family's metric over recorded answers. Each metric has `value`, `low`, `high` and `n`; one that is
    not defined (nothing varied) has `None`.

    `completion`: `tau_c_sai`, `tau_c_asa`, `invalid`, `shares`; `association`: `d_mean`, `t`, `excluded`;
    `decision`: `gap` and `coefficient` by prompt format and `value-baseline`. Raises `InputError`.
    """
    if format == "release":
        return measure_release(family, input, data_dir)
    method = method_of(family)
    if format not in method.recorded:
        raise InputError(
            f"there is no format {format!r} for family {family!r}",
            hint=f"there are: {', '.join([*method.recorded, 'release'])}",
        )
    return method.recorded[format](Recorded(input, data_dir, test))


STAGE = Stage(
    "measure",
    2,
    run=measure,
    reads=("models", "evolve", "judging"),
    vocabulary=("attributes", "lexicons", "rubrics"),
)
