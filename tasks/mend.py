"""Stages that work on an existing release: load its questions, load its tables, and apply errata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from schemas.answers import JUDGEMENTS, RESPONSES
from schemas.errors import InputError
from schemas.labels import DROPPED, LABEL_HISTORY, Dropped, StageCounts
from schemas.question import QUESTIONS, SELECTED, Erratum, Question
from schemas.tables import Row, Table
from tasks.files.questions import explain_rows
from tasks.files.slot_values import rebind_text
from tasks.files.tables import read_csv_rows
from tasks.questions.quality import drop_question, question_fault, reword_question, reworded_id
from tasks.release import (
    CONTROLS,
    ERRATUM,
    HARD_NEGATIVES,
    Contents,
    ReleaseRef,
    bump_version,
    open_release,
)
from tasks.release.hold_back import read_ghosts, read_hold_back
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table

Part = Literal["open", "templated", "ghosts"]
"""Open questions get fresh samples. Questions of templated families are asked as in a build. Ghosts of the
private file are not asked."""


# Evaluate a released benchmark


def load_release_questions(
    context: RunContext,
    release: ReleaseRef,
    part: Part,
    answers: bool = False,
    hold_back: TableRef | None = None,
) -> Outcome:
    """Load the questions and controls of one part of a release, without fitness and effects.

    Args:
        context: Run context.
        release: The release.
        part: Open or templated questions, or the ghosts of the private file.
        answers: Whether to load the released hold-out answers too.
        hold_back: Private file. Its questions replace the released ones, and the released controls are kept.
    """
    contents = open_release(Path(release.path)).contents
    chosen = [q for q in list_released_questions(contents) if hold_back is None or q.control != "none"]
    chosen += read_held_questions(Path(hold_back.path)) if hold_back else []
    chosen.sort(key=lambda q: q.id)
    questions = [q for q in chosen if (q.family == "open") == (part == "open")]
    if part == "ghosts":
        questions = read_ghosts(Path(hold_back.path)) if hold_back else []
    counts = StageCounts(
        stage="adopt", unit="questions", rows=len(questions), kept=len(questions), dropped=0, failed=0
    )
    if not answers:
        return Outcome(tables={QUESTIONS: questions}, counts=(counts,))
    ids = {q.id for q in questions}
    responses = [r for r in contents.scan(RESPONSES) if r.question_id in ids and r.phase == "holdout"]
    return Outcome(tables={QUESTIONS: questions, RESPONSES: responses}, counts=(counts,))


def list_released_questions(contents: Contents) -> list[Question]:
    """Return the questions and controls of a release by id, without measurements of earlier models.

    Raises:
        InputError: If there are none.
    """
    released = [*contents.rows(QUESTIONS), *contents.rows(CONTROLS)]
    if not released:
        raise InputError("the release has no questions", hint="choose a release with a `questions` table")
    return [clear_measurements(q) for q in sorted(released, key=lambda q: q.id)]


def read_held_questions(path: Path) -> list[Question]:
    """Return the accepted questions and controls of a private file, without measurements.

    The file also contains near-duplicates of these, which are left out.
    """
    held, _ = read_hold_back(path)
    return [clear_measurements(q) for q in held if q.control != "none" or q.label in SELECTED]


def clear_measurements(question: Question) -> Question:
    """Return the question without fitness and hold-out effect."""
    return question.model_copy(update={"fitness": None, "holdout_effect": None})


# Correct a release


def load_release_tables(context: RunContext, release: ReleaseRef, errata: Sequence[Erratum]) -> Outcome:
    """Load the tables of a release, without answers to and judgements of questions with an erratum."""
    contents = open_release(Path(release.path)).contents
    faulty = {e.question_id for e in errata}
    questions = sorted(_released_questions(contents), key=lambda q: q.id)
    history = contents.rows(LABEL_HISTORY)
    tables: dict[Table[Any], Sequence[Row]] = {
        QUESTIONS: questions,
        RESPONSES: [r for r in contents.scan(RESPONSES) if r.question_id not in faulty],
        JUDGEMENTS: [j for j in contents.scan(JUDGEMENTS) if j.question_id not in faulty],
        LABEL_HISTORY: history,
    }
    return Outcome(tables=tables, counts=(), dropped=tuple(contents.rows(DROPPED)))


def correct_questions(context: RunContext, questions: TableRef, errata: Sequence[Erratum]) -> Outcome:
    """Apply errata to a table of questions. Other questions are kept unchanged."""
    current = read_table(questions, QUESTIONS)
    kept, dropped = apply_errata(current, errata)
    counts = StageCounts(
        stage="mend",
        unit="questions",
        rows=len(current) + len(dropped),
        kept=len(kept),
        dropped=len(dropped),
        failed=0,
    )
    return Outcome(tables={QUESTIONS: kept}, counts=(counts,), dropped=tuple(dropped))


def apply_errata(
    questions: Sequence[Question], errata: Sequence[Erratum]
) -> tuple[list[Question], list[Dropped]]:
    """Replace faulty questions with corrected ones and update the ids of twins.

    Returns:
        All questions, and the faulty ones as dropped rows.
    """
    by_id = {e.question_id: e for e in errata}
    corrected = {q.id: apply_erratum(q, by_id[q.id]) for q in questions if q.id in by_id}
    kept = [
        q.model_copy(update={"twin_id": corrected[q.twin_id].id}) if q.twin_id in corrected else q
        for q in (corrected.get(q.id, q) for q in questions)
    ]
    dropped = [
        drop_question(q, stage="mend", reason="erratum", because_of=corrected[q.id].id)
        for q in questions
        if q.id in corrected
    ]
    return kept, dropped


def apply_erratum(question: Question, erratum: Erratum) -> Question:
    """Return the corrected question.

    Raises:
        InputError: If the new text does not expand to the question's values.
    """
    return reword_question(question, erratum.after, operator=ERRATUM, changed_in=erratum.changed_in)


@dataclass(frozen=True)
class Correction:
    """A new text for a released question."""

    question_id: str
    text: str
    reason: str
    place: str | None = None
    """Row of the file. `None` for a correction on the command line."""


CORRECTION_COLUMNS = ("question_id", "text", "reason")


def read_corrections(path: Path) -> list[Correction]:
    """Read a CSV file with the columns `question_id` (or `id`), `text` and `reason`.

    Raises:
        InputError: If the file is not readable, lacks a column, or has no rows.
    """
    found = []
    for place, row in read_csv_rows(path, CORRECTION_COLUMNS[1:], escaped=True):
        if not {"id", "question_id"} & row.keys():
            raise InputError(
                "the file has no column question_id",
                place=str(path),
                hint=f"the columns are {','.join(CORRECTION_COLUMNS)}",
            )
        question = row.get("question_id") or row.get("id") or ""
        found.append(Correction(question.strip(), row["text"], row["reason"], place))
    if not found:
        raise InputError("the file has no corrections", place=str(path), hint="write one per row")
    return found


def write_errata_of(
    contents: Contents, version: str, corrections: Sequence[Correction], data_dir: Path | None = None
) -> list[Erratum]:
    """Create the errata for many released questions.

    Raises:
        InputError: If corrections cannot be applied. All of them are named.
    """
    errata: list[Erratum] = []
    errors: list[InputError] = []
    released = {q.id for q in _released_questions(contents)}
    places: dict[str, str | None] = {}
    texts: dict[str, str | None] = {}
    for c in corrections:
        try:
            if c.question_id in places:
                raise InputError(f"{c.question_id} is corrected twice", hint=f"see {places[c.question_id]}")
            places[c.question_id] = c.place
            erratum = write_erratum(contents, version, c.question_id, c.text, c.reason, data_dir)
            if erratum.mended_id in released:
                raise InputError(
                    f"the corrected text is that of {erratum.mended_id}", hint="correct it in other words"
                )
            if erratum.mended_id in texts:
                raise InputError(
                    "the corrected text repeats another correction", hint=f"see {texts[erratum.mended_id]}"
                )
            texts[erratum.mended_id] = c.place
            errata.append(erratum)
        except InputError as error:
            parts = [part for part in (c.place, error.place) if part]
            errors.append(InputError(error.message, place=", ".join(parts) or None, hint=error.hint))
    if errors:
        raise explain_rows(errors)
    return errata


def _released_questions(contents: Contents) -> list[Question]:
    return [q for table in (QUESTIONS, HARD_NEGATIVES, CONTROLS) for q in contents.rows(table)]


def write_erratum(
    contents: Contents, version: str, faulty_id: str, text: str, reason: str, data_dir: Path | None = None
) -> Erratum:
    """Create the erratum for one released question.

    With a vocabulary, `{noun}` and other forms of the attribute are written out.

    Raises:
        InputError: If there is no such question or no reason, or if the text is unchanged, does not expand to
            the question's values, or breaks a rule for questions.
    """
    faulty = next((q for q in _released_questions(contents) if q.id == faulty_id), None)
    if faulty is None:
        raise InputError(
            f"the release has no question {faulty_id!r}", hint="the ids are in its `questions` table"
        )
    if not reason.strip():
        raise InputError("an erratum needs a reason", place="--reason")
    template = " ".join(text.split())
    if data_dir is not None:
        template = rebind_text(faulty, template, data_dir)
    if template == faulty.template:
        raise InputError("the text is the same as the released one", place=faulty_id)
    erratum = Erratum(
        question_id=faulty_id,
        mended_id=reworded_id(faulty, template),
        before=faulty.template,
        after=template,
        reason=" ".join(reason.split()),
        changed_in=bump_version(version, "patch"),
    )
    corrected = apply_erratum(faulty, erratum)
    has_rules = faulty.family == "open" and faulty.origin != "imported"  # people write as they like
    if has_rules and (fault := question_fault(corrected)):
        raise InputError(
            f"the corrected text breaks a rule: {fault.replace('_', ' ')}",
            place=faulty_id,
            hint="the rules for questions are listed in docs/methods.md",
        )
    return erratum


# The stage names are part of the keys of finished steps.
ADOPT_STAGE = Stage("adopt", 1, run=load_release_questions)
MEND_STAGE = Stage("mend", 1, run=correct_questions)
REOPEN_STAGE = Stage("reopen", 1, run=load_release_tables)
