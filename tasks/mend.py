"""Mend: questions whose text was wrong are replaced by their mended ones; the old ones are dropped with why.

A mended question keeps everything but its text, and what was measured of the old text is not its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.decision import DROPPED, Dropped, StageCounts
from schemas.erratum import Erratum
from schemas.errors import InputError
from schemas.judgement import JUDGEMENTS
from schemas.label import LABEL_HISTORY
from schemas.question import QUESTIONS, Question
from schemas.response import RESPONSES
from schemas.tables import Row, Table
from tasks.release.configs import CONTROLS, HARD_NEGATIVES
from tasks.release.differences import ERRATUM
from tasks.release.reading import Contents, ReleaseRef, open_release
from tasks.release.versions import next_version
from tasks.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.dropping import drop_question
from tasks.text.quality import question_fault
from tasks.text.rewording import reworded, reworded_id


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


STAGE = Stage("mend", 1, run=mend)
STAGE_REOPEN = Stage("reopen", 1, run=reopen)
