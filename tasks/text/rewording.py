"""A question in other words: a new question that remembers the old one."""

from __future__ import annotations

from schemas.question import Question, question_id
from tasks.text.slots import expand_template


def reworded(question: Question, template: str, *, operator: str, changed_in: str | None = None) -> Question:
    """The question with another text; what was measured of the old text is not its own.

    Raises `InputError` where the text does not expand to the question's values.
    """
    valences = [v.valence for v in question.variants]
    return question.model_copy(
        update={
            "id": reworded_id(question, template),
            "template": template,
            "variants": expand_template(template, question.values, valences),
            "parent_id": question.id,
            "operator": operator,
            "composition": None,
            "fitness": None,
            "holdout_effect": None,
            "changed_in": changed_in,
        }
    )


def reworded_id(question: Question, template: str) -> str:
    """The id that the question has in those words."""
    return question_id(
        family=question.family,
        attribute=question.attribute,
        framing=question.framing,
        control=question.control,
        template=template,
        values=question.values,
    )
