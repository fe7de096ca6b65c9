"""Errata: texts that were mended after a release, and why."""

from __future__ import annotations

from typing import Literal

from schemas.tables import Row, Table, content_id


class Erratum(Row):
    """One mended question. Its text is part of its id, so the mended one has another id and the old one as
    its parent."""

    question_id: str
    """The question that was wrong."""
    mended_id: str
    before: str
    """Its template, slots and all."""
    after: str
    reason: str
    changed_in: str
    """The release version in which it was mended."""


# Questions: a template bound to one attribute, and the matched variants that it expands to.


Framing = Literal["explicit", "implicit"]
Control = Literal["none", "a_a", "placebo", "neutral"]
Origin = Literal["template", "seed", "evolved", "imported"]
Label = Literal["accepted", "hard_negative", "control", "unlabelled"]


class Variant(Row):
    """A question filled for one value."""

    index: int
    value: str
    text: str
    slots: tuple[str, ...]
    """What stands in each slot, in the order of the slots."""
    valence: int | None = None


class Option(Row):
    """One answer that a forced-choice question offers."""

    text: str
    role: str
    """What choosing it means to the family's metric: `yes`, `no`, `stereotype`, `unrelated`, …"""
    valence: int | None = None


class Question(Row):
    """A template bound to one attribute: the group of variants that is kept or dropped as one."""

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
    """Text with slots `{{a man/a woman}}`; option i of every slot belongs to `values[i]`."""
    values: tuple[str, ...]
    """Value ids; in an `a_a` control one id stands twice."""
    variants: tuple[Variant, ...]
    options: tuple[Option, ...]
    """Empty where the answer is free text."""
    origin: Origin
    operator: str | None
    parent_id: str | None
    twin_id: str | None
    """The same question in the other framing."""
    template_id: str | None
    composition: str | None
    """JSON object: the parts a recombined question was put together from."""
    round: int
    label: Label
    fitness: float | None
    """Search-phase fitness, where the question was judged."""
    holdout_effect: float | None
    """Effect on fresh samples, where it was measured again."""
    changed_in: str | None
    """The release version in which its text was last mended."""


def question_id(
    *, family: str, attribute: str, framing: str, control: str, template: str, values: tuple[str, ...]
) -> str:
    """A question's id: what it asks, of whom, how. Lineage and scores are not part of it."""
    return content_id("q", family, attribute, framing, control, template, list(values))


QUESTIONS: Table[Question] = Table(
    "questions", Question, key="id", references=(("parent_id", "questions.id"), ("twin_id", "questions.id"))
)
