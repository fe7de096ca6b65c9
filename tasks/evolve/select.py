"""Select stage: accept the questions with a fitness above that of the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from schemas.answers import JUDGEMENTS
from schemas.labels import Dropped, StageCounts
from schemas.notes import SelectionNotes
from schemas.question import QUESTIONS, Label, Question
from tasks.judges.panel import deciding_form, settle_panel
from tasks.questions.quality import drop_question
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.stats.fitness import FORMS

FLOOR_CONTROLS = frozenset({"a_a", "placebo"})
"""Controls with a true effect of zero. Variants of `neutral` controls may legitimately differ."""
FLOOR_PERCENTILE = 95


def select(
    context: RunContext,
    questions: TableRef,
    judgements: TableRef,
    archive: TableRef | None = None,
    round: int = 0,
) -> Outcome:
    """Add the questions of a round to the archive and label the whole archive.

    The noise floor is pooled over rounds, so earlier questions are labelled again with the new threshold.
    """
    earlier = read_table(archive, QUESTIONS) if archive else []
    round_questions = read_table(questions, QUESTIONS)
    verdicts = read_table(judgements, JUDGEMENTS)
    form = deciding_form(context.recipe, Path(context.data_dir))
    judged, abstained = record_fitness(round_questions, settle_panel(verdicts, form))
    pooled = merge_archive(earlier, judged)
    threshold = compute_threshold(pooled, form, context.recipe.evolve.save_threshold)
    settled = label_archive(pooled, threshold)
    return Outcome(
        tables={QUESTIONS: settled},
        counts=(count_selection(round_questions, judged, abstained),),
        dropped=tuple(abstained),
        notes=describe_selection(settled, round=round, form=form, threshold=threshold).to_json(),
    )


def record_fitness(
    questions: Sequence[Question], fitness: Mapping[str, float]
) -> tuple[list[Question], list[Dropped]]:
    """Set the fitness of open questions. Questions without a verdict are dropped as `abstained`.

    Questions of other families need no judge and are kept unchanged.
    """
    kept, dropped = [], []
    for question in questions:
        if question.family != "open":
            kept.append(question)
        elif question.id in fitness:
            kept.append(question.model_copy(update={"fitness": fitness[question.id]}))
        else:
            dropped.append(drop_question(question, stage="select", reason="abstained"))
    return kept, dropped


def merge_archive(earlier: Sequence[Question], judged: Sequence[Question]) -> list[Question]:
    """Merge two rounds of questions, sorted by round and id. A repeated question keeps its first round."""
    known = {question.id for question in earlier}
    fresh = [question for question in judged if question.id not in known]
    return sorted([*earlier, *fresh], key=lambda q: (q.round, q.id))


def compute_threshold(archive: Sequence[Question], form: str, fixed: float | None) -> float:
    """Return the recipe's threshold, or the 95th percentile of the A/A and placebo controls so far.

    The percentile is the next higher observed value, so with few controls it is their maximum. Without
    controls it is the fitness of a group without differences.
    """
    if fixed is not None:
        return fixed
    floor = [q.fitness for q in archive if q.control in FLOOR_CONTROLS and q.fitness is not None]
    if not floor:
        return FORMS[form].clean
    return float(np.percentile(floor, FLOOR_PERCENTILE, method="higher"))


def label_archive(archive: Sequence[Question], threshold: float) -> list[Question]:
    """Label judged open questions as accepted if they are strictly above the threshold."""
    return [q.model_copy(update={"label": _label(q, threshold)}) for q in archive]


def _label(question: Question, threshold: float) -> Label:
    if question.control != "none":
        return "control"
    if question.fitness is None:
        return question.label
    return "accepted" if question.fitness > threshold else "unlabelled"


def count_selection(
    round_questions: Sequence[Question], judged: Sequence[Question], abstained: Sequence[Dropped]
) -> StageCounts:
    """Count the questions of the round. Those without any verdict count as failed."""
    return StageCounts(
        stage="select",
        unit="groups",
        rows=len(round_questions),
        kept=len(judged),
        dropped=0,
        failed=len(abstained),
    )


def describe_selection(
    archive: Sequence[Question], *, round: int, form: str, threshold: float
) -> SelectionNotes:
    """Return the counts of the round. `accepted_in_all` decides when the search stops."""
    current = [q for q in archive if q.round == round and q.control == "none"]
    return SelectionNotes(
        round=round,
        fitness_form=form,
        threshold=threshold,
        accepted=sum(q.label == "accepted" and q.family == "open" for q in current),
        accepted_in_all=sum(q.label == "accepted" and q.family == "open" for q in archive),
        below_threshold=sum(q.label == "unlabelled" and q.fitness is not None for q in current),
        controls=sum(q.control != "none" and q.round == round for q in archive),
    )


STAGE = Stage("select", 2, run=select, reads=("evolve", "models", "judging"), vocabulary=("rubrics",))
