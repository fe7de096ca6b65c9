"""A label that people decided, as an entry of its history."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path

from schemas.errors import InputError
from schemas.labels import (
    CANDIDATES,
    DROPPED,
    LABEL_HISTORY,
    CandidateSet,
    Dropped,
    LabelChange,
    Passage,
    StageCounts,
    SubjectKind,
)
from schemas.question import QUESTIONS, Erratum, Question, Variant
from schemas.recipe import Review
from schemas.tables import Row, content_id, derived_seed
from tasks.files.vocabulary import read_attribute
from tasks.questions.quality import drop_question, question_fault, reworded
from tasks.release import ERRATUM
from tasks.review.events import Settlement
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.slots import bind_forms

PEOPLE = "people"
"""Who decided: never a name, as a release tells nobody's."""
REVIEWED = "reviewed"


def people_change(
    kind: SubjectKind, subject_id: str, query_id: str, *, step: int, before: str, after: str
) -> LabelChange:
    """One entry; `before` and `after` are equal where people confirmed a label."""
    return LabelChange(
        id=content_id("lc", kind, subject_id, query_id, step, before, after, REVIEWED, PEOPLE),
        subject_id=subject_id,
        subject_kind=kind,
        query_id=query_id,
        step=step,
        before=before,
        after=after,
        reason=REVIEWED,
        judge=PEOPLE,
        evidence=None,
        stage="review",
    )


# How much people must look at before a release is made.


def accepted_questions(questions: Iterable[Question]) -> list[str]:
    """Ids of the accepted open questions, in order: those that the demanded share is of."""
    return sorted(
        q.id for q in questions if q.family == "open" and q.label == "accepted" and q.control == "none"
    )


def reviews_needed(section: Review, accepted: int) -> int:
    """How many of so many accepted questions people must settle."""
    return ceil(round(section.share * accepted, 9)) if section.required else 0


# A reviewer's new wording of a question: expanded and checked as the generator's own questions are.


BY_REVIEW = "review"
"""The operator of a question that a reviewer reworded."""
LONGEST = 20_000
"""Characters that a wording may have before anything looks at it."""


@dataclass(frozen=True)
class Wording:
    """What a new text comes to. With a fault it becomes no question."""

    template: str
    variants: tuple[Variant, ...] = ()
    question_id: str | None = None
    fault: str | None = None
    """Why not, in words."""
    hint: str | None = None


def reword(question: Question, text: str, *, known: Collection[str], data_dir: Path) -> Wording:
    """The question that the text would make, or why it makes none. Slots are written out (`{{a/b}}`), or as
    forms of the attribute (`{noun}`). `known`: ids of questions that there are."""
    template = " ".join(text.split())
    if len(template) > LONGEST:
        return Wording(template[:LONGEST], fault="far too long")
    try:
        template = _bind(question, template, data_dir)
        new = reworded(question, template, operator=BY_REVIEW)
    except InputError as error:
        return Wording(template, fault=error.message, hint=error.hint)
    if new.id == question.id:
        return Wording(template, new.variants, fault="that is the text as it stands")
    if new.id in known:
        return Wording(template, new.variants, fault=f"another question asks this: {new.id}")
    fault = question_fault(new) if question.family == "open" else None
    if fault is not None:
        return Wording(template, new.variants, fault=f"breaks a rule: {fault.replace('_', ' ')}")
    return Wording(template, new.variants, new.id)


def _bind(question: Question, template: str, data_dir: Path) -> str:
    """Forms written out; left as they are where the vocabulary does not know the attribute (any longer)."""
    try:
        attribute = read_attribute(data_dir, question.attribute)
    except InputError:
        return template
    return bind_forms(
        template,
        attribute,
        question.values,
        name_seed=derived_seed("review", question.id),
        keep_equal=question.control == "a_a",
    )


# Questions in the words that people want: the last wording stands, all earlier ones are dropped for it.


EDITED = "review_edited"
"""Reason for a wording that another one took the place of."""
OPERATOR = "review"


class NewText(Row):
    """A text that takes the place of another."""

    template: str
    operator: str = OPERATOR
    changed_in: str | None = None


def new_texts(decided: Iterable[Settlement], errata: Iterable[Erratum]) -> dict[str, NewText]:
    """The text that takes the place of a question's, by the question's id. What people wrote may have been
    mended after its release."""
    mended = {
        e.question_id: NewText(template=e.after, operator=ERRATUM, changed_in=e.changed_in) for e in errata
    }
    return mended | {s.subject_id: NewText(template=s.template) for s in decided if s.template}


def replace_edited(
    questions: Sequence[Question], texts: Mapping[str, NewText], gone: Set[str]
) -> tuple[list[Question], list[Dropped]]:
    """Every question in its last words, twins linked anew; and all earlier wordings as dropped rows.

    Where two questions come to the same text, or one to a text that is there, one stays; none where it comes
    to a question that is `gone` (ids of questions that were dropped before).
    """
    wordings = {q.id: last_wordings(q, texts) for q in questions}
    taken = {q.id for q in questions if len(wordings[q.id]) == 1} | gone
    now: dict[str | None, str | None] = {}
    standing: list[Question] = []
    for question in questions:
        *earlier, last = wordings[question.id]
        stays = not earlier or last.id not in taken
        now[question.id] = last.id if stays else None
        if stays:
            standing.append(last)
            taken.add(last.id)
    linked = [q.model_copy(update={"twin_id": now.get(q.twin_id, q.twin_id)}) for q in standing]
    return linked, drop_earlier_wordings(wordings.values())


def last_wordings(question: Question, texts: Mapping[str, NewText]) -> list[Question]:
    """The question, and every wording that took its place; a wording that comes back ends it there."""
    found = [question]
    while (text := texts.get(found[-1].id)) is not None:
        new = reworded(found[-1], text.template, operator=text.operator, changed_in=text.changed_in)
        back = next((i for i, q in enumerate(found) if q.id == new.id), None)
        if back is not None:
            return found[: back + 1]
        found.append(new)
    return found


def drop_earlier_wordings(wordings: Iterable[Sequence[Question]]) -> list[Dropped]:
    """Each earlier wording once, lost to the next one; what was asked goes before what was only written."""
    steps = [(i, old, new) for found in wordings for i, (old, new) in enumerate(pairwise(found))]
    lost: dict[str, Dropped] = {}
    for _, old, new in sorted(steps, key=lambda step: step[0]):
        if old.id not in lost:
            lost[old.id] = drop_question(old, stage="review", reason=EDITED, because_of=new.id)
    return list(lost.values())


# Passages that people judged: their word comes after the relabelling's, and the rows follow it.


LABELS = {"answers": "positive", "helps": "removed", "does_not_answer": "hard_negative"}
"""What people's decisions make of a passage."""
Pair = tuple[str, str]
"""A query's id and a passage's."""


@dataclass(frozen=True)
class ReviewedSets:
    """Rows after people's decisions."""

    sets: list[CandidateSet]
    changes: list[LabelChange]
    dropped: list[Dropped]
    kept: int
    """Passages that people decided on and that stand in a row, counted row by row."""


def review_sets(
    sets: Sequence[CandidateSet],
    history: Sequence[LabelChange],
    dropped: Sequence[Dropped],
    settlements: Sequence[Settlement],
) -> ReviewedSets:
    """Every row with its passages where people want them. A passage that the relabelling removed, and that
    people want back, comes back into the rows of its query that are left."""
    wanted = {(s.query_id, s.subject_id): LABELS[s.decision] for s in settlements if s.decision in LABELS}
    last = last_labels(history)
    removed = _removed_passages(dropped, last)
    changes: dict[Pair, LabelChange] = {}
    after, lost, kept = [], [], 0
    for row in sets:
        here = _places(row, removed)
        decided = {p.id: wanted[pair] for p, _ in here if (pair := (row.query_id, p.id)) in wanted}
        for passage, label in here:
            if passage.id not in decided:
                continue
            pair = (row.query_id, passage.id)
            step, before = last.get(pair, (-1, label))
            changes[pair] = people_change(
                "passage", passage.id, row.query_id, step=step + 1, before=before, after=decided[passage.id]
            )
        labelled = [(p, decided.get(p.id, label)) for p, label in here]
        after.append(_row_of(row, labelled))
        out = [p for p, label in here if label != "removed" and decided.get(p.id) == "removed"]
        lost += [_drop(row, passage) for passage in out]
        kept += sum(label != "removed" for label in decided.values())
    return ReviewedSets(after, [changes[pair] for pair in sorted(changes)], lost, kept)


def last_labels(history: Sequence[LabelChange]) -> dict[Pair, tuple[int, str]]:
    """The last step of each passage for each query, and the label that it ended in."""
    last: dict[Pair, tuple[int, str]] = {}
    for change in history:
        pair = (change.query_id, change.subject_id)
        if change.subject_kind == "passage" and change.step >= last.get(pair, (-1, ""))[0]:
            last[pair] = (change.step, change.after)
    return last


def _removed_passages(
    dropped: Sequence[Dropped], last: Mapping[Pair, tuple[int, str]]
) -> dict[str, list[Passage]]:
    """By query the passages that the relabelling took out."""
    texts = {p.id: p for d in dropped if d.kind == "passage" for p in [Passage.model_validate_json(d.record)]}
    found: dict[str, list[Passage]] = defaultdict(list)
    for (query, passage_id), (_, label) in sorted(last.items()):
        if label == "removed" and passage_id in texts:
            found[query].append(texts[passage_id])
    return found


def _places(row: CandidateSet, removed: Mapping[str, Sequence[Passage]]) -> list[tuple[Passage, str]]:
    """Every passage of a row with its label now; those that were removed from it last."""
    here = [(p, "positive") for p in row.positives] + [(p, "hard_negative") for p in row.negatives]
    ids = {p.id for p, _ in here}
    return here + [(p, "removed") for p in removed.get(row.query_id, ()) if p.id not in ids]


def _row_of(row: CandidateSet, labelled: Sequence[tuple[Passage, str]]) -> CandidateSet:
    positives = tuple(p for p, label in labelled if label == "positive")
    negatives = tuple(p for p, label in labelled if label == "hard_negative")
    return row.model_copy(update={"positives": positives, "negatives": negatives})


def _drop(row: CandidateSet, passage: Passage) -> Dropped:
    return Dropped(
        id=content_id("x", row.id, passage.id, "review"),
        kind="passage",
        stage="review",
        reason="review_helps",
        because_of=None,
        similarity=None,
        text=passage.text,
        record=passage.model_dump_json(),
    )


# Review: what people settled is done. Questions leave, get their new text, or are confirmed; those that
# relabelling could not decide are taken back where people want them.
#
# Names of people never get this far: what they settled together is `people`'s.


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
