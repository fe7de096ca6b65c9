"""Select: questions whose fitness is above what controls get by chance alone are accepted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from schemas.answers import JUDGEMENTS
from schemas.labels import Dropped, StageCounts
from schemas.question import QUESTIONS, Label, Question
from tasks.judges.panel import deciding_form, settle_panel
from tasks.questions.quality import drop_question
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.stats.fitness import FORMS

FLOOR_CONTROLS = frozenset({"a_a", "placebo"})
"""Controls whose true effect is zero; `neutral` ones may differ for good reason."""
FLOOR_PERCENTILE = 95


def select(
    context: RunContext,
    questions: TableRef,
    judgements: TableRef,
    archive: TableRef | None = None,
    round: int = 0,
) -> Outcome:
    """Add a round's questions to the archive and settle which of all its questions are accepted.

    The floor is pooled over rounds, so the whole archive is labelled anew against one threshold.
    """
    earlier = read_table(archive, QUESTIONS) if archive else []
    asked = read_table(questions, QUESTIONS)
    verdicts = read_table(judgements, JUDGEMENTS)
    form = deciding_form(context.recipe, Path(context.data_dir))
    judged, abstained = record_fitness(asked, settle_panel(verdicts, form))
    pooled = join_archive(earlier, judged)
    threshold = save_threshold(pooled, form, context.recipe.evolve.save_threshold)
    settled = label_questions(pooled, threshold)
    return Outcome(
        tables={QUESTIONS: settled},
        counts=(count_selection(asked, judged, abstained),),
        dropped=tuple(abstained),
        notes=json.dumps(
            describe_selection(settled, round=round, form=form, threshold=threshold), sort_keys=True
        ),
    )


def record_fitness(
    questions: Sequence[Question], fitness: Mapping[str, float]
) -> tuple[list[Question], list[Dropped]]:
    """Open questions with their fitness; those that nobody judged leave as `abstained`. Questions of other
    families need no judge and go through as they are."""
    kept, dropped = [], []
    for question in questions:
        if question.family != "open":
            kept.append(question)
        elif question.id in fitness:
            kept.append(question.model_copy(update={"fitness": fitness[question.id]}))
        else:
            dropped.append(drop_question(question, stage="select", reason="abstained"))
    return kept, dropped


def join_archive(earlier: Sequence[Question], judged: Sequence[Question]) -> list[Question]:
    """Both, by round and id; a question that came again keeps its first round."""
    known = {question.id for question in earlier}
    fresh = [question for question in judged if question.id not in known]
    return sorted([*earlier, *fresh], key=lambda q: (q.round, q.id))


def save_threshold(archive: Sequence[Question], form: str, fixed: float | None) -> float:
    """The recipe's threshold, or the 95th percentile of what A/A and placebo questions got so far (the next
    value that occurs, so that a few controls give the highest of them). Without controls: nothing found."""
    if fixed is not None:
        return fixed
    floor = [q.fitness for q in archive if q.control in FLOOR_CONTROLS and q.fitness is not None]
    if not floor:
        return FORMS[form].clean
    return float(np.percentile(floor, FLOOR_PERCENTILE, method="higher"))


def label_questions(archive: Sequence[Question], threshold: float) -> list[Question]:
    """Judged open questions strictly above the threshold are accepted, others stay candidates."""
    return [q.model_copy(update={"label": _label(q, threshold)}) for q in archive]


def _label(question: Question, threshold: float) -> Label:
    if question.control != "none":
        return "control"
    if question.fitness is None:
        return question.label
    return "accepted" if question.fitness > threshold else "unlabelled"


def count_selection(
    asked: Sequence[Question], judged: Sequence[Question], abstained: Sequence[Dropped]
) -> StageCounts:
    """What came in this round: carried on, or failed because every judge abstained."""
    return StageCounts(
        stage="select", unit="groups", rows=len(asked), kept=len(judged), dropped=0, failed=len(abstained)
    )


def describe_selection(
    archive: Sequence[Question], *, round: int, form: str, threshold: float
) -> dict[str, object]:
    """The round's split, for progress and for the decision whether to go on."""
    now = [q for q in archive if q.round == round and q.control == "none"]
    return {
        "round": round,
        "fitness_form": form,
        "threshold": threshold,
        "accepted": sum(q.label == "accepted" and q.family == "open" for q in now),
        "accepted_in_all": sum(q.label == "accepted" and q.family == "open" for q in archive),
        "below_threshold": sum(q.label == "unlabelled" and q.fitness is not None for q in now),
        "controls": sum(q.control != "none" and q.round == round for q in archive),
    }


STAGE = Stage("select", 2, run=select, reads=("evolve", "models", "judging"), vocabulary=("rubrics",))
