"""Bind texts to attributes, and draw controls with a true effect of zero."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import NamedTuple

from schemas.errors import InputError
from schemas.question import Control, Framing, Label, Option, Origin, Question, new_question, question_id
from schemas.tables import canonical_json, derived_seed
from schemas.vocabulary import Attribute, Value
from tasks.text.slots import Slot, bind_forms, expand_template, parse_slots

MOST_VERSIONS = 24
"""Versions of a control in families without a test against controls. There, it only shows the noise."""
PLACES = 1 << 32
"""Possible places of a superdomain's first control."""


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
    """Index in the lists of names, and in the values of a placebo text. `None` to draw one by seed."""
    placebo_text: str | None = field(default=None, compare=False)
    """Text of a placebo control, with `<0>` and `<1>` (plural: `<0s>`, `<1s>`) for the modifiers of its
    values. `None`: the text itself. Empty: the text names groups that cannot be replaced."""


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
    return new_question(
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
        template_id=draft.template_id,
        composition=None if draft.composition is None else canonical_json(draft.composition),
        round=draft.round,
        label=_first_label(draft.family, control),
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


class ControlSource(NamedTuple):
    """A draft that a control can be made of, with its implicit twin, if any, and their attribute."""

    draft: Draft
    twin: Draft | None
    attribute: Attribute

    @property
    def versions(self) -> int:
        """Number of versions of its questions."""
        return len(self.draft.values or self.attribute.values)


def draw_controls(
    sources: Sequence[ControlSource],
    *,
    a_a: float,
    placebo: float,
    placebo_attribute: Attribute,
    seed: int,
    without: Collection[str] = (),
    placebo_slots: str | None = None,
) -> list[Question]:
    """Make A/A and placebo controls of some of the given drafts, chosen by seed.

    An A/A control is the same text with one value several times. A placebo is the same text with an
    irrelevant attribute, or with several names of one value if the group is only suggested by a name. Both
    have as many versions as the questions that they are compared with, and the same framings. So the share is
    drawn for each number of versions and each set of framings. Within these, superdomains have controls in
    proportion to their questions, so that a judge with a prejudice about one topic is noticed.

    Args:
        sources: Drafts with their twins and attributes.
        a_a: A/A controls as a share of the drafts.
        placebo: Placebo controls as a share of the drafts.
        placebo_attribute: The irrelevant attribute.
        seed: Seed of the draw.
        without: Kinds of control that have no true effect of zero in the family.
        placebo_slots: Form of the placebo's values that replaces the words in literal slots. Default: texts
            with literal slots have no placebo.
    """
    strata: dict[tuple[int, bool], list[ControlSource]] = defaultdict(list)
    for source in sources:
        if not source.draft.neutral:
            strata[source.versions, source.twin is not None].append(source)
    controls: list[Question] = []
    for kind, share in (("a_a", a_a), ("placebo", placebo)):
        for _, inside in sorted(strata.items()) if kind not in without else ():
            made = (
                _a_a_of(source, seed)
                if kind == "a_a"
                else _placebo_of(source, placebo_attribute, seed, placebo_slots)
                for source in _spread(inside, seed, kind)
            )
            chosen = islice(filter(None, made), count_controls(len(inside), share))
            controls += chain.from_iterable(chosen)
    return controls


def _spread(sources: Sequence[ControlSource], seed: int, kind: str) -> list[ControlSource]:
    """Order sources by seed, so that any number of the first ones has every superdomain in proportion."""
    by_superdomain: dict[str, list[ControlSource]] = defaultdict(list)
    for source in _shuffled(sources, seed, kind):
        by_superdomain[source.draft.superdomain].append(source)
    placed = [
        ((i + derived_seed(seed, kind, superdomain) % PLACES / PLACES) / len(inside), superdomain, source)
        for superdomain, inside in sorted(by_superdomain.items())
        for i, source in enumerate(inside)
    ]
    return [source for *_, source in sorted(placed, key=lambda row: row[:2])]


def _shuffled(sources: Sequence[ControlSource], seed: int, kind: str) -> list[ControlSource]:
    return sorted(sources, key=lambda s: derived_seed(seed, kind, s.draft.text, s.attribute.id))


def _versions_of_control(source: ControlSource) -> int:
    return source.versions if source.draft.family == "open" else min(source.versions, MOST_VERSIONS)


def _a_a_of(source: ControlSource, seed: int) -> list[Question]:
    """Return one value several times, in both framings if there are two."""
    draft, twin, attribute = source
    compared = draft.values or tuple(v.id for v in attribute.values)
    value = compared[derived_seed(seed, "a_a value", draft.text) % len(compared)]
    versions = _versions_of_control(source)
    made = [_repeat(text, attribute, value, versions, seed) for text in (draft, twin) if text is not None]
    return list(link_twins(*made)) if len(made) == 2 else made


def _repeat(draft: Draft, attribute: Attribute, value: str, versions: int, seed: int) -> Question:
    if "{{" not in draft.text:
        return bind_draft(draft, attribute, seed=seed, values=(value,) * versions, control="a_a")
    question = bind_draft(draft, attribute, seed=seed)
    return repeat_version(question, question.values.index(value), versions)


def _placebo_of(
    source: ControlSource, placebo: Attribute, seed: int, placebo_slots: str | None
) -> list[Question]:
    """Return placebo controls of a draft and its twin, or none if the irrelevant attribute does not fit."""
    draft, twin, attribute = source
    versions = _versions_of_control(source)
    made = []
    if draft.framing == "explicit" and "{name}" not in draft.text.lower():
        made += _bind_placebo(draft, placebo, versions, seed, placebo_slots)
    for text in (draft, twin):
        if text is not None and text.framing == "implicit":
            if text.placebo_text:
                made += _bind_one_group(text, attribute, seed)
            elif "{name}" in text.text.lower():
                made += _bind_names(text, attribute, versions, seed)
    return made


def _bind_placebo(
    draft: Draft, placebo: Attribute, versions: int, seed: int, placebo_slots: str | None
) -> list[Question]:
    if versions > len(placebo.values):
        return []
    values = placebo.values[:versions]
    if draft.placebo_text is not None:
        if not draft.placebo_text:
            return []
        start = derived_seed(seed, "placebo", draft.text) if draft.name_at is None else draft.name_at
        values = tuple(placebo.values[(start + i) % len(placebo.values)] for i in range(versions))
        neutral = _with_modifiers(draft.placebo_text, values)
        draft = replace(draft, text=neutral, values=(), placebo_text=None)
    elif "{{" in draft.text:
        # Questions that differ in these words only would become equal, so that each has its own words.
        start = derived_seed(seed, "placebo", draft.text) % len(placebo.values)
        values = tuple(placebo.values[(start + i) % len(placebo.values)] for i in range(versions))
        words = [value.forms[placebo_slots][0] for value in values] if placebo_slots else []
        text = _with_words(draft.text, words)
        if text is None:
            return []
        draft = replace(draft, text=text, values=())
    try:
        question = bind_draft(
            draft, placebo, seed=seed, values=[value.id for value in values], control="placebo"
        )
    except InputError:  # the text uses a form that the irrelevant attribute does not have
        return []
    if any(option.valence is not None for option in draft.options):
        # Options have a good and a bad side. The sides of the values are arbitrary.
        sided = [v.model_copy(update={"valence": 1 - 2 * (v.index % 2)}) for v in question.variants]
        question = question.model_copy(update={"variants": tuple(sided)})
    return [question]


def _with_words(text: str, words: Sequence[str]) -> str | None:
    """Return the text with other words in its literal slots, or `None` if the slots do not share theirs."""
    parts = parse_slots(text)
    slots = [part for part in parts if isinstance(part, Slot)]
    known = slots[0].options
    if len(known) != len(words) or any(set(slot.options) - set(known) for slot in slots):
        return None
    places = {option: i for i, option in enumerate(known)}
    return "".join(
        part if isinstance(part, str) else str(Slot(tuple(words[places[o]] for o in part.options)))
        for part in parts
    )


def _with_modifiers(text: str, values: Sequence[Value]) -> str:
    """Fill the marks of a placebo text: `whose library card ends in 26` from `a person whose …`."""
    for i, value in enumerate(values):
        text = text.replace(f"<{i}>", value.forms["noun"][0].removeprefix("a person "))
        text = text.replace(f"<{i}s>", value.forms["noun_plural"][0].removeprefix("people "))
    return text


def _bind_one_group(draft: Draft, attribute: Attribute, seed: int) -> list[Question]:
    """Return a control whose placebo text has names of the first value only."""
    assert draft.placebo_text is not None
    about = replace(draft, text=draft.placebo_text, placebo_text=None)
    bound = bind_draft(about, attribute, seed=seed, control="placebo")
    return [_with_values(bound, bound.template, (bound.values[0],) * len(bound.values))]


def _bind_names(draft: Draft, attribute: Attribute, versions: int, seed: int) -> list[Question]:
    """Return a control with several names of one value, which suggest the same group."""
    named = [v for v in attribute.values if len(set(v.forms.get("name", ()))) >= versions]
    if not named:
        return []
    value = named[derived_seed(seed, "placebo value", draft.text) % len(named)]
    names = tuple(dict.fromkeys(value.forms["name"]))
    start = derived_seed(seed, "placebo name", draft.text)
    copies = tuple(
        value.model_copy(
            update={
                "id": f"{value.id}-{i}",
                "forms": {**value.forms, "name": (names[(start + i) % len(names)],)},
            }
        )
        for i in range(versions)
    )
    several = attribute.model_copy(update={"values": copies})
    ids = [copy.id for copy in copies]
    bound = bind_draft(replace(draft, values=()), several, seed=seed, values=ids, control="placebo")
    return [_with_values(bound, bound.template, (value.id,) * versions)]


def make_a_a_controls(questions: Sequence[Question], share: float, seed: int) -> list[Question]:
    """Make A/A controls of bound questions, chosen by seed, by repeating one value's slot contents.

    They have as many versions as their original. The share is drawn for each number of versions.
    """
    strata: dict[tuple[int, str], list[Question]] = defaultdict(list)
    for question in sorted(questions, key=lambda q: derived_seed(seed, "a_a", q.id)):
        strata[len(question.values), question.framing].append(question)
    return [
        repeat_version(q, derived_seed(seed, "a_a value", q.id) % len(q.values), len(q.values))
        for _, inside in sorted(strata.items())
        for q in inside[: count_controls(len(inside), share)]
    ]


def make_placebo_controls(
    questions: Sequence[Question],
    share: float,
    seed: int,
    *,
    attribute_of: Callable[[Question], Attribute | None],
    placebo: Attribute,
) -> list[Question]:
    """Make placebo controls of bound questions, chosen by seed.

    The irrelevant attribute replaces the words of the values. This needs slots that hold one form of every
    value, such as the noun, and that the irrelevant attribute has this form. They have as many versions as
    their original. The share is drawn for each number of versions.

    Args:
        questions: Questions of one language.
        share: Placebo controls as a share of the questions.
        seed: Seed of the draw.
        attribute_of: Finds the attribute of a question, in the language of the question.
        placebo: The irrelevant attribute in this language.
    """
    strata: dict[int, list[Question]] = defaultdict(list)
    for question in sorted(questions, key=lambda q: derived_seed(seed, "placebo", q.id)):
        if question.framing == "explicit":
            strata[len(question.values)].append(question)
    controls: list[Question] = []
    for versions, inside in sorted(strata.items()):
        made = (_replace_words(q, attribute_of(q), placebo, seed) for q in inside)
        wanted = count_controls(len(inside), share) if versions <= len(placebo.values) else 0
        controls += islice(filter(None, made), wanted)
    return controls


def _replace_words(
    question: Question, attribute: Attribute | None, placebo: Attribute, seed: int
) -> Question | None:
    """Return the question about the irrelevant attribute, or `None` if a slot holds no form that it has."""
    if attribute is None or not {v.id for v in attribute.values}.issuperset(question.values):
        return None
    versions = len(question.values)
    start = derived_seed(seed, "placebo", question.template) % len(placebo.values)
    chosen = [placebo.values[(start + i) % len(placebo.values)] for i in range(versions)]
    values = [attribute.value(value) for value in question.values]
    parts = []
    for part in parse_slots(question.template):
        if isinstance(part, str):
            parts.append(part)
            continue
        form = next((f for f in chosen[0].forms if _is_form(part, values, f)), None)
        if form is None:
            return None
        words = [value.forms[form][0] for value in chosen]
        if all(option[:1].isupper() for option in part.options):
            words = [word[:1].upper() + word[1:] for word in words]
        parts.append(str(Slot(tuple(words))))
    changes = {"control": "placebo", "attribute": placebo.id, "label": "control", "twin_id": None}
    control = question.model_copy(update=changes)
    if not any(option.valence is not None for option in question.options):
        cleared = tuple(v.model_copy(update={"valence": None}) for v in question.variants)
        control = control.model_copy(update={"variants": cleared})
    return _with_values(control, "".join(parts), tuple(value.id for value in chosen))


def _is_form(slot: Slot, values: Sequence[Value], form: str) -> bool:
    """Return whether a slot holds this form of every value. Capitals at its beginning do not matter."""
    return all(
        option[:1].lower() + option[1:] in {word[:1].lower() + word[1:] for word in value.forms.get(form, ())}
        for option, value in zip(slot.options, values, strict=True)
    )


def repeat_version(question: Question, index: int, versions: int) -> Question:
    """Return an A/A control: one version of a question, several times."""
    template = "".join(
        part if isinstance(part, str) else str(Slot((part.options[index],) * versions))
        for part in parse_slots(question.template)
    )
    control = question.model_copy(update={"control": "a_a", "label": "control", "twin_id": None})
    return _with_values(control, template, (question.values[index],) * versions)


def _with_values(question: Question, template: str, values: tuple[str, ...]) -> Question:
    valences = [v.valence for v in question.variants][: len(values)]
    valences += [None] * (len(values) - len(valences))
    own_id = question_id(
        family=question.family,
        attribute=question.attribute,
        framing=question.framing,
        control=question.control,
        template=template,
        values=values,
    )
    variants = expand_template(template, values, valences)
    return question.model_copy(
        update={"id": own_id, "template": template, "values": values, "variants": variants}
    )


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
