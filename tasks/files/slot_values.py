"""Match the slots of a text to the values of an attribute by their words, and bind its forms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from schemas.errors import InputError, join_steps
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_attribute
from tasks.files.yaml import read_yaml
from tasks.text.slots import Slot, bind_forms, parse_slots
from tasks.text.slugs import slugify

_ARTICLE = re.compile(
    r"^(?:an?|the|un|una|unos|unas|el|la|los|las|une|des|le|les|ein|eine|einen|einem|einer|der|die|das|"
    r"(?:l|d)'|\u4e00[\u4f4d\u540d\u4e2a])(?:(?<=['\u4f4d\u540d\u4e2a])|\s+)|^\u0627\u0644(?=\w)"
)
"""Articles of English, Spanish, French, German, Chinese (with a measure word) and Arabic."""


_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


VERB_FORMS = frozenset({"be", "have", "s"})
"""Forms that are no words of a value."""


TITLES = frozenset({"mr", "mrs", "ms", "mx", "dr", "prof", "mr.", "mrs.", "ms.", "mx.", "dr.", "prof."})


class CabNames(BaseModel):
    """Contents of data/imports/cab.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    attributes: dict[str, str]
    """Our attribute for each of CAB's."""
    words: dict[str, dict[str, tuple[str, ...]]] = {}
    """Words of values that the attribute files do not have, by attribute and value."""


class ValueWords:
    """The words by which an attribute's values are recognised."""

    def __init__(
        self,
        attribute: Attribute,
        more: Mapping[str, Sequence[str]] | None = None,
        language: str | None = None,
    ) -> None:
        """Collect the words of the attribute's file and `more` words by value.

        `language` is that of the texts, if it may differ from that of the file.
        """
        self.attribute = attribute
        self.language = (language or attribute.language).split("-")[0]
        self._whole: dict[str, set[str]] = defaultdict(set)
        self._single: dict[str, set[str]] = defaultdict(set)
        self._given: dict[str, set[str]] = defaultdict(set)
        for value in attribute.values:
            for form, texts in value.forms.items():
                for text in texts if form not in VERB_FORMS else ():
                    self._add(value.id, text)
                    if form == "name":
                        self._given[_bare(text).split()[0]].add(value.id)
            for text in (value.id, value.id.replace("_", " "), value.title, *(more or {}).get(value.id, ())):
                self._add(value.id, text)

    def _add(self, value: str, text: str) -> None:
        bare = _bare(text)
        for spelling in {bare, bare.removesuffix(" person")} - {""}:
            self._whole[spelling].add(value)
            if " " not in spelling:
                self._single[spelling].add(value)

    def owners(self, option: str) -> set[str]:
        """Return the values that an option's words belong to. Empty if they are unknown.

        The whole option counts first, then a given name at its start, then single words, then the longest
        known spelling inside the option.
        """
        bare = _bare(option)
        if bare in self._whole:
            return set(self._whole[bare])
        words = re.findall(r"[\w'-]+", bare)
        first = next((w for w in words if w not in TITLES), "")
        if first in self._given:
            return set(self._given[first])
        found = [self._single[w] for w in words if w in self._single]
        return set.intersection(*found) if found else self._inside(bare)

    def _inside(self, bare: str) -> set[str]:
        """Return the values of the longest spelling inside an option. Chinese has no spaces around words."""
        inside = [
            known
            for known in self._whole
            if known in bare and (_UNSPACED.search(known) or f" {known} " in f" {bare} ")
        ]
        longest = max(map(len, inside), default=0)
        owners = [self._whole[known] for known in inside if len(known) == longest]
        return set.intersection(*owners) if owners else set()


def values_of(template: str, words: ValueWords, place: str = "") -> tuple[str, ...]:
    """Return the value of each option by its words. Option *i* of every slot belongs to the same value.

    Raises:
        InputError: If slots differ in their number of options, two slots contradict each other, two options
            belong to one value, or no slot has a known word for an option.
    """
    slots = [part for part in parse_slots(template) if isinstance(part, Slot)]
    attribute = words.attribute
    if uneven := next((s for s in slots if len(s.options) != len(slots[0].options)), None):
        raise InputError(
            f"the slots {slots[0]} and {uneven} differ in their number of options",
            place=place,
            hint="give every slot one option per value",
        )
    candidates = []
    for i in range(len(slots[0].options)):
        found: set[str] = set()
        since = slots[0]
        for slot in slots:
            owners = words.owners(slot.options[i])
            if found and owners and not found & owners:
                raise InputError(
                    f"the slots {since} and {slot} contradict each other: {since.options[i]!r} is "
                    f"{_either(found)}, {slot.options[i]!r} is {_either(owners)}",
                    place=place,
                    hint="write the values of all slots in the same order",
                )
            if owners:
                found, since = (found & owners or owners), slot
        candidates.append(found)
    values = _settle(candidates)
    unknown = [i for i, value in enumerate(values) if value is None]
    if unknown:
        texts = ", ".join(repr(slots[0].options[i]) for i in unknown)
        known = ", ".join(value.id for value in attribute.values)
        raise InputError(
            f"the slot {slots[0]}: {texts} cannot be matched to a value of {attribute.id!r}",
            place=place,
            hint=f"use words of {_file_of(attribute, words.language)} ({known}), or add them under `words` "
            "in a file of your own with this name",
        )
    chosen = tuple(str(value) for value in values)
    for value in chosen:
        if chosen.count(value) > 1:
            same = [slots[0].options[i] for i, other in enumerate(chosen) if other == value]
            raise InputError(
                f"the slot {slots[0]}: {' and '.join(map(repr, same))} are both {value!r}",
                place=place,
                hint="give each option another value",
            )
    return chosen


def _file_of(attribute: Attribute, language: str) -> str:
    """Return the place of an attribute's file, below the folder of the vocabulary or of the recipe."""
    folder = "" if language == "en" else f"{language}/"
    return f"attributes/{folder}{attribute.id}.yaml"


def _settle(candidates: Sequence[set[str]]) -> list[str | None]:
    """Return the only candidate of each option, leaving out those that are certain for another option."""
    certain = {next(iter(c)) for c in candidates if len(c) == 1}
    settled = []
    for c in candidates:
        rest = c if len(c) == 1 else c - certain
        settled.append(next(iter(rest)) if len(rest) == 1 else None)
    return settled


def _either(values: Iterable[str]) -> str:
    return " or ".join(sorted(values))


def _bare(text: str) -> str:
    """Return a text in lower case without article, possessive ending and marks around it."""
    plain = " ".join(text.lower().replace("\u2019", "'").split()).strip(".,;:!?")
    return _ARTICLE.sub("", plain).removesuffix("'s")


def value_words(data_dir: Path, name: str, language: str | None, place: str) -> ValueWords:
    """Return the words of an attribute in a language. Names of CAB are understood as well.

    Raises:
        InputError: If there is no such attribute, or its file is not valid.
    """
    names = _cab_names(data_dir)
    tried = dict.fromkeys((name, name.lower(), slugify(name), names.attributes.get(name.lower(), name)))
    for own in tried:
        try:
            attribute = read_attribute(data_dir, own, language=language)
        except InputError as error:
            if error.place is None or not error.place.endswith("attributes"):
                raise InputError(error.message, place=error.place, hint=error.hint) from None
            unknown = error
            continue
        more = names.words.get(own, {}) if attribute.language == "en" else {}
        return ValueWords(attribute, more, language)
    raise InputError(
        f"there is no attribute {name[:40]!r}",
        place=place,
        hint=join_steps(
            unknown.hint or "correct the name",
            "`counterfoil init attribute` writes a file for an attribute of your own",
        ),
    )


@cache
def _cab_names(data_dir: Path) -> CabNames:
    return read_yaml(data_dir / "imports" / "cab.yaml", CabNames)


def bind_text(text: str, words: ValueWords, place: str, name_seed: int = 0) -> tuple[str, tuple[str, ...]]:
    """Match the slots of a text to values by their words, and bind its `{forms}`.

    Returns:
        The template and its value ids, both in the order of the attribute.

    Raises:
        InputError: If the text has no slot, a slot is broken, or an option belongs to no value.
    """
    attribute = words.attribute
    try:
        parts = parse_slots(text)
        if words.language != attribute.language and any(isinstance(p, str) and "{" in p for p in parts):
            raise InputError(
                f"attribute {attribute.id!r} has no words in {words.language!r}",
                hint=f"add attributes/{words.language}/{attribute.id}.yaml beside the recipe, or write the "
                "options out",
            )
        slots = [part for part in parts if isinstance(part, Slot)]
        values = values_of(text, words, place) if slots else tuple(v.id for v in attribute.values)
        order = [values.index(v.id) for v in attribute.values if v.id in values]
        sorted_text = "".join(
            p if isinstance(p, str) else str(Slot(tuple(p.options[i] for i in order))) for p in parts
        )
        chosen = tuple(values[i] for i in order)
        template = bind_forms(sorted_text, attribute, chosen, name_seed=name_seed)
        if not any(isinstance(part, Slot) for part in parse_slots(template)):
            raise InputError(
                "the text has no slot",
                hint="write {{a man/a woman}}, or a form of the attribute such as {noun}",
            )
    except InputError as error:
        at = place if error.place in (None, place) else f"{place}, {error.place}"
        raise InputError(error.message, place=at, hint=error.hint) from None
    return template, chosen


def rebind_text(question: Question, text: str, data_dir: Path, *, name_seed: int = 0) -> str:
    """Return the template of a new text for an existing question.

    Forms of the attribute are written out. In a question of a person, the options of slots are put in the
    order of the question's values by their words. Unchanged if the vocabulary does not contain the attribute.

    Raises:
        InputError: If a value lacks a form, or the slots belong to other values.
    """
    try:
        attribute = read_attribute(data_dir, question.attribute, language=question.language)
    except InputError:
        return text
    is_own = question.origin == "imported" and question.control == "none"
    slots = [part for part in parse_slots(text) if isinstance(part, Slot)]
    if is_own and slots:
        more = _cab_names(data_dir).words.get(attribute.id, {}) if attribute.language == "en" else {}
        text = _order_slots(question, text, slots, ValueWords(attribute, more))
    return bind_forms(
        text, attribute, question.values, name_seed=name_seed, keep_equal=question.control == "a_a"
    )


def _order_slots(question: Question, text: str, slots: Sequence[Slot], words: ValueWords) -> str:
    """Return the text with the options of slots in the order of the values, unless the words are unknown."""
    if not any(words.owners(option) for slot in slots for option in slot.options):
        return text
    values = values_of(text, words, question.id)
    if sorted(values) != sorted(question.values):
        raise InputError(
            f"the slots belong to {', '.join(values)}, and not to {', '.join(question.values)}",
            place=question.id,
        )
    order = [values.index(value) for value in question.values]
    return "".join(
        p if isinstance(p, str) else str(Slot(tuple(p.options[i] for i in order))) for p in parse_slots(text)
    )
