"""Questions in the words that people want: the last wording stands, all earlier ones are dropped for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise

from schemas.decision import Dropped
from schemas.erratum import Erratum
from schemas.question import Question
from schemas.tables import Row
from tasks.release.differences import ERRATUM
from tasks.reviewing.standing import Settlement
from tasks.text.dropping import drop_question
from tasks.text.rewording import reworded

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
