"""Apply the decisions of reviewers to questions and to relabelled passages.

Questions are kept, dropped or reworded. Questions that relabelling could not decide are restored if reviewers
keep them. Names of reviewers are not recorded: the label history names the judge `people`.
"""

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
from schemas.question import QUESTIONS, SELECTED, Erratum, Question, Variant
from schemas.recipe import Review
from schemas.tables import Row, content_id, derived_seed
from tasks.files.own_questions import ACCEPTED, REVIEWS, UNREVIEWED
from tasks.files.slot_values import rebind_text
from tasks.questions.quality import drop_question, question_fault, reword_question
from tasks.release import ERRATUM
from tasks.review.events import Settlement
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table

PEOPLE = "people"
"""The judge in the label history. A release never contains names of reviewers."""
REVIEWED = "reviewed"


def reviewed_change(
    kind: SubjectKind, subject_id: str, query_id: str, *, step: int, before: str, after: str
) -> LabelChange:
    """Return the history entry of a reviewed label.

    `before` and `after` are equal if reviewers confirmed the label.
    """
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


# The number of reviews that a recipe requires.


def accepted_questions(questions: Iterable[Question]) -> list[str]:
    """Return the sorted ids of the accepted open questions, without controls."""
    return sorted(
        q.id for q in questions if q.family == "open" and q.label in SELECTED and q.control == "none"
    )


def reviews_needed(section: Review, accepted: int) -> int:
    """Return how many of the accepted questions must be reviewed before a release."""
    return ceil(round(section.share * accepted, 9)) if section.required else 0


# New wordings by reviewers. They are expanded and checked like generated questions.


BY_REVIEW = "review"
"""Operator of a question that a reviewer reworded."""
LONGEST_WORDING = 20_000
"""Maximum number of characters of a new wording."""


@dataclass(frozen=True)
class Wording:
    """A checked new wording. `question_id` is `None` if it has a fault."""

    template: str
    variants: tuple[Variant, ...] = ()
    question_id: str | None = None
    fault: str | None = None
    """Why the text is not a valid question."""
    hint: str | None = None


def propose_wording(question: Question, text: str, *, known: Collection[str], data_dir: Path) -> Wording:
    """Check a new wording and return the question that it would make.

    Args:
        question: The question to reword.
        text: The new text. Slots are written out (`{{a/b}}`) or are forms of the attribute (`{noun}`).
        known: Ids of existing questions.
        data_dir: Vocabulary.
    """
    template = " ".join(text.split())
    if len(template) > LONGEST_WORDING:
        return Wording(
            template[:LONGEST_WORDING], fault=f"the text is longer than {LONGEST_WORDING:,} characters"
        )
    try:
        seed = derived_seed("review", question.id)
        template = rebind_text(question, template, data_dir, name_seed=seed)
        new = reword_question(question, template, operator=BY_REVIEW)
    except InputError as error:
        return Wording(template, fault=error.message, hint=error.hint)
    if new.id == question.id:
        return Wording(template, new.variants, fault="the text is unchanged")
    if new.id in known:
        return Wording(template, new.variants, fault=f"the text is identical to question {new.id}")
    has_rules = question.family == "open" and question.origin != "imported"  # people write as they like
    fault = question_fault(new) if has_rules else None
    if fault is not None:
        return Wording(
            template, new.variants, fault=f"the text violates a quality rule: {fault.replace('_', ' ')}"
        )
    return Wording(template, new.variants, new.id)


# Rewording: the last wording is kept, all earlier ones are dropped.


EDITED = "review_edited"
"""Drop reason of a wording that was replaced."""


class Replacement(Row):
    """A text that replaces the text of a question."""

    template: str
    operator: str = BY_REVIEW
    changed_in: str | None = None


def replacements_of(decided: Iterable[Settlement], errata: Iterable[Erratum]) -> dict[str, Replacement]:
    """Return the replacement texts by question id.

    Errata take effect as well, because a reviewed text may have been corrected after its release.
    """
    corrected = {
        e.question_id: Replacement(template=e.after, operator=ERRATUM, changed_in=e.changed_in)
        for e in errata
    }
    return corrected | {s.subject_id: Replacement(template=s.template) for s in decided if s.template}


def apply_edits(
    questions: Sequence[Question], texts: Mapping[str, Replacement], gone: Set[str]
) -> tuple[list[Question], list[Dropped]]:
    """Replace all reworded questions and link their twins again.

    If two questions become identical, or one becomes identical to an existing question, only one is kept. A
    question is dropped if its new wording was dropped before.

    Args:
        questions: Questions before the review.
        texts: Replacements by question id.
        gone: Ids of questions that were dropped before.

    Returns:
        The remaining questions, and all earlier wordings as dropped rows.
    """
    wordings = {q.id: wording_history(q, texts) for q in questions}
    taken = {q.id for q in questions if len(wordings[q.id]) == 1} | gone
    successor: dict[str | None, str | None] = {}
    remaining: list[Question] = []
    for question in questions:
        *earlier, last = wordings[question.id]
        kept = not earlier or last.id not in taken
        successor[question.id] = last.id if kept else None
        if kept:
            remaining.append(last)
            taken.add(last.id)
    linked = [q.model_copy(update={"twin_id": successor.get(q.twin_id, q.twin_id)}) for q in remaining]
    return linked, drop_replaced(wordings.values())


def wording_history(question: Question, texts: Mapping[str, Replacement]) -> list[Question]:
    """Return a question and its successive wordings. It ends if a wording returns to an earlier one."""
    history = [question]
    while (text := texts.get(history[-1].id)) is not None:
        new = reword_question(history[-1], text.template, operator=text.operator, changed_in=text.changed_in)
        repeated = next((i for i, q in enumerate(history) if q.id == new.id), None)
        if repeated is not None:
            return history[: repeated + 1]
        history.append(new)
    return history


def drop_replaced(wordings: Iterable[Sequence[Question]]) -> list[Dropped]:
    """Return one dropped row for each replaced wording.

    Wordings that were asked precede those that were only written.
    """
    steps = [(i, old, new) for history in wordings for i, (old, new) in enumerate(pairwise(history))]
    dropped: dict[str, Dropped] = {}
    for _, old, new in sorted(steps, key=lambda step: step[0]):
        if old.id not in dropped:
            dropped[old.id] = drop_question(old, stage="review", reason=EDITED, because_of=new.id)
    return list(dropped.values())


# Passages: reviewers' decisions follow the relabelling, and the rows are updated.


LABELS = {"answers": "positive", "helps": "removed", "does_not_answer": "hard_negative"}
"""Label of a passage by decision."""
QueryPassage = tuple[str, str]
"""Ids of a query and a passage."""


@dataclass(frozen=True)
class ReviewedSets:
    """Rows after the reviewers' decisions."""

    sets: list[CandidateSet]
    changes: list[LabelChange]
    dropped: list[Dropped]
    kept: int
    """Number of reviewed passages that remain in a row, counted per row."""


def review_sets(
    sets: Sequence[CandidateSet],
    history: Sequence[LabelChange],
    dropped: Sequence[Dropped],
    settlements: Sequence[Settlement],
) -> ReviewedSets:
    """Move every reviewed passage to its decided place in all rows of its query.

    A passage that relabelling removed returns to the remaining rows if reviewers want it back.
    """
    decisions = {(s.query_id, s.subject_id): LABELS[s.decision] for s in settlements if s.decision in LABELS}
    last = last_labels(history)
    removed = _removed_passages(dropped, last)
    changes: dict[QueryPassage, LabelChange] = {}
    after, lost, kept = [], [], 0
    for row in sets:
        current = _current_labels(row, removed)
        decided = {p.id: decisions[pair] for p, _ in current if (pair := (row.query_id, p.id)) in decisions}
        for passage, label in current:
            if passage.id not in decided:
                continue
            pair = (row.query_id, passage.id)
            step, before = last.get(pair, (-1, label))
            changes[pair] = reviewed_change(
                "passage", passage.id, row.query_id, step=step + 1, before=before, after=decided[passage.id]
            )
        after.append(_relabelled_row(row, [(p, decided.get(p.id, label)) for p, label in current]))
        rejected = [p for p, label in current if label != "removed" and decided.get(p.id) == "removed"]
        lost += [_drop(row, passage) for passage in rejected]
        kept += sum(label != "removed" for label in decided.values())
    return ReviewedSets(after, [changes[pair] for pair in sorted(changes)], lost, kept)


def last_labels(history: Sequence[LabelChange]) -> dict[QueryPassage, tuple[int, str]]:
    """Return the last step and label of each passage, by query and passage."""
    last: dict[QueryPassage, tuple[int, str]] = {}
    for change in history:
        pair = (change.query_id, change.subject_id)
        if change.subject_kind == "passage" and change.step >= last.get(pair, (-1, ""))[0]:
            last[pair] = (change.step, change.after)
    return last


def _removed_passages(
    dropped: Sequence[Dropped], last: Mapping[QueryPassage, tuple[int, str]]
) -> dict[str, list[Passage]]:
    """Return the passages that relabelling removed, by query."""
    texts = {p.id: p for d in dropped if d.kind == "passage" for p in [Passage.model_validate_json(d.record)]}
    removed: dict[str, list[Passage]] = defaultdict(list)
    for (query, passage_id), (_, label) in sorted(last.items()):
        if label == "removed" and passage_id in texts:
            removed[query].append(texts[passage_id])
    return removed


def _current_labels(row: CandidateSet, removed: Mapping[str, Sequence[Passage]]) -> list[tuple[Passage, str]]:
    """Return the passages of a row with their current labels. Removed passages come last."""
    present = [(p, "positive") for p in row.positives] + [(p, "hard_negative") for p in row.negatives]
    ids = {p.id for p, _ in present}
    return present + [(p, "removed") for p in removed.get(row.query_id, ()) if p.id not in ids]


def _relabelled_row(row: CandidateSet, labelled: Sequence[tuple[Passage, str]]) -> CandidateSet:
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


# Questions: reviewers' decisions are applied.


AMBIGUOUS = ("relabel", "ambiguous")
"""Stage and reason of questions that only reviewers can decide."""


@dataclass(frozen=True)
class ReviewedQuestions:
    """Questions after the reviewers' decisions."""

    kept: list[Question]
    dropped: list[Dropped]
    withdrawn: set[str]
    """Ids of dropped rows of restored questions."""
    changes: list[LabelChange]


def review_questions(
    questions: Sequence[Question],
    settlements: Sequence[Settlement],
    lost: Sequence[Dropped] = (),
    errata: Sequence[Erratum] = (),
) -> ReviewedQuestions:
    """Return the questions that reviewers keep, in their final wording.

    Args:
        questions: Questions before the review.
        settlements: Decisions of the reviewers.
        lost: Rows that earlier stages dropped.
        errata: Corrections of released texts.
    """
    decided = {s.subject_id: s for s in settlements if s.subject == "question" and s.settled}
    restored = {row.id: q for row in lost if (q := restore_ambiguous(row, decided)) is not None}
    gone = {
        question_id
        for row in lost
        if row.id not in restored and (question_id := dropped_question_id(row)) is not None
    }
    before = [*questions, *restored.values()]
    reviewed, replaced = apply_edits(before, replacements_of(decided.values(), errata), gone)
    rejected = {q.id for q in reviewed if q.id in decided and decided[q.id].decision == "drop"}
    earlier_labels = {q.id: "ambiguous" for q in restored.values()}
    new_ids = {q.id for q in reviewed} - {q.id for q in before}
    return ReviewedQuestions(
        kept=[
            _accept_translation(_unlink_rejected_twin(q, rejected), decided)
            for q in reviewed
            if q.id not in rejected
        ],
        dropped=[*replaced, *(_reject(q, decided[q.id]) for q in reviewed if q.id in rejected)],
        withdrawn=set(restored),
        changes=[
            _question_change(q, earlier_labels.get(q.id, q.label), dropped=q.id in rejected)
            for q in reviewed
            if q.id in decided or q.id in new_ids
        ],
    )


def _accept_translation(question: Question, decided: Mapping[str, Settlement]) -> Question:
    """Return a translation that reviewers keep as an accepted one."""
    is_waiting = question.operator == REVIEWS[UNREVIEWED]
    if not is_waiting or question.id not in decided or decided[question.id].decision != "keep":
        return question
    return question.model_copy(update={"operator": REVIEWS[ACCEPTED]})


def restore_ambiguous(row: Dropped, decided: Mapping[str, Settlement]) -> Question | None:
    """Return the question of an ambiguous dropped row if reviewers keep or reword it, otherwise `None`."""
    settlement = decided.get(dropped_question_id(row) or "")
    if (row.stage, row.reason) != AMBIGUOUS or settlement is None:
        return None
    if settlement.decision not in ("keep", "edit"):
        return None
    return Question.model_validate_json(row.record).model_copy(update={"label": "accepted"})


def dropped_question_id(row: Dropped) -> str | None:
    """Return the id of the question that a dropped row contains, or `None` for other rows."""
    return str(json.loads(row.record)["id"]) if row.kind == "question" else None


def _unlink_rejected_twin(question: Question, rejected: set[str]) -> Question:
    """Unlink a rejected twin. The dropped twin's record keeps its link."""
    return question.model_copy(update={"twin_id": None}) if question.twin_id in rejected else question


def _reject(question: Question, settlement: Settlement) -> Dropped:
    return drop_question(question, stage="review", reason=f"review_{settlement.verdict}")


def _question_change(question: Question, before: str, *, dropped: bool) -> LabelChange:
    """Return the history entry. The query of a question is the question itself."""
    after = "dropped" if dropped else question.label
    return reviewed_change("question", question.id, question.id, step=0, before=before, after=after)


def review(
    context: RunContext,
    questions: TableRef,
    settlements: Sequence[Settlement],
    dropped: Sequence[TableRef] = (),
    errata: Sequence[Erratum] = (),
) -> Outcome:
    """Apply reviewers' decisions to questions.

    Without decisions on these questions nothing changes, and the funnel has no review stage. The dropped rows
    are those of the review and those of `dropped` that were not restored.
    """
    lost = list({row.id: row for ref in dropped for row in read_table(ref, DROPPED)}.values())
    reviewed = review_questions(read_table(questions, QUESTIONS), settlements, lost, errata)
    changed = reviewed.changes or reviewed.dropped
    return Outcome(
        tables={QUESTIONS: reviewed.kept, LABEL_HISTORY: reviewed.changes},
        counts=_count("review", "questions", len(reviewed.kept), len(reviewed.dropped)) if changed else (),
        dropped=(*(row for row in lost if row.id not in reviewed.withdrawn), *reviewed.dropped),
    )


def review_retrieval(
    context: RunContext,
    candidates: TableRef,
    label_history: TableRef,
    dropped: TableRef,
    settlements: Sequence[Settlement],
) -> Outcome:
    """Apply reviewers' decisions to relabelled rows. The label history of the passages is continued."""
    reviewed = review_sets(
        read_table(candidates, CANDIDATES),
        read_table(label_history, LABEL_HISTORY),
        read_table(dropped, DROPPED),
        settlements,
    )
    return Outcome(
        tables={CANDIDATES: reviewed.sets, LABEL_HISTORY: reviewed.changes},
        counts=_count("review_retrieval", "passages", reviewed.kept, len(reviewed.dropped))
        if reviewed.changes
        else (),
        dropped=tuple(reviewed.dropped),
    )


def _count(stage: str, unit: str, kept: int, dropped: int) -> tuple[StageCounts, ...]:
    return (StageCounts(stage=stage, unit=unit, rows=kept + dropped, kept=kept, dropped=dropped, failed=0),)


STAGE_RETRIEVAL = Stage("review_retrieval", 1, run=review_retrieval)
STAGE = Stage("review", 1, run=review)
