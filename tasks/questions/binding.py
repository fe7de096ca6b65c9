"""Making questions: binding a text to an attribute, and the controls whose true effect is zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from schemas.question import Control, Framing, Label, Option, Origin, Question, question_id
from schemas.tables import canonical_json, derived_seed
from schemas.vocabulary import Attribute
from tasks.text.slots import Slot, bind_forms, expand_template, parse_slots


@dataclass(frozen=True)
class Draft:
    """A text with `{form}` references and everything a question needs but its attribute."""

    text: str
    family: str
    superdomain: str
    domain: str
    topic: str
    origin: Origin
    framing: Framing = "explicit"
    options: tuple[Option, ...] = ()
    values: tuple[str, ...] = ()
    """Values that it compares; empty: all of the attribute."""
    operator: str | None = None
    parent_id: str | None = None
    template_id: str | None = None
    composition: dict[str, str] | None = field(default=None, hash=False)
    round: int = 0
    neutral: bool = False
    """Whether a different answer is legitimate for the attribute it will be bound to."""
    name_at: int | None = None
    """Place in the lists of names; `None`: drawn by seed."""


def bind_draft(
    draft: Draft,
    attribute: Attribute,
    *,
    seed: int,
    values: Sequence[str] | None = None,
    control: Control = "none",
) -> Question:
    """The question that a draft makes of an attribute (or of some of its values), variants and all.

    Raises `InputError` where the text's slots do not fit the attribute.
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
    """Advice questions must earn their place; a forced choice is accepted as it stands."""
    if control != "none":
        return "control"
    return "unlabelled" if family == "open" else "accepted"


def link_twins(explicit: Question, implicit: Question) -> tuple[Question, Question]:
    """Two framings of one question, each knowing the other."""
    return (
        explicit.model_copy(update={"twin_id": implicit.id}),
        implicit.model_copy(update={"twin_id": explicit.id}),
    )


def control_count(beside: int, share: float) -> int:
    """How many controls stand beside so many questions: at least one of a kind that is wanted."""
    return max(1, round(beside * share)) if beside and share > 0 else 0


def draw_controls(
    pairs: Sequence[tuple[Draft, Attribute]],
    *,
    a_a: float,
    placebo: float,
    placebo_attribute: Attribute,
    seed: int,
) -> list[Question]:
    """A/A and placebo twins of some of the given drafts, chosen by seed.

    An A/A control is the same text with one value twice; a placebo is the same text bound to an attribute
    that cannot matter, with as many values as the original.
    """
    controls = []
    for kind, share in (("a_a", a_a), ("placebo", placebo)):
        usable = [p for p in pairs if _can_be_control(p[0]) and (kind == "a_a" or _fits(p[0]))]
        for draft, attribute in _shuffled(usable, seed, kind)[: control_count(len(usable), share)]:
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


def repeated_values(questions: Sequence[Question], share: float, seed: int) -> list[Question]:
    """A/A controls of finished questions, chosen by seed: every slot says twice what one value has in it."""
    order = sorted(questions, key=lambda q: derived_seed(seed, "a_a", q.id))
    return [_with_one_value(q, seed) for q in order[: control_count(len(questions), share)]]


def _with_one_value(question: Question, seed: int) -> Question:
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
    """Not where a difference is legitimate, nor where written-out slots or valences set the values apart."""
    valenced = any(option.valence is not None for option in draft.options)
    return not draft.neutral and "{{" not in draft.text and not valenced


def _fits(draft: Draft) -> bool:
    """Names belong to the attribute that they were chosen for: a placebo has none."""
    return draft.framing == "explicit" and "{name}" not in draft.text.lower()


def unique_questions(questions: Iterable[Question]) -> tuple[list[Question], list[Question]]:
    """The first of each id, in order, and those that repeat one."""
    seen: dict[str, Question] = {}
    repeated = []
    for question in questions:
        if question.id in seen:
            repeated.append(question)
        else:
            seen[question.id] = question
    return list(seen.values()), repeated
