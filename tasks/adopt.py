"""Adopt: a release's tables become a run's, so that stages can work on them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from schemas.decision import StageCounts
from schemas.errors import InputError
from schemas.question import QUESTIONS, Question
from schemas.response import RESPONSES
from tasks.release.configs import CONTROLS
from tasks.release.private import read_hold_back
from tasks.release.reading import Contents, ReleaseRef, open_release
from tasks.store import Outcome, RunContext, Stage, TableRef

Part = Literal["open", "templated"]
"""Advice questions are asked on fresh samples; questions of templated families as in a build."""


def adopt(
    context: RunContext,
    release: ReleaseRef,
    part: Part,
    answers: bool = False,
    hold_back: TableRef | None = None,
) -> Outcome:
    """The released questions and controls of one part, without what was found out about them; with `answers`
    also the released hold-out answers to them. With `hold_back` the questions of that private file stand in
    the place of the released ones, beside the released controls."""
    contents = open_release(Path(release.path)).contents
    asked = [q for q in released_questions(contents) if hold_back is None or q.control != "none"]
    asked += held_questions(Path(hold_back.path)) if hold_back else []
    questions = [q for q in sorted(asked, key=by_id) if (q.family == "open") == (part == "open")]
    counts = StageCounts(
        stage="adopt", unit="questions", rows=len(questions), kept=len(questions), dropped=0, failed=0
    )
    if not answers:
        return Outcome(tables={QUESTIONS: questions}, counts=(counts,))
    ids = {q.id for q in questions}
    given = [r for r in contents.rows(RESPONSES) if r.question_id in ids and r.phase == "holdout"]
    return Outcome(tables={QUESTIONS: questions, RESPONSES: given}, counts=(counts,))


def released_questions(contents: Contents) -> list[Question]:
    """Questions and controls in the order of their ids, with no fitness: another model, or another judge, has
    its own. Raises `InputError` where there are none."""
    found = [*contents.rows(QUESTIONS), *contents.rows(CONTROLS)]
    if not found:
        raise InputError("the release has no questions")
    return [unmeasured(q) for q in sorted(found, key=by_id)]


def held_questions(path: Path) -> list[Question]:
    """The held-back questions and their controls, likewise; without what only says nearly the same."""
    held, _ = read_hold_back(path)
    return [unmeasured(q) for q in held if q.control != "none" or q.label == "accepted"]


def unmeasured(question: Question) -> Question:
    return question.model_copy(update={"fitness": None, "holdout_effect": None})


def by_id(question: Question) -> str:
    return question.id


STAGE = Stage("adopt", 1, run=adopt)
