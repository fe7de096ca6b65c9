"""The quarantine stage: leave out questions that fail a check, instead of stopping the build.

It runs before anything is measured, and only if the recipe enables it. A question is left out with its
answers, verdicts and label history. Failures of the whole release (hashes, the canary, counts, rates) never
quarantine a question. They stop the build later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.answers import JUDGEMENTS, RESPONSES
from schemas.gate import Quarantine
from schemas.labels import DROPPED, LABEL_HISTORY, Dropped, LabelChange, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.tables import canonical_json
from tasks.checks.catalogue import QUARANTINE_CHECKS, Problem
from tasks.checks.columns import find_positions, get_column
from tasks.gate.examination import examine, read_gate_context
from tasks.questions.quality import drop_question
from tasks.release import assign_config
from tasks.run.store import Outcome, RunContext, Stage, Step, TableRef, read_table

QUESTION_COLUMNS: Mapping[str, str] = {
    RESPONSES.name: "question_id",
    JUDGEMENTS.name: "question_id",
    LABEL_HISTORY.name: "subject_id",
}
"""Column of each table that references the question of a row."""


def quarantine(
    context: RunContext,
    *,
    questions: TableRef,
    responses: TableRef,
    judgements: TableRef,
    label_history: TableRef,
    dropped: TableRef,
) -> Outcome:
    """Remove the failing questions and their label history.

    Nothing is removed without `validate.on_failure: quarantine`, or if more questions fail than
    `validate.max_quarantine_rate` allows. In the latter case, the gate stops the build and names all of them.

    Returns:
        The remaining questions and label history, and the `Quarantine` in the notes.
    """
    all_questions = read_table(questions, QUESTIONS)
    changes = read_table(label_history, LABEL_HISTORY)
    if context.recipe.validation.on_failure == "stop":
        return Outcome(tables={QUESTIONS: all_questions, LABEL_HISTORY: changes}, counts=())
    answers = pq.read_table(responses.path)
    answered = set(answers.filter(pc.is_null(answers["failure"]))["question_id"].unique().to_pylist())
    released = [q for q in all_questions if assign_config(q, answered)]
    tables = {
        QUESTIONS.name: QUESTIONS.to_arrow(released),
        RESPONSES.name: _filter_by_question(answers, released),
        JUDGEMENTS.name: _filter_by_question(pq.read_table(judgements.path), released),
        LABEL_HISTORY.name: pq.read_table(label_history.path),
        DROPPED.name: _append_unreleased(pq.read_table(dropped.path), all_questions, released),
    }
    facts = read_gate_context(
        Path(context.data_dir), tables, may_lose_elsewhere=bool(context.recipe.deduplicate.against)
    )
    problems = examine(tables, facts).problems
    failing = find_failing_questions(problems, tables)
    limit = context.recipe.validation.max_quarantine_rate
    quarantined = failing if len(failing) <= limit * len(released) else {}
    result = Quarantine(
        questions=len(released),
        failing=len(failing),
        taken=len(quarantined),
        limit=limit,
        checks=dict(sorted(Counter(failing.values()).items())),
    )
    private = questions_failing("personal_data", problems)
    kept, lost = remove_failing(all_questions, quarantined, private=private)
    counts = StageCounts(
        stage="quarantine",
        unit="questions",
        rows=len(all_questions),
        kept=len(kept),
        dropped=len(lost),
        failed=0,
    )
    return Outcome(
        tables={QUESTIONS: kept, LABEL_HISTORY: remove_history(changes, quarantined)},
        counts=(counts,),
        dropped=tuple(lost),
        notes=result.model_dump_json(),
    )


STAGE = Stage(
    "quarantine",
    1,
    run=quarantine,
    reads=("validation", "deduplicate"),
    vocabulary=("attributes", "rubrics"),
)


def read_quarantine(step: Step) -> Quarantine | None:
    """Return the result of a finished step, or `None` if the recipe does not enable the quarantine."""
    return None if step.notes == "{}" else Quarantine.model_validate_json(step.notes)


def _filter_by_question(rows: pa.Table, questions: Iterable[Question]) -> pa.Table:
    ids = pa.array([q.id for q in questions], pa.string())
    return rows.filter(pc.is_in(rows["question_id"], value_set=ids))


def _append_unreleased(
    dropped: pa.Table, questions: Iterable[Question], released: Iterable[Question]
) -> pa.Table:
    """Append the questions that no config will take, so that references to them are valid."""
    ids = {q.id for q in released}
    unreleased = [
        drop_question(q, stage="assemble", reason="no_config") for q in questions if q.id not in ids
    ]
    return pa.concat_tables([dropped, DROPPED.to_arrow(unreleased)])


def find_failing_questions(problems: Iterable[Problem], tables: Mapping[str, pa.Table]) -> dict[str, str]:
    """Return the first failed check by the id of each failing question.

    A question fails if it, or a row that references it, has an error in one of the `QUARANTINE_CHECKS`.
    """
    known = set(tables[QUESTIONS.name]["id"].to_pylist())
    failing: dict[str, str] = {}
    for problem in problems:
        if problem.severity == "error" and problem.check in QUARANTINE_CHECKS:
            for question in _questions_behind(problem, tables, known):
                failing.setdefault(question, problem.check)
    return dict(sorted(failing.items()))


def _questions_behind(problem: Problem, tables: Mapping[str, pa.Table], known: set[str]) -> Iterator[str]:
    yield from known & set(problem.rows)
    table = problem.table.split(".")[0]
    if table in QUESTION_COLUMNS:
        rows = tables[table]
        positions = find_positions(pa.array(problem.rows, pa.string()), get_column(rows, "id"))
        subjects = rows[QUESTION_COLUMNS[table]].take(pa.array(positions[positions >= 0])).to_pylist()
        yield from known & set(subjects)


def questions_failing(check: str, problems: Iterable[Problem]) -> frozenset[str]:
    """Return the ids of the questions with text that fails a check."""
    return frozenset(
        row for p in problems if p.check == check and p.table.startswith(QUESTIONS.name) for row in p.rows
    )


def remove_failing(
    questions: Sequence[Question], failing: Mapping[str, str], *, private: Collection[str] = ()
) -> tuple[list[Question], list[Dropped]]:
    """Split questions into remaining ones and dropped rows. References to failing twins are removed.

    Args:
        questions: All questions.
        failing: Failed check by id, which becomes the reason of the dropped row.
        private: Ids of questions with personal data. Their dropped rows have no content.
    """
    kept = [
        q.model_copy(update={"twin_id": None}) if q.twin_id in failing else q
        for q in questions
        if q.id not in failing
    ]
    dropped = [drop_question(q, stage="validate", reason=failing[q.id]) for q in questions if q.id in failing]
    ids = [q.id for q in questions if q.id in failing]
    return kept, [
        _redact(row, name) if name in private else row for row, name in zip(dropped, ids, strict=True)
    ]


def _redact(row: Dropped, question_id: str) -> Dropped:
    return row.model_copy(update={"text": "", "record": canonical_json({"id": question_id})})


def remove_history(changes: Iterable[LabelChange], subjects: Collection[str]) -> list[LabelChange]:
    """Return the label history without that of the given subjects."""
    return [c for c in changes if c.subject_id not in subjects]
