"""Assemble the tables of a release, and account for every question."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Effect
from schemas.errors import GateError
from schemas.labels import DROPPED, LABEL_HISTORY, Dropped, LabelChange, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.tables import R, Row, Table
from tasks.questions.quality import drop_question
from tasks.release import CONTROLS, HARD_NEGATIVES, QUESTION_CONFIGS, assign_config
from tasks.run.store import ArrowRows, Outcome, RunContext, Stage, TableRef, read_arrow, read_table

Released = Mapping[str, Sequence[Question]]
"""Questions by config."""


def split_by_label(
    questions: Iterable[Question], answered: Collection[str]
) -> tuple[dict[str, list[Question]], list[Dropped]]:
    """Assign every question to its config. Drop the others with a reason.

    Args:
        questions: Questions with their labels.
        answered: Ids of questions with at least one answer.
    """
    released: dict[str, list[Question]] = {config: [] for config in QUESTION_CONFIGS}
    dropped = []
    for question in sorted(questions, key=by_subject):
        config = assign_config(question, answered)
        if config is None:
            stage, reason = reason_against(question)
            dropped.append(drop_question(question, stage=stage, reason=reason))
        else:
            released[config].append(question)
    return released, dropped


def reason_against(question: Question) -> tuple[str, str]:
    """Return the stage and the reason of a question without a config."""
    if question.family != "open":
        return "respond", "not_answered"
    if question.fitness is None:
        return "judge", "not_judged"
    return "select", "below_threshold"


def account_for(generated: Iterable[Question], released: Released, dropped: Iterable[Dropped]) -> None:
    """Check that every question is either released in one config or dropped.

    A dropped row with its own id as `because_of` is a repetition and does not count.

    Raises:
        GateError: If a question is in no place or in several.
    """
    ends: dict[str, set[str]] = {question_id: set() for question_id in sorted({q.id for q in generated})}
    for config, questions in released.items():
        for question in questions:
            if question.id not in ends:
                raise GateError(
                    f"question {question.id} is released in {config}, but no stage generated it",
                    hint="pass the tables of every stage that generates questions to `assemble`",
                )
            ends[question.id].add(config)
    for question_id, because_of in lost_questions(dropped):
        if question_id in ends and because_of != question_id:
            ends[question_id].add(DROPPED.name)
    for question_id, places in ends.items():
        if len(places) != 1:
            found = "in " + " and ".join(sorted(places)) if places else "neither released nor dropped"
            raise GateError(
                f"question {question_id} must be in exactly one place, but is {found}",
                hint="this is a bug in a stage: please report it with the run directory",
            )


def lost_questions(dropped: Iterable[Dropped]) -> list[tuple[str, str | None]]:
    """Return (question id, `because_of`) of every dropped question."""
    return [(json.loads(d.record)["id"], d.because_of) for d in dropped if d.kind == "question"]


def gather(refs: Iterable[TableRef], table: Table[R]) -> list[R]:
    """Return the rows of several tables, each key once. Raise `GateError` if rows of a key differ."""
    rows: dict[Any, R] = {}
    for ref in refs:
        for row in read_table(ref, table):
            key = getattr(row, table.key)
            if rows.setdefault(key, row) != row:
                raise GateError(
                    f"{table.name}: two different rows have the {table.key} {key}", place=ref.path
                )
    return list(rows.values())


def gather_arrow(refs: Sequence[TableRef], table: Table[R]) -> ArrowRows[R]:
    """Return the rows of several tables like `gather`, in Arrow memory."""
    if len(refs) == 1:
        data = read_arrow(refs[0], table)
        if data is not None and len(pc.unique(data[table.key])) == data.num_rows:
            return ArrowRows(table, data)
    return ArrowRows(table, table.to_arrow(gather(refs, table)))


def of_released(
    table: Table[R], rows: ArrowRows[R], released: Released, order: Sequence[str]
) -> ArrowRows[R]:
    """Return the responses or judgements of released questions, sorted by these columns."""
    ids = pa.array({question.id for questions in released.values() for question in questions}, pa.string())
    kept = rows.data.filter(pc.is_in(rows.data["question_id"], ids))
    keys = pa.table({name: _sortable(kept[name]) for name in order})
    return ArrowRows(table, kept.take(pc.sort_indices(keys, [(name, "ascending") for name in order])))


def _sortable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column that Arrow can sort. Lists of small numbers become texts with the same order."""
    if not pa.types.is_list(column.type):
        return column
    return pa.chunked_array(
        [pa.array([",".join(f"{n:05}" for n in row) for row in column.to_pylist()], pa.string())]
    )


def by_subject(q: Question) -> tuple[Any, ...]:
    """Sort key of questions."""
    return (q.family, q.attribute, q.superdomain, q.domain, q.topic, q.control, q.framing, q.id)


BY_ANSWERER = ("question_id", "phase", "model", "variant", "sample", "id")
"""Order of responses."""
BY_JUDGE = ("question_id", "phase", "judge", "target", "repeat", "order", "id")
"""Order of judgements."""


def by_step(c: LabelChange) -> tuple[Any, ...]:
    """Sort key of label changes."""
    return (c.query_id, c.subject_id, c.step, c.id)


def by_reason(d: Dropped) -> tuple[Any, ...]:
    """Sort key of dropped rows."""
    return (d.stage, d.reason, d.kind, d.id)


def by_slice(e: Effect) -> tuple[Any, ...]:
    """Sort key of effects."""
    return (e.level, e.name, e.family, e.attribute, e.model, e.metric, e.id)


def assemble(
    context: RunContext,
    *,
    generated: Sequence[TableRef],
    questions: TableRef,
    responses: Sequence[TableRef],
    judgements: Sequence[TableRef],
    label_history: Sequence[TableRef],
    dropped: Sequence[TableRef],
    effects: TableRef | None,
) -> Outcome:
    """Make the tables of a release, one per config, sorted.

    Answers and judgements of questions that are not released stay in the run directory, and are counted.

    Args:
        context: Context of the run.
        generated: Questions of every stage that generates some.
        questions: The final questions with their labels.
        responses: Responses of all stages.
        judgements: Judgements of all stages.
        label_history: Label changes.
        dropped: Dropped rows of all stages.
        effects: Measured effects.

    Raises:
        GateError: If a question is not accounted for, or rows with the same key differ.
    """
    answers = gather_arrow(responses, RESPONSES)
    verdicts = gather_arrow(judgements, JUDGEMENTS)
    labelled = read_table(questions, QUESTIONS)
    answered = answers.data.filter(pc.is_null(answers.data["failure"]))["question_id"]
    released, left = split_by_label(labelled, set(pc.unique(answered).to_pylist()))
    lost = gather(dropped, DROPPED) + left
    account_for(gather_generated(generated), released, lost)
    kept_answers = of_released(RESPONSES, answers, released, BY_ANSWERER)
    kept_verdicts = of_released(JUDGEMENTS, verdicts, released, BY_JUDGE)
    measured = sorted(gather([effects] if effects else [], EFFECTS), key=by_slice)
    history = sorted(gather(label_history, LABEL_HISTORY), key=by_step)
    return Outcome(
        tables={
            QUESTIONS: released[QUESTIONS.name],
            HARD_NEGATIVES: released[HARD_NEGATIVES.name],
            CONTROLS: released[CONTROLS.name],
            RESPONSES: kept_answers,
            JUDGEMENTS: kept_verdicts,
            EFFECTS: measured,
            LABEL_HISTORY: history,
        },
        counts=(
            _counts("assemble", "questions", len(labelled), len(labelled) - len(left)),
            _counts("assemble_responses", "responses", len(answers), len(kept_answers)),
            _counts("assemble_judgements", "judgements", len(verdicts), len(kept_verdicts)),
        ),
        dropped=tuple(sorted(lost, key=by_reason)),
    )


def gather_generated(refs: Iterable[TableRef]) -> list[Question]:
    """Return every generated question once. Its scores and labels may differ between the tables."""
    return list({q.id: q for ref in refs for q in read_table(ref, QUESTIONS)}.values())


def _counts(stage: str, unit: str, rows: int, kept: int) -> StageCounts:
    return StageCounts(stage=stage, unit=unit, rows=rows, kept=kept, dropped=rows - kept, failed=0)


STAGE = Stage("assemble", 1, run=assemble)


# Gather: merge the tables of several steps.


TABLES: dict[str, Table[Any]] = {
    table.name: table for table in (QUESTIONS, RESPONSES, JUDGEMENTS, LABEL_HISTORY, DROPPED)
}


def gather_tables(context: RunContext, parts: Sequence[TableRef]) -> Outcome:
    """Merge tables of one kind, sorted by key. Of rows with the same key, the last is kept.

    Raises:
        ValueError: If there are no parts, or parts of several kinds.
    """
    (name,) = {part.table for part in parts}
    table = TABLES[name]
    if table is not DROPPED and (merged := merge_by_key(parts, table)) is not None:
        return Outcome(tables={table: ArrowRows(table, merged)}, counts=())
    rows: dict[str, Row] = {}
    for part in parts:
        for row in read_table(part, table):
            rows[getattr(row, table.key)] = row
    ordered = [rows[key] for key in sorted(rows)]
    if table is DROPPED:
        return Outcome(tables={}, counts=(), dropped=tuple(r for r in ordered if isinstance(r, Dropped)))
    return Outcome(tables={table: ordered}, counts=())


def merge_by_key(parts: Sequence[TableRef], table: Table[Any]) -> pa.Table | None:
    """Return the rows of all parts sorted by key, the last of each key, without making records of them.

    Returns `None` if a part was written by another version.
    """
    tables = [read_arrow(part, table) for part in parts]
    if any(data is None for data in tables):
        return None
    whole = pa.concat_tables(tables)
    numbered = whole.select([table.key]).append_column("row", pa.array(range(whole.num_rows), pa.int64()))
    order = pc.sort_indices(numbered, [(table.key, "ascending"), ("row", "ascending")])
    keys = numbered[table.key].take(order).combine_chunks()
    if len(keys) > 1:
        is_last = pa.concat_arrays([pc.not_equal(keys[:-1], keys[1:]), pa.array([True])])
        order = order.filter(is_last)
    return whole.take(order)


STAGE_GATHER = Stage("gather", 1, run=gather_tables)
