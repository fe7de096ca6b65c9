"""Which questions stand behind the rows that fail, so that a release can go on without them."""

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
from tasks.checks.catalogue import OF_ROWS, Problem
from tasks.checks.columns import column, lookup
from tasks.gate.examination import (
    Examination,
    KnownVocabulary,
    examine,
    known_attributes,
    known_scales,
    known_vocabulary_words,
)
from tasks.questions.quality import drop_question
from tasks.release import config_of
from tasks.run.store import Outcome, RunContext, Stage, Step, TableRef, read_table

SUBJECTS: Mapping[str, str] = {
    RESPONSES.name: "question_id",
    JUDGEMENTS.name: "question_id",
    LABEL_HISTORY.name: "subject_id",
}
"""By table, the column that names the question of a row."""


def failing_questions(problems: Iterable[Problem], tables: Mapping[str, pa.Table]) -> dict[str, str]:
    """Id of every question that fails a check of rows by itself or by a row that belongs to it, and the first
    such check. What concerns the whole (hashes, counts, rates) is no fault of any question, nor is a row
    whose question is not at hand."""
    known = set(tables[QUESTIONS.name]["id"].to_pylist())
    found: dict[str, str] = {}
    for problem in problems:
        if problem.severity == "error" and problem.check in OF_ROWS:
            for question in _behind(problem, tables, known):
                found.setdefault(question, problem.check)
    return dict(sorted(found.items()))


def questions_telling(check: str, problems: Iterable[Problem]) -> frozenset[str]:
    """Ids of the questions that fail that check by what they say."""
    return frozenset(
        row for p in problems if p.check == check and p.table.startswith(QUESTIONS.name) for row in p.rows
    )


def _behind(problem: Problem, tables: Mapping[str, pa.Table], known: set[str]) -> Iterator[str]:
    yield from known & set(problem.rows)
    table = problem.table.split(".")[0]
    if table in SUBJECTS:
        rows = tables[table]
        places = lookup(pa.array(problem.rows, pa.string()), column(rows, "id"))
        subjects = rows[SUBJECTS[table]].take(pa.array(places[places >= 0])).to_pylist()
        yield from known & set(subjects)


# Quarantine: where the recipe says so, questions that fail a check leave before anything is measured of
# them, instead of stopping the build.
#
# A question leaves whole: with its answers, its verdicts and its label history. What concerns the release
# as a
# whole (hashes, the canary, counts, rates of failure) is never a reason to leave, and stops the build later.


def quarantine(
    context: RunContext,
    *,
    questions: TableRef,
    responses: TableRef,
    judgements: TableRef,
    label_history: TableRef,
    dropped: TableRef,
) -> Outcome:
    """Questions and label history to go on with. Without `validate.on_failure: quarantine` these are the ones
    given, and so they are where more questions fail than `validate.max_quarantine_rate` allows: then the gate
    stops the build, and names them all. The notes hold the `Quarantine`."""
    standing = read_table(questions, QUESTIONS)
    changes = read_table(label_history, LABEL_HISTORY)
    if context.recipe.validation.on_failure == "stop":
        return Outcome(tables={QUESTIONS: standing, LABEL_HISTORY: changes}, counts=())
    answers = pq.read_table(responses.path)
    answered = set(answers.filter(pc.is_null(answers["failure"]))["question_id"].unique().to_pylist())
    released = [q for q in standing if config_of(q, answered)]
    tables = {
        QUESTIONS.name: QUESTIONS.to_arrow(released),
        RESPONSES.name: _of(answers, released),
        JUDGEMENTS.name: _of(pq.read_table(judgements.path), released),
        LABEL_HISTORY.name: pq.read_table(label_history.path),
        DROPPED.name: _with(pq.read_table(dropped.path), standing, released),
    }
    found = _examined(context, tables)
    failing = failing_questions(found.problems, tables)
    limit = context.recipe.validation.max_quarantine_rate
    taken = failing if len(failing) <= limit * len(released) else {}
    told = Quarantine(
        questions=len(released),
        failing=len(failing),
        taken=len(taken),
        limit=limit,
        checks=dict(sorted(Counter(failing.values()).items())),
    )
    kept, lost = take_out(standing, taken, private=questions_telling("personal_data", found.problems))
    counts = StageCounts(
        stage="quarantine",
        unit="questions",
        rows=len(standing),
        kept=len(kept),
        dropped=len(lost),
        failed=0,
    )
    return Outcome(
        tables={QUESTIONS: kept, LABEL_HISTORY: history_without(changes, taken)},
        counts=(counts,),
        dropped=tuple(lost),
        notes=told.model_dump_json(),
    )


def _of(rows: pa.Table, questions: Iterable[Question]) -> pa.Table:
    """The rows of those questions."""
    ids = pa.array([q.id for q in questions], pa.string())
    return rows.filter(pc.is_in(rows["question_id"], value_set=ids))


def _with(dropped: pa.Table, standing: Iterable[Question], released: Iterable[Question]) -> pa.Table:
    """Dropped rows, and the questions that will be dropped because no config takes them: what refers to them
    does not point nowhere."""
    ids = {q.id for q in released}
    left = [drop_question(q, stage="assemble", reason="no_config") for q in standing if q.id not in ids]
    return pa.concat_tables([dropped, DROPPED.to_arrow(left)])


def _examined(context: RunContext, tables: Mapping[str, pa.Table]) -> Examination:
    data_dir = Path(context.data_dir)
    knowledge = KnownVocabulary(
        attributes=known_attributes(data_dir, tables),
        scales=known_scales(data_dir, tables),
        words=known_vocabulary_words(data_dir),
        may_lose_elsewhere=bool(context.recipe.deduplicate.against),
    )
    return examine(tables, knowledge)


def take_out(
    questions: Sequence[Question], failing: Mapping[str, str], *, private: Collection[str] = ()
) -> tuple[list[Question], list[Dropped]]:
    """The questions without the failing ones, twins no longer linked to them; and these as dropped rows, for
    the check that they failed. `private`: those that hold personal data, which the row does not repeat."""
    kept = [
        q.model_copy(update={"twin_id": None}) if q.twin_id in failing else q
        for q in questions
        if q.id not in failing
    ]
    dropped = [drop_question(q, stage="validate", reason=failing[q.id]) for q in questions if q.id in failing]
    lost = [q.id for q in questions if q.id in failing]
    return kept, [
        _untold(row, name) if name in private else row for row, name in zip(dropped, lost, strict=True)
    ]


def _untold(row: Dropped, question_id: str) -> Dropped:
    return row.model_copy(update={"text": "", "record": canonical_json({"id": question_id})})


def history_without(changes: Iterable[LabelChange], taken: Collection[str]) -> list[LabelChange]:
    """The label history without that of the questions taken out."""
    return [c for c in changes if c.subject_id not in taken]


def quarantine_of(step: Step) -> Quarantine | None:
    """What a finished step took out; `None` where the recipe has no quarantine."""
    return None if step.notes == "{}" else Quarantine.model_validate_json(step.notes)


STAGE = Stage(
    "quarantine",
    1,
    run=quarantine,
    reads=("validation", "deduplicate"),
    vocabulary=("attributes", "rubrics"),
)
