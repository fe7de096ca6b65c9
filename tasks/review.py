"""Review: what people settled is done. Questions leave, get their new text, or are confirmed; those that
relabelling could not decide are taken back where people want them.

Names of people never get this far: what they settled together is `people`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.candidates import CANDIDATES
from schemas.decision import DROPPED, Dropped, StageCounts
from schemas.erratum import Erratum
from schemas.label import LABEL_HISTORY, LabelChange
from schemas.question import QUESTIONS, Question
from tasks.reviewing.changes import people_change
from tasks.reviewing.passages import review_sets
from tasks.reviewing.standing import Settlement
from tasks.reviewing.wordings import new_texts, replace_edited
from tasks.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.dropping import drop_question

AMBIGUOUS = ("relabel", "ambiguous")
"""Stage and reason of what only people can settle."""


@dataclass(frozen=True)
class Reviewed:
    """Questions after people's decisions."""

    kept: list[Question]
    dropped: list[Dropped]
    withdrawn: set[str]
    """Ids of dropped rows that hold no longer."""
    changes: list[LabelChange]


def review_questions(
    questions: Sequence[Question],
    settlements: Sequence[Settlement],
    lost: Sequence[Dropped] = (),
    errata: Sequence[Erratum] = (),
) -> Reviewed:
    """The questions that people keep, in the words that they want. `lost`: what was dropped before."""
    decided = {s.subject_id: s for s in settlements if s.subject == "question" and s.settled}
    back = {row.id: q for row in lost if (q := taken_back(row, decided)) is not None}
    gone = {name for row in lost if row.id not in back and (name := question_of(row)) is not None}
    asked = [*questions, *back.values()]
    standing, replaced = replace_edited(asked, new_texts(decided.values(), errata), gone)
    rejected = {q.id for q in standing if _is(decided, q, "drop")}
    labels = {q.id: "ambiguous" for q in back.values()}
    looked_at = {q.id for q in standing if q.id in decided} | {q.id for q in standing} - {q.id for q in asked}
    return Reviewed(
        kept=[_with_standing_twin(q, rejected) for q in standing if q.id not in rejected],
        dropped=[*replaced, *(_reject(q, decided[q.id]) for q in standing if q.id in rejected)],
        withdrawn=set(back),
        changes=[
            _change_of(q, labels.get(q.id, q.label), dropped=q.id in rejected)
            for q in standing
            if q.id in looked_at
        ],
    )


def taken_back(row: Dropped, decided: Mapping[str, Settlement]) -> Question | None:
    """The question of a dropped row that relabelling could not decide and that people keep or reword."""
    name = question_of(row)
    said = decided.get(name or "")
    if (row.stage, row.reason) != AMBIGUOUS or said is None or said.decision not in ("keep", "edit"):
        return None
    return Question.model_validate_json(row.record).model_copy(update={"label": "accepted"})


def question_of(row: Dropped) -> str | None:
    """Id of the question that a dropped row is about."""
    return str(json.loads(row.record)["id"]) if row.kind == "question" else None


def _is(decided: Mapping[str, Settlement], question: Question, decision: str) -> bool:
    return question.id in decided and decided[question.id].decision == decision


def _with_standing_twin(question: Question, rejected: set[str]) -> Question:
    """The dropped twin's record still names this question, as everywhere where one of two is dropped."""
    return question.model_copy(update={"twin_id": None}) if question.twin_id in rejected else question


def _reject(question: Question, settlement: Settlement) -> Dropped:
    return drop_question(question, stage="review", reason=f"review_{settlement.verdict}")


def _change_of(question: Question, before: str, *, dropped: bool) -> LabelChange:
    """A question is judged against nothing but itself."""
    after = "dropped" if dropped else question.label
    return people_change("question", question.id, question.id, step=0, before=before, after=after)


def review(
    context: RunContext,
    questions: TableRef,
    settlements: Sequence[Settlement],
    dropped: Sequence[TableRef] = (),
    errata: Sequence[Erratum] = (),
) -> Outcome:
    """The questions with people's decisions, and the rows of `dropped` that still hold beside its own.

    Where people decided nothing on them, all is as it was, and the funnel has no such stage.
    """
    asked = read_table(questions, QUESTIONS)
    lost = list({row.id: row for ref in dropped for row in read_table(ref, DROPPED)}.values())
    found = review_questions(asked, settlements, lost, errata)
    decided = found.changes or found.dropped
    return Outcome(
        tables={QUESTIONS: found.kept, LABEL_HISTORY: found.changes},
        counts=_count("review", "questions", len(found.kept), len(found.dropped)) if decided else (),
        dropped=(*(row for row in lost if row.id not in found.withdrawn), *found.dropped),
    )


def review_retrieval(
    context: RunContext,
    candidates: TableRef,
    label_history: TableRef,
    dropped: TableRef,
    settlements: Sequence[Settlement],
) -> Outcome:
    """Relabelled rows with people's decisions: theirs come after the judges', and the history has both."""
    found = review_sets(
        read_table(candidates, CANDIDATES),
        read_table(label_history, LABEL_HISTORY),
        read_table(dropped, DROPPED),
        settlements,
    )
    return Outcome(
        tables={CANDIDATES: found.sets, LABEL_HISTORY: found.changes},
        counts=_count("review_retrieval", "passages", found.kept, len(found.dropped))
        if found.changes
        else (),
        dropped=tuple(found.dropped),
    )


def _count(stage: str, unit: str, kept: int, dropped: int) -> tuple[StageCounts, ...]:
    return (StageCounts(stage=stage, unit=unit, rows=kept + dropped, kept=kept, dropped=dropped, failed=0),)


STAGE_RETRIEVAL = Stage("review_retrieval", 1, run=review_retrieval)
STAGE = Stage("review", 1, run=review)
