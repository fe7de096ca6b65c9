"""Everything that can be reviewed as the queue knows it: one line for each group and each passage."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.ids import derived_seed
from tasks.reviewing.events import Subject
from tasks.reviewing.material import Kind, Material

NOT_IN_QUESTION: frozenset[Kind] = frozenset({"control", "reviewed_out"})
"""Shown to those who ask for them, and in nobody's queue."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A group or a passage as the queue knows it."""

    subject: Subject
    kind: Kind
    family: str
    attribute: str
    domain: str
    """`superdomain/domain`; empty of a passage."""
    text: str
    fitness: float | None
    disagreement: float | None
    new: bool
    lot: int
    """Place in an order drawn by content: the same for everybody, and no one's favourite first."""


def list_entries(material: Material) -> list[Entry]:
    """Every subject once, by lot."""
    entries = [_of_question(material, question_id) for question_id in material.questions]
    entries += [_of_passage(material, key) for key in material.passages]
    return sorted(entries, key=lambda e: (e.lot, e.subject))


def _of_question(material: Material, question_id: str) -> Entry:
    question = material.questions[question_id]
    return Entry(
        subject=("question", question_id, ""),
        kind=material.kinds[question_id],
        family=question.family,
        attribute=question.attribute,
        domain=f"{question.superdomain}/{question.domain}",
        text=question.template,
        fitness=question.fitness,
        disagreement=material.disagreement.get(question_id),
        new=question_id in material.new,
        lot=derived_seed(material.benchmark, "queue", question_id),
    )


def _of_passage(material: Material, key: tuple[str, str]) -> Entry:
    query_id, passage_id = key
    case = material.passages[key]
    return Entry(
        subject=("passage", passage_id, query_id),
        kind="passage",
        family="",
        attribute="",
        domain="",
        text=case.query,
        fitness=None,
        disagreement=None,
        new=False,
        lot=derived_seed(material.benchmark, "queue", *key),
    )
