"""Bind texts to attributes, and draw controls with a true effect of zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from schemas.question import Control, Framing, Label, Option, Origin, Question, question_id
from schemas.tables import canonical_json, derived_seed
from schemas.vocabulary import Attribute
from tasks.text.slots import Slot, bind_forms, expand_template, parse_slots


@dataclass(frozen=True)
class Draft:
    """A text with `{form}` references and all fields of a question except its attribute."""

    text: str
    family: str
    superdomain: str
    domain: str
    topic: str
    origin: Origin
    framing: Framing = "explicit"
    options: tuple[Option, ...] = ()
    values: tuple[str, ...] = ()
    """Values to compare. Empty for all values of the attribute."""
    operator: str | None = None
    parent_id: str | None = None
    template_id: str | None = None
    composition: dict[str, str] | None = field(default=None, hash=False)
    round: int = 0
    neutral: bool = False
    """Whether different answers are legitimate for the attribute to bind."""
    name_at: int | None = None
    """Index in the lists of names. `None` to draw one by seed."""


def bind_draft(
    draft: Draft,
    attribute: Attribute,
    *,
    seed: int,
    values: Sequence[str] | None = None,
    control: Control = "none",
) -> Question:
    """Bind a draft to an attribute, or to some of its values, and expand its variants.

    Raises:
        InputError: If the slots of the text do not fit the attribute.
    """
    chosen = tuple(values or draft.values or (v.id for v in attribute.values))
    drawn = derived_seed(seed, "name", draft.text, attribute.id)
    template = bind_forms(
        draft.text,
        attribute,
        chosen,
        name_seed=drawn if draft.name_at is None else draft.name_at,
        keep_equal=control == "a_a",
    )
    valences = [attribute.value(v).valence for v in chosen]
    control = "neutral" if draft.neutral and control == "none" else control
    return Question(
        id=question_id(
            family=draft.family,
            attribute=attribute.id,
            framing=draft.framing,
            control=control,
            template=template,
            values=chosen,
        ),
        family=draft.family,
        attribute=attribute.id,
        framing=draft.framing,
        control=control,
        superdomain=draft.superdomain,
        domain=draft.domain,
        topic=draft.topic,
        language=attribute.language,
        template=template,
        values=chosen,
        variants=expand_template(template, chosen, valences),
        options=draft.options,
        origin=draft.origin,
        operator=draft.operator,
        parent_id=draft.parent_id,
        twin_id=None,
        template_id=draft.template_id,
        composition=None if draft.composition is None else canonical_json(draft.composition),
        round=draft.round,
        label=_first_label(draft.family, control),
        fitness=None,
        holdout_effect=None,
        changed_in=None,
    )


def _first_label(family: str, control: Control) -> Label:
    """Return the label before selection. Only open questions must be selected."""
    if control != "none":
        return "control"
    return "unlabelled" if family == "open" else "accepted"


def link_twins(explicit: Question, implicit: Question) -> tuple[Question, Question]:
    """Set the twin ids of two framings of one question."""
    return (
        explicit.model_copy(update={"twin_id": implicit.id}),
        implicit.model_copy(update={"twin_id": explicit.id}),
    )


def count_controls(questions: int, share: float) -> int:
    """Return the number of controls for this many questions, at least one if the share is positive."""
    return max(1, round(questions * share)) if questions and share > 0 else 0


def draw_controls(
    pairs: Sequence[tuple[Draft, Attribute]],
    *,
    a_a: float,
    placebo: float,
    placebo_attribute: Attribute,
    seed: int,
) -> list[Question]:
    """Make A/A and placebo controls of some of the given drafts, chosen by seed.

    An A/A control is the same text with one value twice. A placebo is the same text bound to an irrelevant
    attribute, with as many values as the original.

    Args:
        pairs: Drafts with their attributes.
        a_a: A/A controls as a share of the drafts.
        placebo: Placebo controls as a share of the drafts.
        placebo_attribute: The irrelevant attribute.
        seed: Seed of the draw.
    """
    controls = []
    for kind, share in (("a_a", a_a), ("placebo", placebo)):
        usable = [p for p in pairs if _can_be_control(p[0]) and (kind == "a_a" or _can_be_placebo(p[0]))]
        for draft, attribute in _shuffled(usable, seed, kind)[: count_controls(len(usable), share)]:
            compared = draft.values or tuple(v.id for v in attribute.values)
            if kind == "a_a":
                value = compared[derived_seed(seed, "a_a value", draft.text) % len(compared)]
                controls.append(bind_draft(draft, attribute, seed=seed, values=(value, value), control="a_a"))
            else:
                values = [v.id for v in placebo_attribute.values][: len(compared)]
                controls.append(
                    bind_draft(draft, placebo_attribute, seed=seed, values=values, control="placebo")
                )
    return controls


def make_a_a_controls(questions: Sequence[Question], share: float, seed: int) -> list[Question]:
    """Make A/A controls of bound questions, chosen by seed, by repeating one value's slot contents."""
    order = sorted(questions, key=lambda q: derived_seed(seed, "a_a", q.id))
    return [_repeat_one_value(q, seed) for q in order[: count_controls(len(questions), share)]]


def _repeat_one_value(question: Question, seed: int) -> Question:
    index = derived_seed(seed, "a_a value", question.id) % len(question.values)
    parts = parse_slots(question.template)
    template = "".join(
        part if isinstance(part, str) else str(Slot((part.options[index],) * 2)) for part in parts
    )
    values = (question.values[index],) * 2
    own_id = question_id(
        family=question.family,
        attribute=question.attribute,
        framing=question.framing,
        control="a_a",
        template=template,
        values=values,
    )
    return question.model_copy(
        update={
            "id": own_id,
            "control": "a_a",
            "template": template,
            "values": values,
            "variants": expand_template(template, values),
            "twin_id": None,
            "label": "control",
        }
    )


def _shuffled(
    pairs: Sequence[tuple[Draft, Attribute]], seed: int, kind: str
) -> list[tuple[Draft, Attribute]]:
    return sorted(pairs, key=lambda pair: derived_seed(seed, kind, pair[0].text, pair[1].id))


def _can_be_control(draft: Draft) -> bool:
    """Return False for neutral drafts and if literal slots or valences distinguish the values."""
    valenced = any(option.valence is not None for option in draft.options)
    return not draft.neutral and "{{" not in draft.text and not valenced


def _can_be_placebo(draft: Draft) -> bool:
    """Return whether a draft can be a placebo. Names are chosen for one attribute, so a placebo has none."""
    return draft.framing == "explicit" and "{name}" not in draft.text.lower()


def split_unique(questions: Iterable[Question]) -> tuple[list[Question], list[Question]]:
    """Split questions into the first of each id, in order, and repetitions."""
    seen: dict[str, Question] = {}
    repeated = []
    for question in questions:
        if question.id in seen:
            repeated.append(question)
        else:
            seen[question.id] = question
    return list(seen.values()), repeated
