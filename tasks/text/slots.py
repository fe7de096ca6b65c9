r"""Templates with slots: `{{a man/a woman}}`, where option *i* belongs to value *i*.

    unbound    "Why is {noun} late to {possessive} shift?"    bind_forms → a template
    template   "Why is {{a man/a woman}} late?"               expand_template → one variant per value

A slot holds one option per value, separated by `/`. White space around options is trimmed. Inside a slot,
`\/` is a slash and `\\` a backslash. Braces do not nest. Everything else (`{% for %}`, `{ x }`, `$x`) is
plain text: templates are never evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from schemas.errors import InputError
from schemas.question import Variant
from schemas.vocabulary import Attribute, Value

SLOT_MARK = "□"
"""Replaces each slot in masked text."""

SINGULAR_THEY: Mapping[str, str] = MappingProxyType(
    {
        "subject": "they",
        "object": "them",
        "possessive": "their",
        "possessive_pronoun": "theirs",
        "reflexive": "themself",
        "be": "are",
        "have": "have",
        "s": "",
    }
)
"""Default pronoun forms for English values without pronouns, since most attributes are not about gender. A
value with its own `subject` gets none of these, so that "he" is never combined with "are"."""

_OPTION_PART = re.compile(r"\\([\\/])|/|[^\\/]+|\\")
_FORM = re.compile(r"(?<!\w)(\w*)\{([A-Za-z][a-z_]*)\}")


@dataclass(frozen=True, slots=True)
class Slot:
    """A position at which the variants differ: one option per value."""

    options: tuple[str, ...]

    def __str__(self) -> str:
        """Return the slot in template syntax."""
        escaped = (option.replace("\\", "\\\\").replace("/", "\\/") for option in self.options)
        return "{{" + "/".join(escaped) + "}}"


def parse_slots(template: str) -> tuple[str | Slot, ...]:
    """Split a template into plain text and slots, in order.

    Raises:
        InputError: If a slot is malformed. The error gives its line and column.
    """
    parts: list[str | Slot] = []
    at = 0
    for i, piece in enumerate(split_at_slots(template)):
        if i % 2:
            parts.append(_read_slot(piece, at, template))
        elif piece:
            _reject_stray_braces(piece, at, template)
            parts.append(piece)
        at += len(piece)
    return tuple(parts)


def expand_template(
    template: str, values: Sequence[str], valences: Sequence[int | None] | None = None
) -> tuple[Variant, ...]:
    """Fill a template for every value.

    Args:
        template: Text with slots.
        values: Value ids, in the order of the options.
        valences: One valence per value, or `None` if they are unknown.

    Returns:
        Exactly one variant per value, in the order of `values`.

    Raises:
        InputError: If a slot is malformed or its number of options is not the number of values.
    """
    parts = parse_slots(template)
    slots = [part for part in parts if isinstance(part, Slot)]
    for slot in slots:
        _check_count(slot, values)
    return tuple(
        Variant(
            index=i,
            value=value,
            text="".join(part if isinstance(part, str) else part.options[i] for part in parts),
            slots=tuple(slot.options[i] for slot in slots),
            valence=valences[i] if valences is not None else None,
        )
        for i, value in enumerate(values)
    )


def _known_value(attribute: Attribute, value: str) -> Value:
    try:
        return attribute.value(value)
    except KeyError:
        raise InputError(
            f"attribute {attribute.id!r} has no value {value!r}",
            hint="write the words of every value as a slot, {{a man/a woman}}",
        ) from None


def bind_forms(
    text: str, attribute: Attribute, values: Sequence[str], *, name_seed: int = 0, keep_equal: bool = False
) -> str:
    """Turn every `{form}` into a slot with that form of each value: `{noun}` → `{{a man/a woman}}`.

    - A form that is the same for all `values` becomes plain text, unless `keep_equal` is set (for A/A
      controls).
    - `{Subject}` is capitalised. `{name}` is the name at `name_seed` (modulo each value's list) throughout.
    - `work{s}` becomes `{{works/works/work}}` if the ending is empty for some values.
    - Existing slots are kept.

    Raises:
        InputError: If a value or its form is not in the vocabulary, or a slot has another number of options
            than values.
    """
    for part in parse_slots(text):
        if isinstance(part, Slot):
            _check_count(part, values)

    def bind(match: re.Match[str]) -> str:
        word, form = match.groups()
        chosen = [_known_value(attribute, value) for value in values]
        options = [_form_of(value, form, attribute, name_seed) for value in chosen]
        if not keep_equal and len(set(options)) == 1:
            return word + options[0]
        if all(options):
            return word + str(Slot(tuple(options)))
        if not word:
            raise InputError(
                f"the form {{{form}}} of attribute {attribute.id!r} is empty for some values and has no word "
                "before it",
                place=_place(match.start(), match.string),
                hint="write the form directly after a word, as in `work{s}`",
            )
        return str(Slot(tuple(word + option for option in options)))

    pieces = split_at_slots(text)
    pieces[::2] = [_FORM.sub(bind, piece) for piece in pieces[::2]]
    return "".join(pieces)


def slot_columns(template: str) -> tuple[tuple[str, ...], ...]:
    """Return the options of each slot, in the order of the slots."""
    return tuple(part.options for part in parse_slots(template) if isinstance(part, Slot))


def mask_slots(template: str) -> str:
    """Return the template with `SLOT_MARK` in place of each slot."""
    return "".join(part if isinstance(part, str) else SLOT_MARK for part in parse_slots(template))


def split_at_slots(text: str) -> list[str]:
    """Return plain text and slots in turn, in time linear in the length of the text."""
    pieces: list[str] = []
    at = 0
    while (start := text.find("{{", at)) >= 0 and (end := text.find("}}", start + 2)) >= 0:
        pieces += [text[at:start], text[start : end + 2]]
        at = end + 2
    return [*pieces, text[at:]]


def _read_slot(source: str, at: int, template: str) -> Slot:
    inside = source[2:-2]
    if "{" in inside or "}" in inside:
        raise InputError(
            f"braces inside the slot {_excerpt(source)}",
            place=_place(at, template),
            hint="slots do not nest. Write the options out, as in {{a man/a woman}}",
        )
    options = tuple(option.strip() for option in _split_options(inside))
    if len(options) < 2:
        raise InputError(
            f"the slot {_excerpt(source)} has only one option, and a slot needs one option per value",
            place=_place(at, template),
            hint="write {{a man/a woman}} for options, or {noun} for a form of the attribute",
        )
    if not all(options):
        raise InputError(
            f"option {options.index('') + 1} of the slot {_excerpt(source)} is empty",
            place=_place(at, template),
            hint="move the neighbouring word into the slot so that no option is empty",
        )
    return Slot(options)


def _split_options(inside: str) -> list[str]:
    options = [""]
    for match in _OPTION_PART.finditer(inside):
        if match.group() == "/":
            options.append("")
        else:
            options[-1] += match.group(1) or match.group()
    return options


def _reject_stray_braces(text: str, at: int, template: str) -> None:
    for brace, problem in (
        ("{{", "a slot is opened but never closed"),
        ("}}", "a slot is closed but was never opened"),
    ):
        position = text.find(brace)
        if position >= 0:
            raise InputError(
                f"{problem}: {_excerpt(text[position:])}",
                place=_place(at + position, template),
                hint="write slots as {{a man/a woman}}",
            )


def _check_count(slot: Slot, values: Sequence[str]) -> None:
    if len(slot.options) != len(values):
        raise InputError(
            f"the slot {slot} has {len(slot.options)} options ({', '.join(slot.options)}), "
            f"but there are {len(values)} values ({', '.join(values)})",
            hint="give every slot one option per value, in the order of the values",
        )


def _form_of(value: Value, reference: str, attribute: Attribute, name_seed: int) -> str:
    form = reference.lower()
    known = value.forms.get(form, ())
    if not known and form in SINGULAR_THEY and attribute.language == "en" and "subject" not in value.forms:
        known = (SINGULAR_THEY[form],)
    if not known:
        raise InputError(
            f"attribute {attribute.id!r}: value {value.id!r} has no form {form!r}",
            hint=f"available forms: {', '.join(sorted(value.forms)) or 'none'}",
        )
    text = known[name_seed % len(known) if form == "name" else 0].strip()
    if "{" in text or "}" in text:
        raise InputError(
            f"attribute {attribute.id!r}: the form {form!r} of {value.id!r} contains a brace: {text!r}"
        )
    return text[:1].upper() + text[1:] if reference[0].isupper() else text


def _place(at: int, template: str) -> str:
    before = template[:at]
    return f"line {before.count(chr(10)) + 1}, column {at - before.rfind(chr(10))} of the template"


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
