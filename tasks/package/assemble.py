"""Assemble: what is left becomes the tables of a release, and every question is accounted for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Effect, Judgement, Response
from schemas.errors import GateError
from schemas.labels import DROPPED, LABEL_HISTORY, Dropped, LabelChange, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.tables import R, Row, Table
from tasks.questions.quality import drop_question
from tasks.release import CONTROLS, HARD_NEGATIVES, QUESTION_CONFIGS, assign_config
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table

A = TypeVar("A", Response, Judgement)

Released = Mapping[str, Sequence[Question]]
"""Questions by the config that they are released in."""


def split_by_label(
    questions: Iterable[Question], answered: Collection[str]
) -> tuple[dict[str, list[Question]], list[Dropped]]:
    """Every question to its config, or out with the reason why it has none. `answered`: question ids."""
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
    """Stage and reason for a question that no config takes."""
    if question.family != "open":
        return "respond", "not_answered"
    if question.fitness is None:
        return "judge", "not_judged"
    return "select", "below_threshold"


def account_for(generated: Iterable[Question], released: Released, dropped: Iterable[Dropped]) -> None:
    """Raise `GateError` naming the first question that does not end in exactly one place.

    A dropped row that lost to its own id says that a question was made twice, and is no end of its own.
    """
    ends: dict[str, set[str]] = {question_id: set() for question_id in sorted({q.id for q in generated})}
    for config, questions in released.items():
        for question in questions:
            if question.id not in ends:
                raise GateError(
                    f"question {question.id} is released in {config}, but no stage made it",
                    hint="give `assemble` the tables of every stage that makes questions",
                )
            ends[question.id].add(config)
    for question_id, because_of in lost_questions(dropped):
        if question_id in ends and because_of != question_id:
            ends[question_id].add(DROPPED.name)
    for question_id, places in ends.items():
        if len(places) != 1:
            where = " and ".join(sorted(places)) if places else "nowhere: neither released nor dropped"
            raise GateError(
                f"question {question_id} must end in one place, and ends in {where}",
                hint="this is a defect of a stage: please report it with the run directory",
            )


def lost_questions(dropped: Iterable[Dropped]) -> list[tuple[str, str | None]]:
    """(id of the question, id of what it lost to) of every dropped question."""
    return [(json.loads(d.record)["id"], d.because_of) for d in dropped if d.kind == "question"]


def gather(refs: Iterable[TableRef], table: Table[R]) -> list[R]:
    """All rows of several tables, each key once. Raises `GateError` where two rows of one key differ."""
    rows: dict[Any, R] = {}
    for ref in refs:
        for row in read_table(ref, table):
            key = getattr(row, table.key)
            if rows.setdefault(key, row) != row:
                raise GateError(
                    f"{table.name}: two different rows have the {table.key} {key}", place=ref.path
                )
    return list(rows.values())


def of_released(rows: Iterable[A], released: Released) -> list[A]:
    """Responses or judgements of the questions that are released."""
    ids = {question.id for questions in released.values() for question in questions}
    return [row for row in rows if row.question_id in ids]


def by_subject(q: Question) -> tuple[Any, ...]:
    return (q.family, q.attribute, q.superdomain, q.domain, q.topic, q.control, q.framing, q.id)


def by_answerer(r: Response) -> tuple[Any, ...]:
    return (r.question_id, r.phase, r.model, r.variant, r.sample, r.id)


def by_judge(j: Judgement) -> tuple[Any, ...]:
    return (j.question_id, j.phase, j.judge, j.target, j.repeat, j.order, j.id)


def by_step(c: LabelChange) -> tuple[Any, ...]:
    return (c.query_id, c.subject_id, c.step, c.id)


def by_reason(d: Dropped) -> tuple[Any, ...]:
    return (d.stage, d.reason, d.kind, d.id)


def by_slice(e: Effect) -> tuple[Any, ...]:
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
    """The release's tables, one a config, sorted.

    `generated`: what every stage that makes questions kept; `questions`: where they stand now, with labels;
    `dropped`: what every stage dropped. Answers and verdicts go with their question: those of questions
    that are not released stay in the run directory, and are counted.
    """
    answers = gather(responses, RESPONSES)
    verdicts = gather(judgements, JUDGEMENTS)
    standing = read_table(questions, QUESTIONS)
    released, left = split_by_label(standing, {r.question_id for r in answers if r.failure is None})
    lost = gather(dropped, DROPPED) + left
    account_for(gather_generated(generated), released, lost)
    kept_answers = sorted(of_released(answers, released), key=by_answerer)
    kept_verdicts = sorted(of_released(verdicts, released), key=by_judge)
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
            _counts("assemble", "questions", len(standing), len(standing) - len(left)),
            _counts("assemble_responses", "responses", len(answers), len(kept_answers)),
            _counts("assemble_judgements", "judgements", len(verdicts), len(kept_verdicts)),
        ),
        dropped=tuple(sorted(lost, key=by_reason)),
    )


def gather_generated(refs: Iterable[TableRef]) -> list[Question]:
    """Every question that was ever made, once: scores and labels may differ between its tables."""
    return list({q.id: q for ref in refs for q in read_table(ref, QUESTIONS)}.values())


def _counts(stage: str, unit: str, rows: int, kept: int) -> StageCounts:
    return StageCounts(stage=stage, unit=unit, rows=rows, kept=kept, dropped=rows - kept, failed=0)


STAGE = Stage("assemble", 1, run=assemble)


# Gather: the tables of several steps become one. A row that stands in more than one counts once.


TABLES: dict[str, Table[Any]] = {
    table.name: table for table in (QUESTIONS, RESPONSES, JUDGEMENTS, LABEL_HISTORY, DROPPED)
}


def gather_gather(context: RunContext, parts: Sequence[TableRef]) -> Outcome:
    """One table of all rows of the parts, in the order of their keys; of equal keys the last part wins.

    `parts` hold one kind of table. Raises `ValueError` for none, or for a mixture.
    """
    (name,) = {part.table for part in parts}
    table = TABLES[name]
    rows: dict[str, Row] = {}
    for part in parts:
        for row in read_table(part, table):
            rows[getattr(row, table.key)] = row
    ordered = [rows[key] for key in sorted(rows)]
    if table is DROPPED:
        return Outcome(tables={}, counts=(), dropped=tuple(r for r in ordered if isinstance(r, Dropped)))
    return Outcome(tables={table: ordered}, counts=())


STAGE_GATHER = Stage("gather", 1, run=gather_gather)
