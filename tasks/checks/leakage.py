"""An implicit question shows its value by a name or a habit; the word for the group must not be in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from schemas.attribute import Attribute, Value
from schemas.question import Question
from tasks.checks.findings import Problem, problem

GROUP_NOUNS = ("noun", "noun_plural")
GROUP_ADJECTIVES = ("adjective",)

_ARTICLE = re.compile(r"^(?:an?|the|some)\s+", re.IGNORECASE)


def check_leakage(questions: Iterable[Question], attributes: Mapping[str, Attribute]) -> list[Problem]:
    """In a slot, any word for the group is an error; around the slots a noun is, an adjective may be chance
    ("an old friend", "a white lie") and is a warning."""
    nouns = {name: _pattern(attribute, GROUP_NOUNS) for name, attribute in attributes.items()}
    adjectives = {name: _pattern(attribute, GROUP_ADJECTIVES) for name, attribute in attributes.items()}
    in_slot, in_text, perhaps = [], [], []
    for question in questions:
        if question.framing != "implicit" or question.attribute not in attributes:
            continue
        noun, adjective = nouns[question.attribute], adjectives[question.attribute]
        slots = " \n ".join(" \n ".join(v.slots) for v in question.variants)
        text = _text_around_slots(question)
        if noun.search(slots) or adjective.search(slots):
            in_slot.append(question.id)
        if noun.search(text):
            in_text.append(question.id)
        elif adjective.search(text):
            perhaps.append(question.id)
    return [
        *problem("questions", "implicit_slot_names_value", in_slot),
        *problem("questions", "implicit_text_names_group", in_text),
        *problem("questions", "implicit_text_may_name_group", perhaps),
    ]


def _text_around_slots(question: Question) -> str:
    """What all variants share. A template that cannot be read is reported elsewhere."""
    return re.sub(r"\{\{.*?\}\}", " \n ", question.template, flags=re.DOTALL)


def _pattern(attribute: Attribute, forms: tuple[str, ...]) -> re.Pattern[str]:
    words = sorted(
        {w for value in attribute.values for w in _words(value, forms)}, key=lambda w: (-len(w), w)
    )
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words)) or '(?!)'})\b", re.IGNORECASE)


def _words(value: Value, forms: tuple[str, ...]) -> Iterator[str]:
    """The forms without their article: "a woman" also leaks as "the woman"."""
    for form in forms:
        for text in value.forms.get(form, ()):
            if bare := _ARTICLE.sub("", text.strip()):
                yield bare
