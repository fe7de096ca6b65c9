"""A reviewer's new wording of a question: expanded and checked as the generator's own questions are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError
from schemas.ids import derived_seed
from schemas.question import Question, Variant, question_id
from tasks.formats.vocabulary import read_attribute
from tasks.text.quality import question_fault
from tasks.text.slots import bind_forms, expand_template

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
        valences = [variant.valence for variant in question.variants]
        reworded = replaced(question, template, expand_template(template, question.values, valences))
    except InputError as error:
        return Wording(template, fault=error.message, hint=error.hint)
    if reworded.id == question.id:
        return Wording(template, reworded.variants, fault="that is the text as it stands")
    if reworded.id in known:
        return Wording(template, reworded.variants, fault=f"another question asks this: {reworded.id}")
    fault = question_fault(reworded) if question.family == "open" else None
    if fault is not None:
        return Wording(template, reworded.variants, fault=f"breaks a rule: {fault.replace('_', ' ')}")
    return Wording(template, reworded.variants, reworded.id)


def replaced(question: Question, template: str, variants: tuple[Variant, ...]) -> Question:
    """The question in other words: a new one, which descends from it and has nothing measured yet."""
    own_id = question_id(
        family=question.family,
        attribute=question.attribute,
        framing=question.framing,
        control=question.control,
        template=template,
        values=question.values,
    )
    measured = {"fitness": None, "holdout_effect": None, "composition": None}
    lineage = {"parent_id": question.id, "operator": BY_REVIEW}
    return question.model_copy(
        update={"id": own_id, "template": template, "variants": variants, **lineage, **measured}
    )


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
