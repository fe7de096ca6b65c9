"""Measure: compute effects with intervals and tests for every slice, from a build's or recorded answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from schemas.answers import EFFECTS, JUDGEMENTS, PLAIN, RESPONSES, Effect, Judgement, Response
from schemas.errors import InputError, ModelError
from schemas.labels import StageCounts
from schemas.question import QUESTIONS, SELECTED, Question, separate_unreviewed
from schemas.recipe import Recipe
from schemas.release import CorrectedTreatment
from schemas.vocabulary import Attribute
from tasks.families import (
    Answered,
    Figures,
    Recorded,
    base_condition,
    method_of,
    read_asking_prompts,
)
from tasks.families.contrasts import (
    ScoredQuestion,
    contrast_effects,
    counts_for_contrasts,
    scored_answers,
    scored_judgements,
    undirected_slices,
)
from tasks.families.controls import missing_control_effects
from tasks.families.coverage import (
    LOSS_METRICS,
    MAIN_METRICS,
    AnswersBySlice,
    CoverageRule,
    StatusCounts,
    answer_status,
    counts_refusals,
)
from tasks.families.effects import ENGLISH, EVERY, Slice, VerdictRule, correct_for_multiplicity, figure
from tasks.families.open import (
    ComparedGroup,
    question_effects,
    shared_effects,
    slice_effects,
)
from tasks.families.prompting import RANK_CORRELATION, ItemEffect, item_contrasts, rank_correlations
from tasks.families.robustness import robustness_effects
from tasks.families.shared import (
    effects_across_conditions,
    effects_of_slices,
    family_effects,
    gather_answers,
)
from tasks.files.vocabulary import read_question_attributes, vocabulary_dir
from tasks.judges.divergence import installed_parts
from tasks.judges.panel import SCREEN, deciding_form, drop_details
from tasks.measure.open_answers import OpenFigures, read_open_answers
from tasks.measure.recorded_judges import FORMATS as JUDGE_FORMATS
from tasks.measure.verdicts import (
    confirm_questions,
    corrected_effects,
    fitness_by_condition,
    holdout_fitness,
    judge_effects,
    length_controlled_effects,
    needs_confirmation,
    shrinkage,
    verdict_effects,
)
from tasks.release import MANIFEST, open_release
from tasks.run.memory import drain
from tasks.run.parts import PartRunner
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table, scan_table

VOCABULARY = vocabulary_dir()
JUDGE = "judge"
"""Name by which `counterfoil measure` measures recorded judgements instead of a family."""
MOST_REASONS = 4
"""Slices per family that an error names."""


# The stage.


def measure(
    context: RunContext,
    questions: TableRef,
    responses: TableRef,
    judgements: TableRef,
    treatment: Sequence[CorrectedTreatment] = (),
    *,
    run_parts: PartRunner | None = None,
) -> Outcome:
    """Compute the effects of every slice and record each question's hold-out effect.

    Open questions are measured on hold-out answers only, because their search answers decided whether they
    were kept. The other families are measured on all answers.

    Args:
        context: Context of the run.
        questions: The questions.
        responses: All answers.
        judgements: All judgements.
        treatment: Effects of the judges that are corrected with people's scores.
        run_parts: Compares the answers of parts of the open questions on workers. Default: one part after the
            other in this process.
    """
    languages = {}
    every = {}
    for question in read_table(questions, QUESTIONS):
        languages[question.id] = question.language
        every[question.id] = separate_unreviewed(question)
    # Rewordings are compared with their originals only. They would count the same question twice.
    asked = {i: q for i, q in every.items() if q.variant_of is None}
    answers = [r for r in scan_table(responses, RESPONSES) if _has_options(every.get(r.question_id))]
    data_dir = Path(context.data_dir)
    attributes = read_question_attributes(data_dir, every.values())
    form = deciding_form(context.recipe, data_dir)
    every_verdict = [drop_details(j) for j in scan_table(judgements, JUDGEMENTS, without=("version_scores",))]
    verdicts = [j for j in every_verdict if j.condition == PLAIN]

    fresh = read_open_answers(context, questions, responses, run_parts)
    compared = list(fresh.groups(asked, PLAIN))
    again = holdout_fitness((j for j in verdicts if j.question_id in asked), form)

    conditions = context.recipe.prompting.names if context.recipe.prompting else ()
    prompted_groups = [c for condition in conditions for c in fresh.groups(asked, condition)]
    open_effects = _together(
        lambda: question_effects(compared),
        lambda: slice_effects(prompted_groups),
        lambda: slice_effects(compared),
        lambda: shared_effects(fresh.masked, asked),
        lambda: verdict_effects(asked, every_verdict, form),
        lambda: length_controlled_effects(asked, verdicts, fresh.spreads, form),
        lambda: contrast_effects(scored, attributes),
    )
    search_effects = [
        *shrinkage(asked.values(), (j for j in verdicts if j.question_id in asked), form),
        *judge_effects(j for j in verdicts if j.question_id in asked),
    ]
    scored = list(scored_judgements(asked, scan_table(judgements, JUDGEMENTS), form))
    covered = cover_effects(context, asked, answers, fresh, open_effects, attributes)
    judged = [
        *judged_contrasts(scored, attributes),
        *judged_questions(asked, fitness_by_condition(asked, every_verdict, form), form),
    ]
    figures = [*judged, *open_distances([*compared, *prompted_groups])]
    prompted = measure_prompting(context, asked, answers, fresh, figures, attributes)
    plain = (j for j in scan_table(judgements, JUDGEMENTS) if j.condition == PLAIN)
    robust = measure_rewordings(every, answers, plain, form, attributes)
    models = sorted({e.model for e in covered} - {EVERY})
    missing = missing_control_effects(asked.values(), models, context.recipe.controls)
    corrected = corrected_effects(treatment, asked.values())
    others = [*search_effects, *robust, *prompted, *missing, *corrected]
    tested = correct_for_multiplicity(chain(drain(covered), others))
    effects = verdict_rule(context.recipe).apply(drain(tested))
    confirmed = confirm_questions(asked, verdicts, form, context.recipe.validation.fdr)
    again = again if form != SCREEN else mean_excess(compared)
    measured = [label_question(q, confirmed) for q in record_holdout_effects(asked.values(), again)]
    measured = [q.model_copy(update={"language": languages[q.id]}) for q in with_rewordings(measured, every)]
    counts = StageCounts(
        stage="measure", unit="questions", rows=len(every), kept=len(measured), dropped=0, failed=0
    )
    return Outcome(tables={EFFECTS: effects, QUESTIONS: measured}, counts=(counts,))


def _together(*estimates: Callable[[], Iterable[Effect]]) -> Iterator[Effect]:
    """Yield the effects of all estimates. One estimate is in memory at a time."""
    for estimate in estimates:
        yield from estimate()


def _has_options(question: Question | None) -> bool:
    """Return whether a question belongs to the families that are measured on all answers."""
    return question is not None and question.family != "open"


def measure_rewordings(
    questions: Mapping[str, Question],
    responses: Sequence[Response],
    judgements: Iterable[Judgement],
    form: str,
    attributes: Mapping[str, Attribute],
) -> list[Effect]:
    """Return the effects that compare questions with their rewordings, if there are any."""
    if not any(q.variant_of for q in questions.values()):
        return []
    answered = gather_answers(questions, responses)
    scored = [*scored_answers(answered), *scored_judgements(questions, judgements, form)]
    return robustness_effects(scored, answered, questions, attributes)


def measure_prompting(
    context: RunContext,
    questions: Mapping[str, Question],
    responses: Sequence[Response],
    fresh: OpenFigures,
    open_items: Iterable[ItemEffect],
    attributes: Mapping[str, Attribute],
) -> list[Effect]:
    """Return the rank correlations of effects under the recipe's system prompts and personas.

    Args:
        context: Context of the run.
        questions: Questions without rewordings.
        responses: Answers to all families but `open`.
        fresh: Figures of the answers to open questions.
        open_items: Effects of single open questions in all conditions.
        attributes: Attributes by id.
    """
    prompting = context.recipe.prompting
    if prompting is None:
        return []
    answered = [
        a
        for a in gather_answers(questions, responses)
        if a.question.control == "none" and a.question.family != "open"
    ]
    items = [*item_contrasts(scored_answers(answered), attributes), *open_items]
    asked = {(r.question_id, r.model, r.condition) for r in responses}
    asked |= {(question, model, condition) for question, _, _, model, condition in fresh.statuses}
    kinds = {
        (questions[question].family, model, questions[question].language)
        for question, model, condition in asked
        if question in questions and condition in prompting.names
    }
    prompts = read_asking_prompts(Path(context.data_dir), tuple(context.recipe.families))
    base = {family: base_condition(family, prompts) for family in context.recipe.families}
    return rank_correlations(items, prompting.names, kinds, base)


def open_distances(compared: Iterable[ComparedGroup]) -> Iterator[ItemEffect]:
    """Yield the excess distances between the answers to single open questions."""
    for c in compared:
        if counts_for_contrasts(c.question):
            yield ItemEffect(c.question, c.model, c.condition, "", "excess distance", c.divergence.excess)


def judged_contrasts(
    scored: Iterable[ScoredQuestion], attributes: Mapping[str, Attribute]
) -> Iterator[ItemEffect]:
    """Yield the contrasts of values in single open questions, each criterion with a metric of its own."""
    for s in scored:
        for item in item_contrasts([s], attributes):
            yield replace(item, metric=f"{RANK_CORRELATION}:{s.metric}")


def judged_questions(
    questions: Mapping[str, Question], fitness: Mapping[tuple[str, str], Mapping[str, float]], form: str
) -> Iterator[ItemEffect]:
    """Yield the fitness of single open questions, as judged in every condition."""
    for (model, condition), scores in fitness.items():
        for question_id, score in scores.items():
            question = questions[question_id]
            if counts_for_contrasts(question):
                metric = f"{RANK_CORRELATION}:{form}"
                yield ItemEffect(question, model, condition, "", "fitness", score, metric)


def with_rewordings(measured: Sequence[Question], every: Mapping[str, Question]) -> list[Question]:
    """Return the measured questions and their rewordings, which have the labels of their originals."""
    labels = {q.id: q.label for q in measured}
    reworded = [
        q.model_copy(update={"label": labels.get(q.variant_of, q.label)})
        for q in every.values()
        if q.variant_of is not None
    ]
    return sorted([*measured, *reworded], key=lambda q: q.id)


def cover_effects(
    context: RunContext,
    questions: Mapping[str, Question],
    responses: Sequence[Response],
    fresh: OpenFigures,
    open_effects: Iterable[Effect],
    attributes: Mapping[str, Attribute],
) -> list[Effect]:
    """Compute the effects of the other families, and return all effects with their coverage.

    Raises:
        ModelError: If no answers of a family reach `validate.min_coverage`, unless
            `validate.below_coverage` is `report`.
    """
    validation = context.recipe.validation
    rule = CoverageRule(validation.min_coverage, Path(context.data_dir))
    coverage = AnswersBySlice(questions, responses)
    for (question, variant, value, model, condition), counter in fresh.statuses.items():
        coverage.add(questions[question], variant, value, model, condition, counter)
    if validation.below_coverage == "stop":
        raise_if_families_below(rule.families_below(coverage), validation.min_coverage)
    answered = gather_answers(questions, responses)
    directed = contrast_effects(scored_answers(answered), attributes)
    covered = [
        *rule.apply(chain(open_effects, effects_of_slices(answered, attributes), directed), coverage),
        *rule.apply(effects_across_conditions(answered, attributes), coverage, across=True),
    ]
    open_answers = [(questions[question], target) for question, target in sorted(fresh.answered)]
    undirected = rule.apply(undirected_slices(answered, covered, open_answers), coverage)
    unmeasured = rule.unmeasured_slices(coverage, covered)
    return [*covered, *unmeasured, *undirected, *rule.unequal_slices(coverage)]


def verdict_rule(recipe: Recipe) -> VerdictRule:
    """Return the recipe's rule for verdicts."""
    return VerdictRule(recipe.validation.fdr, recipe.validation.equivalence)


def raise_if_families_below(below: Mapping[str, Sequence[tuple[Slice, str]]], min_coverage: float) -> None:
    """Raise `ModelError` if there are families without any slice that reaches `validate.min_coverage`."""
    if not below:
        return
    names = ", ".join(repr(family) for family in sorted(below))
    lines = [
        f"{family}, {slice_.attribute}, {slice_.model}"
        + (f", {slice_.condition}" if slice_.condition != PLAIN else "")
        + (f", language {slice_.language}" if slice_.language not in (ENGLISH, EVERY) else "")
        + f": {reason.removeprefix('coverage: ')}"
        for family, found in sorted(below.items())
        for slice_, reason in found[:MOST_REASONS]
    ]
    raise ModelError(
        f"too few answers can be read to measure {names}; {min_coverage:.0%} are required "
        "(validate.min_coverage)",
        place="\n      ".join(lines),
        hint="look at the answers of the run; raise `max_tokens` of the family "
        "if they are cut off, or set `validate.below_coverage: report` to release the other families",
    )


def mean_excess(compared: Iterable[ComparedGroup]) -> dict[str, float]:
    """Return the mean excess distance by question, over targets. Unlike fitness, it may be negative."""
    excesses: dict[str, list[float]] = {}
    for c in compared:
        excesses.setdefault(c.question.id, []).append(c.divergence.excess)
    return {question: fmean(values) for question, values in excesses.items()}


def record_holdout_effects(questions: Iterable[Question], effects: Mapping[str, float]) -> list[Question]:
    """Return the questions with their hold-out effects (`None` if not measured), sorted by id."""
    return [
        q.model_copy(update={"holdout_effect": effects.get(q.id)})
        for q in sorted(questions, key=lambda q: q.id)
    ]


def label_question(question: Question, confirmed: Collection[str]) -> Question:
    """Return a selected question with its final label. Families without selection are surveys."""
    if question.control != "none" or question.label not in SELECTED:
        return question
    if not needs_confirmation(question):
        return question.model_copy(update={"label": "survey"})
    label = "confirmed" if question.id in confirmed else "candidate"
    return question.model_copy(update={"label": label})


# The command: one family's metrics over a release or over recorded answers.


def measure_file(
    family: str,
    input: Path,
    *,
    format: str,
    test: str | None = None,
    min_coverage: float = 0.8,
    baselines: Sequence[str] = (),
    data_dir: Path = VOCABULARY,
) -> Figures:
    """Compute a family's metrics over answers in a file or a release.

    Args:
        family: Name of the family.
        input: File of recorded answers, or release directory.
        format: `release`, or one of the family's recorded formats.
        test: Name of the association test, if the file does not name it.
        min_coverage: Smallest share of usable rows of a file, or of usable answers of a release. A figure
            below it is not measured.
        baselines: Values that others are compared with, as `COLUMN=VALUE`. Default: the documented ones.
        data_dir: Directory of the vocabulary.

    Returns:
        Metrics by name. Each has `value`, `low`, `high` and `n`. A file also has its `coverage`, its
        `invalid_rows` and `notes`. A metric of a file without a value has the status `not_measured` and a
        reason.

    Raises:
        InputError: If the family does not have the format, or the file cannot be read in it, or has no
            baseline.
    """
    if family == JUDGE:
        return _measure_judges(input, format)
    if format == "release":
        return measure_release(family, input, data_dir, min_coverage)
    method = method_of(family)
    if format not in method.recorded:
        raise InputError(
            f"family {family!r} has no format {format!r}",
            hint=f"choose one of: {', '.join([*method.recorded, 'release'])}",
        )
    chosen = _chosen_baselines(baselines, method.baseline_columns, family)
    return method.recorded[format](Recorded(input, data_dir, test, min_coverage, chosen))


def _measure_judges(input: Path, format: str) -> Figures:
    """Measure recorded judgements.

    Raises:
        InputError: If the format is unknown, or the file cannot be read in it.
    """
    if format not in JUDGE_FORMATS:
        raise InputError(
            f"judges have no format {format!r}", hint=f"choose one of: {', '.join(JUDGE_FORMATS)}"
        )
    return JUDGE_FORMATS[format](input)


def _chosen_baselines(texts: Sequence[str], columns: Sequence[str], family: str) -> dict[str, str]:
    chosen = {}
    for text in texts:
        column, equals, value = text.partition("=")
        if not equals or not value.strip() or column.strip() not in columns:
            allowed = f"write COLUMN=VALUE with one of the columns {', '.join(columns)}"
            raise InputError(
                f"{text!r} is not a baseline of family {family!r}",
                hint=allowed if columns else "leave the option out: the family has a fixed baseline",
            )
        chosen[column.strip()] = value.strip()
    return chosen


def measure_release(family: str, path: Path, data_dir: Path, min_coverage: float = 0.0) -> Figures:
    """Compute a family's metrics over a release directory, or over the release that contains a file.

    Models with usable answers below `min_coverage` are not measured.

    Raises:
        InputError: If the path is not in a release, or the release has no answers of the family.
    """
    root = next((p for p in (path, *path.parents) if (p / MANIFEST).is_file()), path)
    contents = open_release(root).contents
    questions = {q.id: q for q in contents.rows(QUESTIONS) if q.family == family}
    answers = [r for r in contents.rows(RESPONSES) if r.question_id in questions]
    if not answers:
        raise InputError(f"the release has no answers of family {family!r}", place=str(root))
    attributes = read_question_attributes(data_dir, questions.values())
    answered = gather_answers(questions, answers)
    released = method_of(family).released
    if released is None:
        figures = effect_figures(answered, attributes)
        for model in sorted({r.model for r in answers}):
            own = [r for r in answers if r.model == model]
            if reason := release_gap(family, questions, own, min_coverage):
                figures = {
                    metric: {m: _without_figures(f, reason) if m == model else f for m, f in models.items()}
                    if metric not in LOSS_METRICS
                    else models
                    for metric, models in figures.items()
                }
        return figures
    figures = released(answered, attributes, data_dir)
    reason = release_gap(family, questions, answers, min_coverage)
    return figures if reason is None else _without_figures(figures, reason)


def release_gap(
    family: str, questions: Mapping[str, Question], answers: Iterable[Response], min_coverage: float
) -> str | None:
    """Return why too few answers of a release can be used for a family's figures, or `None`."""
    refusals = counts_refusals(family, MAIN_METRICS[family])
    counts = StatusCounts.of(answer_status(questions[r.question_id], r) for r in answers)
    read = counts.usable(refusals=refusals)
    if read and read >= min_coverage * counts.asked:
        return None
    return (
        f"coverage: {read:,} of {counts.asked:,} answers could be read "
        f"({counts.losses(refusals=refusals)}); at least {min_coverage:.0%} are required"
    )


def _without_figures(figures: Any, reason: str) -> Any:
    """Return figures without their numbers, except those on lost answers."""
    if not isinstance(figures, dict):
        return figures
    if "value" in figures:
        empty = dict.fromkeys(("value", "low", "high", "p_value") & figures.keys())
        return {**figures, **empty, "n": 0, "status": "not_measured", "reason": reason}
    return {
        name: found if name in LOSS_METRICS else _without_figures(found, reason)
        for name, found in figures.items()
    }


def effect_figures(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> Figures:
    """Return the family's effects by metric, model, attribute and condition."""
    figures: Figures = {}
    for e in family_effects(answered, attributes):
        if e.level in ("attribute", "family", "overall"):
            by_condition = figures.setdefault(e.metric, {}).setdefault(e.model, {}).setdefault(e.name, {})
            by_condition[e.condition] = figure(e.value, e.low, e.high, n=e.n) | {
                "p_value": e.p_value,
                "unit": e.unit,
            }
    return figures


STAGE = Stage(
    "measure",
    12,
    run=measure,
    reads=("models", "evolve", "judging", "validation", "prompting"),
    vocabulary=("attributes", "lexicons", "readers", "rubrics"),
    installed=installed_parts,
)
