"""A reviewer's new wording of a question: expanded and checked as the generator's own questions are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError
from schemas.ids import derived_seed
from schemas.question import Question, Variant
from tasks.formats.vocabulary import read_attribute
from tasks.text.quality import question_fault
from tasks.text.rewording import reworded
from tasks.text.slots import bind_forms

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
