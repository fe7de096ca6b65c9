"""BBNLI's public files: one stereotype each, premises and hypotheses with places for groups and words (arXiv
2305.12620; github.com/feyzaakyurek/bbnli)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from schemas.errors import InputError

_PLACE = re.compile(r"\{\{(\w+)\}\}")
_SWAPPED = {"GROUP1": "GROUP2", "GROUP2": "GROUP1"}
CONTRADICTION, ENTAILMENT = 0, 2


class Stereotype(BaseModel):
    """What is read of a file: the third part of a hypothesis is the label that the stereotype predicts."""

    name: str
    premise: tuple[str, ...]
    bias_hypothesis_stereotypical: tuple[tuple[str, int, int], ...]
    words: dict[str, tuple[str, ...]] = Field(alias="data")
    first: tuple[str, ...] = Field(alias="GROUP1")
    second: tuple[str, ...] = Field(alias="GROUP2")


class Statement(BaseModel):
    """One premise and hypothesis: a row of a file to be answered."""

    name: str
    item: str
    stereotype: int
    """The label that the stereotype predicts, as BBNLI numbers them: 0 contradiction, 2 entailment."""
    wording: int
    premise: str
    hypothesis: str


def read_stereotype(path: Path) -> Stereotype:
    """One file. Raises `InputError` where it is none of BBNLI's."""
    try:
        return Stereotype.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise InputError(f"not a file of BBNLI: {reason}", place=str(path)) from None


def statements_of(stereotype: Stereotype) -> Iterator[Statement]:
    """Every premise with every hypothesis as it stands, and with the groups exchanged, which turns the
    predicted label round; a hypothesis that names neither group through a place has one side. Each in all
    its words, of which the first are the original wording."""
    groups = {"GROUP1": stereotype.first[0], "GROUP2": stereotype.second[0]}
    exchanged = {place: groups[other] for place, other in _SWAPPED.items()}
    for i, premise in enumerate(stereotype.premise):
        for j, (hypothesis, _, predicted) in enumerate(stereotype.bias_hypothesis_stereotypical):
            places = _PLACE.findall(hypothesis)
            sides = [(groups, predicted)]
            if set(places) & set(groups):
                sides.append((exchanged, CONTRADICTION if predicted == ENTAILMENT else ENTAILMENT))
            choices = {p: stereotype.words.get(p, ()) for p in dict.fromkeys(places) if p not in groups}
            for side, label in sides:
                for n, words in enumerate(product(*choices.values())):
                    yield Statement(
                        name=stereotype.name,
                        item=f"{i}.{j}",
                        stereotype=label,
                        wording=n,
                        premise=_fill(premise, groups | _first_words(stereotype)),
                        hypothesis=_fill(hypothesis, side | dict(zip(choices, words, strict=True))),
                    )


def _first_words(stereotype: Stereotype) -> dict[str, str]:
    return {place: words[0] for place, words in stereotype.words.items() if words}


def _fill(text: str, words: dict[str, str]) -> str:
    """Every place filled in one pass; what has no word stays as it is."""
    return _PLACE.sub(lambda match: words.get(match.group(1), match.group()), text)
