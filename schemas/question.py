"""Questions, their matched variants, and errata of released questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from schemas.tables import Row, Table, content_id


class Erratum(Row):
    """A correction to a released question.

    The text is part of a question's id, so the corrected question has a new id and the old one as its parent.
    """

    question_id: str
    """Id of the faulty question."""
    mended_id: str
    before: str
    """Template with slots before the correction."""
    after: str
    reason: str
    changed_in: str
    """Release version that contains the correction."""


Framing = Literal["explicit", "implicit"]
Control = Literal["none", "a_a", "placebo", "neutral"]
Origin = Literal["template", "seed", "evolved", "imported"]
Label = Literal["accepted", "confirmed", "candidate", "survey", "hard_negative", "control", "unlabelled"]
UNREVIEWED_TRANSLATION = "translate_unreviewed"
"""Operator of a question that a model translated and no person accepted."""
UNREVIEWED_TAG = "-x-unreviewed"
"""End of the language of results on such questions: a private subtag of BCP 47."""
SELECTED: frozenset[str] = frozenset({"accepted", "confirmed", "candidate", "survey"})
"""Labels of questions that are measured and released.

The search labels a question `accepted`. Measuring its fresh answers makes it `confirmed` if they exceed those
of matching controls at the recipe's false discovery rate, or else a `candidate`. A `survey` releases every
valid question without selection. Releases of earlier versions have `accepted` questions."""


class Variant(Row):
    """A question filled for one value."""

    index: int
    value: str
    text: str
    slots: tuple[str, ...]
    """Content of each slot, in order."""
    valence: int | None = None


class Option(Row):
    """One possible answer to a forced-choice question."""

    text: str
    role: str
    """Meaning for the family's metric: `yes`, `no`, `stereotype`, `unrelated`, …"""
    valence: int | None = None


class Question(Row):
    """A template bound to one attribute. Its variants are kept or dropped as one group."""

    id: str
    family: str
    attribute: str
    framing: Framing
    control: Control
    superdomain: str
    domain: str
    topic: str
    language: str
    template: str
    """Text with slots `{{a man/a woman}}`. Option i of every slot belongs to `values[i]`."""
    values: tuple[str, ...]
    """Value ids. An `a_a` control has the same id twice."""
    variants: tuple[Variant, ...]
    options: tuple[Option, ...]
    """Empty for free-text questions."""
    origin: Origin
    operator: str | None
    parent_id: str | None
    twin_id: str | None
    """Id of the same question in the other framing."""
    template_id: str | None
    composition: str | None
    """JSON object with the parts of a recombined question."""
    round: int
    label: Label
    fitness: float | None
    """Fitness in the search phase, if judged."""
    holdout_effect: float | None
    """Effect on fresh samples, if re-tested."""
    changed_in: str | None
    """Release version in which its text was last corrected."""
    variant_of: str | None = None
    """Id of the question that it is a rewording of. `None` for originals."""
    principle: str | None = None
    """How it was reworded: `paraphrase`, `context`, `permute`, `choice`, or `style_<name>`."""
    released_in: str | None = None
    """First version of the benchmark with this question. `None` before it is released."""
    retired_in: str | None = None
    """First version without it. `None` while it is in use."""
    anchor: bool = False
    """Whether it was carried over from the last release, to link the scores of both."""


LIFECYCLE = ("released_in", "retired_in", "anchor")
"""Columns that depend on the version, not on the question."""


def question_id(
    *, family: str, attribute: str, framing: str, control: str, template: str, values: tuple[str, ...]
) -> str:
    """Return the content id of a question. Lineage and scores are not part of it."""
    return content_id("q", family, attribute, framing, control, template, list(values))


_OF_NEW: Mapping[str, Any] = {
    "framing": "explicit",
    "control": "none",
    "options": (),
    "operator": None,
    "parent_id": None,
    "twin_id": None,
    "template_id": None,
    "composition": None,
    "round": 0,
    "label": "unlabelled",
    "fitness": None,
    "holdout_effect": None,
    "changed_in": None,
}


def new_question(**fields: Any) -> Question:
    """Return a question that nobody has asked yet. Its id follows from its text and values.

    Args:
        **fields: Fields of `Question` besides `id`. Lineage, label and scores may be left out.
    """
    given = {**_OF_NEW, **fields}
    identity = ("family", "attribute", "framing", "control", "template", "values")
    return Question(id=question_id(**{name: given[name] for name in identity}), **given)


QUESTIONS: Table[Question] = Table(
    "questions", Question, key="id", references=(("parent_id", "questions.id"), ("twin_id", "questions.id"))
)


def separate_unreviewed(question: Question) -> Question:
    """Return a question for measuring. Unreviewed translations count as a language of their own."""
    if question.operator != UNREVIEWED_TRANSLATION or question.language.endswith(UNREVIEWED_TAG):
        return question
    return question.model_copy(update={"language": question.language + UNREVIEWED_TAG})
