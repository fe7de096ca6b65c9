"""Adopt: a release's tables become a run's, so that stages can work on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from schemas.answers import JUDGEMENTS, RESPONSES
from schemas.errors import InputError
from schemas.labels import DROPPED, LABEL_HISTORY, Dropped, StageCounts
from schemas.question import QUESTIONS, Erratum, Question
from schemas.tables import Row, Table
from tasks.questions.quality import drop_question, question_fault, reworded, reworded_id
from tasks.release import CONTROLS, ERRATUM, HARD_NEGATIVES, Contents, ReleaseRef, next_version, open_release
from tasks.release.hold_back import read_hold_back
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table

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


# Mend: questions whose text was wrong are replaced by their mended ones; the old ones are dropped with why.
#
# A mended question keeps everything but its text, and what was measured of the old text is not its own.


def mend(context: RunContext, questions: TableRef, errata: Sequence[Erratum]) -> Outcome:
    """The questions with every erratum applied; those that it does not concern are left as they are."""
    asked = read_table(questions, QUESTIONS)
    kept, dropped = apply_errata(asked, errata)
    counts = StageCounts(
        stage="mend",
        unit="questions",
        rows=len(asked) + len(dropped),
        kept=len(kept),
        dropped=len(dropped),
        failed=0,
    )
    return Outcome(tables={QUESTIONS: kept}, counts=(counts,), dropped=tuple(dropped))


def apply_errata(
    questions: Sequence[Question], errata: Sequence[Erratum]
) -> tuple[list[Question], list[Dropped]]:
    """Mended questions in the place of the old ones, twins linked anew; and the old ones as dropped rows."""
    by_id = {e.question_id: e for e in errata}
    mended = {q.id: with_text(q, by_id[q.id]) for q in questions if q.id in by_id}
    kept = [
        q.model_copy(update={"twin_id": mended[q.twin_id].id}) if q.twin_id in mended else q
        for q in (mended.get(q.id, q) for q in questions)
    ]
    dropped = [
        drop_question(q, stage="mend", reason="erratum", because_of=mended[q.id].id)
        for q in questions
        if q.id in mended
    ]
    return kept, dropped


def with_text(question: Question, erratum: Erratum) -> Question:
    """The question in its mended words. Raises `InputError` where they do not expand."""
    return reworded(question, erratum.after, operator=ERRATUM, changed_in=erratum.changed_in)


def write_erratum(contents: Contents, version: str, wrong_id: str, text: str, reason: str) -> Erratum:
    """The erratum for one released question. Raises `InputError` where there is no such question, the text is
    the old one, does not expand to the question's values, or breaks a rule of a good question."""
    released = [q for table in (QUESTIONS, HARD_NEGATIVES, CONTROLS) for q in contents.rows(table)]
    found = next((q for q in released if q.id == wrong_id), None)
    if found is None:
        raise InputError(f"the release has no question {wrong_id!r}", hint="ids are in its `questions` table")
    if not reason.strip():
        raise InputError("an erratum needs its reason", place="--reason")
    template = " ".join(text.split())
    if template == found.template:
        raise InputError("that is the text as it stands", place=wrong_id)
    erratum = Erratum(
        question_id=wrong_id,
        mended_id=reworded_id(found, template),
        before=found.template,
        after=template,
        reason=" ".join(reason.split()),
        changed_in=next_version(version, "patch"),
    )
    mended = with_text(found, erratum)
    if found.family == "open" and (fault := question_fault(mended)):
        raise InputError(
            f"the mended text breaks a rule: {fault.replace('_', ' ')}",
            place=wrong_id,
            hint="see docs/methods.md for the rules of a good question",
        )
    return erratum


def reopen(context: RunContext, release: ReleaseRef, errata: Sequence[Erratum]) -> Outcome:
    """A release's tables as a run's, without the answers and verdicts on texts that are mended."""
    contents = open_release(Path(release.path)).contents
    wrong = {e.question_id for e in errata}
    questions = [q for table in (QUESTIONS, HARD_NEGATIVES, CONTROLS) for q in contents.rows(table)]
    questions.sort(key=lambda q: q.id)
    answers, verdicts = contents.rows(RESPONSES), contents.rows(JUDGEMENTS)
    history = contents.rows(LABEL_HISTORY)
    tables: dict[Table[Any], Sequence[Row]] = {
        QUESTIONS: questions,
        RESPONSES: [r for r in answers if r.question_id not in wrong],
        JUDGEMENTS: [j for j in verdicts if j.question_id not in wrong],
        LABEL_HISTORY: history,
    }
    return Outcome(tables=tables, counts=(), dropped=tuple(contents.rows(DROPPED)))


STAGE_MEND = Stage("mend", 1, run=mend)
STAGE_REOPEN = Stage("reopen", 1, run=reopen)
