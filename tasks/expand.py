"""Expand: templates and taxonomy become questions, each with all of its variants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.decision import Dropped, StageCounts
from schemas.question import QUESTIONS, Question
from tasks.families.expanding import expand_family
from tasks.store import Outcome, RunContext, Stage
from tasks.text.dropping import drop_question
from tasks.text.quality import question_fault


def expand(context: RunContext, families: Sequence[str], content: Sequence[str] = ()) -> Outcome:
    """Every question of the given families; those that break a rule are dropped with its name.

    `content`: hashes of the question files that the recipe names, so that a changed file is read again.
    """
    generated = [
        question
        for family in families
        for question in expand_family(context.recipe, Path(context.data_dir), family)
    ]
    kept, dropped = check_questions(generated)
    counts = StageCounts(
        stage="expand", unit="questions", rows=len(generated), kept=len(kept), dropped=len(dropped), failed=0
    )
    return Outcome(tables={QUESTIONS: kept}, counts=(counts,), dropped=tuple(dropped))


def check_questions(questions: Iterable[Question]) -> tuple[list[Question], list[Dropped]]:
    """Advice questions must pass the rules of a good question; others only expand, and so do questions that
    others made: their style is theirs."""
    kept, dropped = [], []
    for question in questions:
        fault = question_fault(question) if is_ours(question) else None
        if fault is None:
            kept.append(question)
        else:
            dropped.append(drop_question(question, stage="expand", reason=fault))
    return kept, dropped


def is_ours(question: Question) -> bool:
    """Whether our own rules of style hold for a question."""
    return question.family == "open" and question.origin != "imported"


STAGE = Stage(
    "expand",
    2,
    run=expand,
    reads=("attributes", "superdomains", "families", "controls"),
    vocabulary=(
        "attributes",
        "templates",
        "taxonomy",
        "frames",
        "imports",
        "association",
        "relative_decision",
        "dialects",
    ),
)
