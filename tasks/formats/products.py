"""Products: an attribute whose values are the combinations of others' values, worded by patterns.

    product: {race: {attribute: race}, gender: {attribute: gender, values: [woman, man]}}
    forms: {noun: "{race.described} {gender.bare}"}

gives `white_woman`, "a white woman", with the factors `{race: white, gender: woman}`. A factor may be a
product itself; then its own factors are the value's. Pronouns need no pattern.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product

from schemas.attribute import Attribute, Value
from schemas.errors import InputError
from tasks.text.slots import SINGULAR_THEY

Combination = Mapping[str, Value]
"""One value of every factor."""

_REFERENCE = re.compile(r"\{(\w+)\.(\w+)\}")


def multiply(attribute: Attribute, parts: Mapping[str, Attribute], place: str) -> Attribute:
    """The attribute with a value for every combination of its parts', and what the file adds to single ones.

    Raises `InputError` for a value that a part has not, a form that no factor has, or an addition to no
    combination.
    """
    chosen = {
        name: _chosen(parts[name], part.values, f"{place}: product.{name}")
        for name, part in attribute.product.items()
    }
    own = {value.id: value for value in attribute.values}
    values = []
    for combination in product(*chosen.values()):
        combined = _combined(dict(zip(chosen, combination, strict=True)), attribute.forms, place)
        values.append(_with_own(combined, own.pop(combined.id, None)))
    if own:
        raise InputError(
            f"{next(iter(own))!r} is no combination of the factors",
            place=place,
            hint=f"combinations are called like {values[0].id!r}",
        )
    return attribute.model_copy(update={"values": tuple(values)})


def _chosen(part: Attribute, wanted: Sequence[str], place: str) -> tuple[Value, ...]:
    known = {value.id: value for value in part.values}
    for name in wanted:
        if name not in known:
            raise InputError(
                f"attribute {part.id!r} has no value {name!r}",
                place=place,
                hint=f"it has: {', '.join(known)}",
            )
    return tuple(known[name] for name in wanted) or part.values


def _combined(combination: Combination, patterns: Mapping[str, str], place: str) -> Value:
    """Its pronouns are those of the factor that has any; its other forms are those of the patterns."""
    pronouns = {k: w for value in combination.values() for k, w in value.forms.items() if k in SINGULAR_THEY}
    forms = pronouns | {name: _worded(pattern, combination, place) for name, pattern in patterns.items()}
    factors: dict[str, str] = {}
    for name, value in combination.items():
        factors |= value.factors or {name: value.id}
    valences = [v.valence for v in combination.values() if v.valence is not None]
    return Value(
        id="_".join(value.id for value in combination.values()),
        title=", ".join(value.title for value in combination.values()),
        valence=valences[0] if valences else None,
        forms=forms,
        factors=factors,
    )


def _worded(pattern: str, combination: Combination, place: str) -> tuple[str, ...]:
    """As many wordings as the longest list that the pattern refers to; single words serve for all."""
    lists = {}
    for name, form in _REFERENCE.findall(pattern):
        value = combination.get(name)
        if value is None or form not in value.forms:
            raise InputError(
                f"the pattern {pattern!r} needs {{{name}.{form}}}, which "
                + (f"value {value.id!r} does not have" if value else "is no factor of the product"),
                place=place,
            )
        lists[name, form] = value.forms[form]

    def wording(i: int) -> str:
        return _REFERENCE.sub(lambda m: lists[m[1], m[2]][i % len(lists[m[1], m[2]])], pattern)

    return tuple(wording(i) for i in range(max((len(words) for words in lists.values()), default=1)))


def _with_own(combined: Value, own: Value | None) -> Value:
    if own is None:
        return combined
    return combined.model_copy(update={"title": own.title, "forms": {**combined.forms, **own.forms}})
