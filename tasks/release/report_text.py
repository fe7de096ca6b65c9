"""Texts of others on the page: cut where they are long, with slots and evidence marked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from schemas.question import Variant

LONGEST = 600
"""Characters of one text that the page shows."""
SHORTEST_EVIDENCE = 6
"""Characters that a quotation needs to say anything."""

_SLOT = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_QUOTED = re.compile(r"“([^”]+)”|\"([^\"]+)\"|«([^»]+)»|„([^“]+)“|‘([^’]+)’|(?<!\w)'([^']+)'(?!\w)")


@dataclass(frozen=True)
class Piece:
    """Part of a text; `slot`: whether it is what stands in a slot, or what decided."""

    text: str
    slot: bool


@dataclass(frozen=True)
class Shown:
    """What the page shows of a text. `of`: characters of the whole, where it is cut."""

    pieces: tuple[Piece, ...]
    of: int | None = None
    where: str = ""
    """The query that gives the whole text."""


def shown(pieces: Sequence[Piece], where: str = "", most: int = LONGEST) -> Shown:
    """The first `most` characters."""
    whole = sum(len(p.text) for p in pieces)
    kept: list[Piece] = []
    left = most
    for piece in pieces:
        if left > 0:
            kept.append(replace(piece, text=piece.text[:left]))
            left -= len(piece.text)
    return Shown(tuple(kept), whole if whole > most else None, where)


def plain_text(text: str, where: str = "", evidence: Iterable[str] = (), most: int = LONGEST) -> Shown:
    """The beginning of a text, with every stretch of it that is evidence marked."""
    found = shown([Piece(text, False)], where, most)
    return replace(found, pieces=mark_spans(text[:most], evidence))


def mark_spans(text: str, spans: Iterable[str]) -> tuple[Piece, ...]:
    """The text cut where one of the spans begins or ends, whatever their case; the longest first."""
    ordered = sorted({s for s in spans if len(s) >= SHORTEST_EVIDENCE}, key=lambda s: (-len(s), s))
    if not ordered:
        return (Piece(text, False),)
    parts = re.split("(" + "|".join(map(re.escape, ordered)) + ")", text, flags=re.IGNORECASE)
    return tuple(Piece(part, bool(i % 2)) for i, part in enumerate(parts) if part)


def quotations(text: str) -> list[str]:
    """What stands between quotation marks."""
    return [next(filter(None, found)).strip(" .,;…") for found in _QUOTED.findall(text)]


def marked(variant: Variant, template: str) -> tuple[Piece, ...]:
    """The text cut at its slots; in one piece where template and slots do not give the text."""
    around = _SLOT.split(template)
    if len(around) != len(variant.slots) + 1:
        return (Piece(variant.text, False),)
    pieces = [Piece(around[0], False)]
    for slot, after in zip(variant.slots, around[1:], strict=True):
        pieces += [Piece(slot, True), Piece(after, False)]
    if "".join(p.text for p in pieces) != variant.text:
        return (Piece(variant.text, False),)
    return tuple(p for p in pieces if p.text)


def marked_template(template: str, where: str = "") -> Shown:
    """A template cut at its slots, each with all of its options."""
    around, slots = _SLOT.split(template), _SLOT.findall(template)
    pieces = [Piece(around[0], False)]
    for slot, after in zip(slots, around[1:], strict=True):
        pieces += [Piece(slot[2:-2], True), Piece(after, False)]
    return shown([p for p in pieces if p.text], where)
