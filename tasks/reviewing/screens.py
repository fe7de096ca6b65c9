"""What is on the screen at an address: a page of the queue, or one subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pydantic import Field

from tasks.reviewing.desk import VERDICTS, Desk
from tasks.reviewing.entries import Entry
from tasks.reviewing.events import Subject, reviewer_name, subject_of
from tasks.reviewing.material import KINDS
from tasks.reviewing.pages import (
    listed,
    shown_answers,
    shown_history,
    shown_judgements,
    shown_passage,
    shown_template,
    shown_variants,
)
from tasks.reviewing.queue import STATES, Filters, Turn, neighbours

PAGE = 50
"""Entries on a page of the queue."""


class Place(Filters):
    """An address: who looks, through which filters, at which page of the queue or at which subject."""

    reviewer: str = Field(min_length=1, max_length=200)
    page: int = Field(default=1, ge=1)
    subject: str = ""
    id: str = ""
    query: str = ""

    @property
    def filters(self) -> Filters:
        return Filters(**{name: getattr(self, name) for name in Filters.model_fields})


def address(page: str, reviewer: str, filters: Filters, more: Mapping[str, Any] | None = None) -> str:
    """A relative address: it holds no token."""
    return f"{page}?{urlencode({'reviewer': reviewer, **filters.changed(), **(more or {})})}"


def group_address(reviewer: str, filters: Filters, entry: Entry | None) -> str | None:
    if entry is None:
        return None
    subject, subject_id, query_id = entry.subject
    where = {"subject": subject, "id": subject_id} | ({"query": query_id} if query_id else {})
    return address("group", reviewer, filters, where)


def queue_page(desk: Desk, where: Place) -> dict[str, Any]:
    """One page of the queue, with what can be filtered by."""
    reviewer, filters = reviewer_name(where.reviewer), where.filters
    turn = desk.turn(reviewer)
    found = turn.select(filters)
    pages = max(1, -(-len(found) // PAGE))
    at = min(where.page, pages)
    discuss, disagreed = turn.in_doubt
    done, total = turn.progress
    here = desk.by_subject.keys()
    return {
        "reviewer": reviewer,
        "filters": filters,
        "entries": [
            {
                "entry": e,
                "pieces": listed(e),
                "word": turn.words.get(e.subject),
                "href": group_address(reviewer, filters, e),
            }
            for e in found[(at - 1) * PAGE : at * PAGE]
        ],
        "found": len(found),
        "first": (at - 1) * PAGE + 1,
        "pages": pages,
        "at": at,
        "before": address("queue", reviewer, filters, {"page": at - 1}) if at > 1 else None,
        "after": address("queue", reviewer, filters, {"page": at + 1}) if at < pages else None,
        "states": [
            (
                state,
                address("queue", reviewer, filters.model_copy(update={"state": state})),
                {"discuss": len(discuss & here), "disagreed": len(disagreed & here)}.get(state),
            )
            for state in STATES
        ],
        "start": address("next", reviewer, filters),
        "plain": address("queue", reviewer, Filters()),
        "kinds": ("open", *KINDS),
        "attributes": desk.attributes,
        "domains": desk.domains,
        "has_new": bool(desk.material.new),
        "others": [name for name in turn.reviewers if name != reviewer],
        "done": done,
        "total": total,
    }


def group_page(desk: Desk, where: Place) -> dict[str, Any]:
    """One subject. Judges, labels and other reviewers are in it only for somebody who has decided."""
    reviewer, filters = reviewer_name(where.reviewer), where.filters
    subject: Subject = (where.subject, where.id, where.query)
    entry = desk.entry(subject)
    turn = desk.turn(reviewer)
    before, after = neighbours(turn.select(filters), entry, filters)
    done, total = turn.progress
    word = turn.words.get(subject)
    latest = desk.latest(reviewer)
    return {
        "reviewer": reviewer,
        "entry": entry,
        "verdicts": VERDICTS[entry.subject[0]],
        "word": word,
        "previous": group_address(reviewer, filters, before),
        "next": group_address(reviewer, filters, after),
        "queue": address("queue", reviewer, filters),
        "latest": latest,
        "undone": group_address(reviewer, filters, desk.by_subject[subject_of(latest)]) if latest else None,
        "done": done,
        "total": total,
        **(_question(desk, where.id) if subject[0] == "question" else _passage(desk, subject)),
        "revealed": _revealed(desk, turn, subject) if word else None,
    }


def _question(desk: Desk, question_id: str) -> dict[str, Any]:
    question = desk.material.questions[question_id]
    return {
        "question": question,
        "template": shown_template(question),
        "variants": shown_variants(question),
        "models": shown_answers(question, desk.material.responses.of(question_id)),
        "case": None,
    }


def _passage(desk: Desk, subject: Subject) -> dict[str, Any]:
    case = desk.material.passages[subject[2], subject[1]]
    return {"question": None, "case": shown_passage(case)}


def _revealed(desk: Desk, turn: Turn, subject: Subject) -> dict[str, Any]:
    """What is kept from a reviewer until they have decided."""
    said = sorted((name, words[subject]) for name, words in turn.said.items() if subject in words)
    others = [event for name, event in said if name != turn.reviewer]
    if subject[0] == "passage":
        change = desk.material.passages[subject[2], subject[1]].change
        return {"others": others, "change": change, "judgements": [], "history": []}
    question = desk.material.questions[subject[1]]
    return {
        "others": others,
        "change": None,
        "kind": desk.material.kinds[question.id],
        "fitness": question.fitness,
        "holdout_effect": question.holdout_effect,
        "judgements": shown_judgements(question, desk.material.judgements.of(question.id)),
        "history": shown_history(desk.material, question),
    }
