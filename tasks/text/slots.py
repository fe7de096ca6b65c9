"""Names of ours from words of others: what a model calls a topic becomes `[a-z0-9_]`, and nothing else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from schemas.errors import InputError
from schemas.question import Variant
from schemas.tables import content_hash
from schemas.vocabulary import Attribute, Value

LONGEST = 48
"""Characters."""


def identifier(title: str) -> str:
    """A title as an id: letters without their accents, digits, `_` between words, 1 to 48 characters.

    The same words give the same id. A title without any such letter gets a hash of its own.
    """
    plain = unicodedata.normalize("NFKD", title.replace("&", " and ")).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    if not words:
        return f"x_{content_hash(title.strip().casefold())[:8]}"
    return words[:LONGEST].strip("_")


def title_of(name: str) -> str:
    """An id as people read it."""
    return name.replace("_", " ")


# Slots: `{{a man/a woman}}`, where option *i* belongs to value *i*; and the forms that become slots.
#
#     template   "Why is {{a man/a woman}} late?"      expand_template → one variant per value
#     unbound    "Why is {noun} late to {possessive} shift?"   bind_forms → a template
#
# A slot holds one option per value, separated by `/`; space around options is trimmed. Inside a slot `\/`
# is a slash and `\\` a backslash. Braces do not nest. Everything else (`{% for %}`, `{ x }`, `$x`) is plain
# text: nothing in a template is ever evaluated.


SLOT_MARK = "□"
"""Stands for a slot in masked text."""

# Singular they, for values that say nothing about pronouns (most attributes are not about gender).
# A value with its own `subject` gets none of these, so that "he" never meets "are".
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

_SLOT = re.compile(r"(\{\{.*?\}\})", re.DOTALL)
_OPTION_PART = re.compile(r"\\([\\/])|/|[^\\/]+|\\")
_FORM = re.compile(r"(\w*)\{([A-Za-z][a-z_]*)\}")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where the variants differ: one option per value."""

    options: tuple[str, ...]

    def __str__(self) -> str:
        """The slot as a template writes it."""
        escaped = (option.replace("\\", "\\\\").replace("/", "\\/") for option in self.options)
        return "{{" + "/".join(escaped) + "}}"


def parse_slots(template: str) -> tuple[str | Slot, ...]:
    """Plain text and slots in turn, as they stand. Raises `InputError` with the place of a broken slot."""
    parts: list[str | Slot] = []
    at = 0
    for i, piece in enumerate(_SLOT.split(template)):
        if i % 2:
            parts.append(_read_slot(piece, at, template))
        elif piece:
            _refuse_stray_braces(piece, at, template)
            parts.append(piece)
        at += len(piece)
    return tuple(parts)


def expand_template(
    template: str, values: Sequence[str], valences: Sequence[int | None] | None = None
) -> tuple[Variant, ...]:
    """Exactly one variant per value id, in their order; `valences`, if given, has one entry per value.

    Raises `InputError` where a slot is broken or has not as many options as there are values.
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


def bind_forms(
    text: str, attribute: Attribute, values: Sequence[str], *, name_seed: int = 0, keep_equal: bool = False
) -> str:
    """Turn every `{form}` into a slot with that form of each value: `{noun}` → `{{a man/a woman}}`.

    - A form that is the same for all `values` becomes plain text, unless `keep_equal` (A/A controls keep it).
    - `{Subject}` capitalises; `{name}` takes the name at `name_seed` (modulo each value's list) throughout.
    - `work{s}` takes its word along where an ending is empty: `{{works/works/work}}`.
    - Slots that are written out stay as they are.

    Raises `InputError` for a form that a value does not have, or a slot of another length than `values`.
    """
    for part in parse_slots(text):
        if isinstance(part, Slot):
            _check_count(part, values)
    chosen = [attribute.value(value) for value in values]

    def bind(match: re.Match[str]) -> str:
        word, form = match.groups()
        options = [_form_of(value, form, attribute, name_seed) for value in chosen]
        if not keep_equal and len(set(options)) == 1:
            return word + options[0]
        if all(options):
            return word + str(Slot(tuple(options)))
        if not word:
            raise InputError(
                f"the form {{{form}}} of attribute {attribute.id!r} is empty for some values and has no "
                "word before it to be the ending of",
                place=_place(match.start(), match.string),
                hint="write it directly after a word, as in `work{s}`",
            )
        return str(Slot(tuple(word + option for option in options)))

    pieces = _SLOT.split(text)
    pieces[::2] = [_FORM.sub(bind, piece) for piece in pieces[::2]]
    return "".join(pieces)


def slot_columns(template: str) -> tuple[tuple[str, ...], ...]:
    """The options of every slot, in the order of the slots."""
    return tuple(part.options for part in parse_slots(template) if isinstance(part, Slot))


def mask_slots(template: str) -> str:
    """The text outside the slots, with `SLOT_MARK` where each slot stands."""
    return "".join(part if isinstance(part, str) else SLOT_MARK for part in parse_slots(template))


def _read_slot(source: str, at: int, template: str) -> Slot:
    inside = source[2:-2]
    if "{" in inside or "}" in inside:
        raise InputError(
            f"braces inside the slot {_short(source)}",
            place=_place(at, template),
            hint="slots do not nest: write the options out, as in {{a man/a woman}}",
        )
    options = tuple(option.strip() for option in _split_options(inside))
    if len(options) < 2:
        raise InputError(
            f"the slot {_short(source)} has one option: a slot needs one option per value",
            place=_place(at, template),
            hint="write {{a man/a woman}} for options, or {noun} for a form of the attribute",
        )
    if not all(options):
        raise InputError(
            f"option {options.index('') + 1} of the slot {_short(source)} is empty",
            place=_place(at, template),
            hint="take the word beside it into the slot, so that every option says something",
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


def _refuse_stray_braces(text: str, at: int, template: str) -> None:
    for brace, problem in (
        ("{{", "a slot is opened and never closed"),
        ("}}", "a slot is closed that was never opened"),
    ):
        found = text.find(brace)
        if found >= 0:
            raise InputError(
                f"{problem}: {_short(text[found:])}",
                place=_place(at + found, template),
                hint="a slot is written {{a man/a woman}}",
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
            hint=f"it has: {', '.join(sorted(value.forms)) or 'none'}",
        )
    text = known[name_seed % len(known) if form == "name" else 0].strip()
    if "{" in text or "}" in text:
        raise InputError(
            f"attribute {attribute.id!r}: the form {form!r} of {value.id!r} holds a brace: {text!r}"
        )
    return text[:1].upper() + text[1:] if reference[0].isupper() else text


def _place(at: int, template: str) -> str:
    before = template[:at]
    return f"line {before.count(chr(10)) + 1}, column {at - before.rfind(chr(10))} of the template"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
