"""Turn filled texts and placeholder templates in the format of discrim-eval into texts with slots.

Rows with one `decision_question_id` are the versions of one question. The places at which they differ become
slots, and the columns `age`, `race` and `gender` name the value of each version.

References:
    Tamkin et al. (2023), arXiv:2312.03689.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.vocabulary import Attribute, Value
from tasks.files.slot_values import ValueWords
from tasks.files.vocabulary import read_attribute
from tasks.text.slots import Slot

ATTRIBUTE_OF: Mapping[tuple[str, ...], str] = {
    ("gender",): "gender",
    ("race",): "race",
    ("age",): "age_decades",
    ("gender", "race"): "gender_race",
    ("age", "gender"): "age_gender",
    ("age", "gender", "race"): "age_gender_race",
}
"""Attribute of texts that differ in these columns."""
FACTORS: Mapping[str, str] = {"age": "age_decades", "race": "race", "gender": "gender"}
PRONOUNS: Mapping[str, str] = {
    "sub": "subject",
    "pos": "possessive",
    "obj": "object",
    "reflex": "reflexive",
    "age": "years",
}
TEMPLATE_GENDERS = ("woman", "man")
"""Values of templates: their verbs are written for `she` and `he`."""
FAMILY = "decision"
_PLACEHOLDER = re.compile(r"\{(\w+)\}|\[([A-Z]+)\]")
_MARK = "\x00"
"""Mark before a filled word, so that the article before it can be corrected."""
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")

Row = dict[str, Any]


def read_filled_rows(
    records: Sequence[Mapping[str, Any]], path: Path, data_dir: Path
) -> Iterator[tuple[Row, str]]:
    """Yield one row per question, with its text, attribute and values, and the place of its first record.

    Raises:
        InputError: If the versions of a question are not distinct, or are of unknown groups.
    """
    groups: dict[str, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for number, record in enumerate(records, start=1):
        groups[str(record.get("decision_question_id", number))].append((number, record))
    for own_id, members in groups.items():
        place = f"{path}, row {members[0][0]}"
        first = members[0][1]
        if _PLACEHOLDER.search(str(first.get("filled_template") or "")):
            versions, attribute = _fill_template(str(first["filled_template"]), data_dir)
        else:
            versions, attribute = _filled_versions([r for _, r in members], data_dir, place)
        yield (
            {
                "text": align_versions(list(versions.values()), place),
                "values": tuple(versions),
                "attribute": attribute,
                "family": FAMILY,
                "id": f"{FAMILY}_{own_id}",
                "topic": first.get("decision_question_nickname"),
            },
            place,
        )


def _filled_versions(
    records: Sequence[Mapping[str, Any]], data_dir: Path, place: str
) -> tuple[dict[str, str], str]:
    """Return the text of each value, in the order of the attribute, and the attribute."""
    varying = tuple(sorted(name for name in FACTORS if len({str(r.get(name)) for r in records}) > 1))
    name = ATTRIBUTE_OF.get(varying)
    if name is None:
        found = " and ".join(varying) or "nothing"
        raise InputError(
            f"the versions of the question differ in {found}",
            place=place,
            hint="supported are age, gender, race, gender and race, age and gender, and all three",
        )
    attribute = read_attribute(data_dir, name)
    words = {factor: ValueWords(read_attribute(data_dir, FACTORS[factor])) for factor in varying}
    texts: dict[str, str] = {}
    for record in records:
        owners = {factor: words[factor].owners(_spelled(record, factor)) for factor in varying}
        value = next((v.id for v in attribute.values if _has_factors(v, owners, attribute)), None)
        if value is None:
            shown = ", ".join(f"{factor} {record.get(factor)!r}" for factor in varying)
            raise InputError(
                f"{shown}: no value of {name!r}", place=place, hint="correct the row, or remove it"
            )
        texts.setdefault(value, str(record.get("filled_template") or "").strip())
    return {v.id: texts[v.id] for v in attribute.values if v.id in texts}, name


def _spelled(record: Mapping[str, Any], factor: str) -> str:
    value = record.get(factor)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{value}-year-old" if factor == "age" and str(value).isdigit() else str(value)


def _has_factors(value: Value, owners: Mapping[str, set[str]], attribute: Attribute) -> bool:
    factors = value.factors or {next(iter(owners)): value.id}
    return all(factors.get(factor) in found for factor, found in owners.items())


def _fill_template(text: str, data_dir: Path) -> tuple[dict[str, str], str]:
    """Fill the placeholders of a template for every value of the attributes that it names."""
    named = {(m[0] or m[1]).lower() for m in _PLACEHOLDER.findall(text)}
    factors = tuple(sorted(named & set(FACTORS))) or ("gender",)
    name = ATTRIBUTE_OF.get(factors, "age_gender_race")
    attribute = read_attribute(data_dir, name)
    parts = {f: {v.id: v for v in read_attribute(data_dir, FACTORS[f]).values} for f in FACTORS}
    texts = {}
    for value in attribute.values:
        chosen = value.factors or {factors[0]: value.id}
        if chosen.get("gender", TEMPLATE_GENDERS[0]) in TEMPLATE_GENDERS:
            words = {factor: parts[factor][chosen[factor]] for factor in chosen}
            texts[value.id] = _filled(text, words)
    return texts, name


def _filled(text: str, words: Mapping[str, Value]) -> str:
    filled = _PLACEHOLDER.sub(lambda m: _MARK + _word(m[1] or m[2], words), text)
    return re.sub(rf"\b([Aa]) {_MARK}(?=[AEIOaeio])", r"\1n ", filled).replace(_MARK, "")


def _word(name: str, factors: Mapping[str, Value]) -> str:
    """Return the word for a placeholder. Those that name no form are verbs, and stay as they are."""
    key = name.lower()
    if key in factors and key != "age":
        return factors[key].forms["adjective"][0]
    form = PRONOUNS.get(key)
    for value in factors.values():
        if form in value.forms:
            word = value.forms[form][0].removesuffix("-year-old")
            return word[:1].upper() + word[1:] if name[0].isupper() and not name.isupper() else word
    if key == "age" and "age" in factors:
        return factors["age"].id.removeprefix("age_")
    return name


def align_versions(texts: Sequence[str], place: str) -> str:
    """Return the template of the given versions.

    Tokens that all texts share, in order, are kept. Everything between them becomes a slot.

    Raises:
        InputError: If there are fewer than two texts, or two of them are equal.
    """
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise InputError("two or more different versions are needed", place=place)
    tokens = [_TOKEN.findall(text) for text in texts]
    shared = tokens[0]
    for other in tokens[1:]:
        matcher = SequenceMatcher(None, shared, other, autojunk=False)
        shared = [
            t for block in matcher.get_matching_blocks() for t in shared[block.a : block.a + block.size]
        ]
    gaps = [_gaps(shared, own) for own in tokens]
    pieces: list[str | list[str]] = []
    for i in range(len(shared) + 1):
        options = ["".join(own[i]) for own in gaps]
        if any(options):
            pieces.append(options)
        if i < len(shared):
            pieces.append(shared[i])
    return "".join(
        piece if isinstance(piece, str) else str(Slot(tuple(piece)))
        for piece in _without_empty_options(pieces)
    )


def _gaps(shared: Sequence[str], own: Sequence[str]) -> list[list[str]]:
    """Return the tokens of a text before each shared token, and after the last one."""
    matcher = SequenceMatcher(None, shared, own, autojunk=False)
    places = {b.a + k: b.b + k for b in matcher.get_matching_blocks() for k in range(b.size)}
    if len(places) < len(shared):  # take the leftmost place of every token
        places, at = {}, 0
        for i, token in enumerate(shared):
            at = own.index(token, at)
            places[i] = at
            at += 1
    ends = [-1, *(places[i] for i in range(len(shared))), len(own)]
    return [list(own[a + 1 : b]) for a, b in pairwise(ends)]


def _without_empty_options(pieces: Sequence[str | list[str]]) -> list[str | list[str]]:
    """Merge a slot that is empty, or only space, for some version with the shared tokens around it."""
    merged: list[str | list[str]] = []
    pending = list(pieces)
    while pending:
        piece = pending.pop(0)
        if isinstance(piece, str):
            merged.append(piece)
            continue
        while not all(option.strip() == option and option for option in piece):
            if pending:
                after = pending.pop(0)
                added = [after] * len(piece) if isinstance(after, str) else after
                piece = [a + b for a, b in zip(piece, added, strict=True)]
            if all(option.strip() == option and option for option in piece) or not merged:
                if not pending and not merged:
                    break
                continue
            before = merged.pop()
            added = [before] * len(piece) if isinstance(before, str) else before
            piece = [a + b for a, b in zip(added, piece, strict=True)]
        merged.append(piece)
    return merged
