"""Texts as a reviewer reads them: cut where they are long, with what differs and what hides made visible."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.text.similarity import changed_words, ratio

SHOWN = 1_200
"""Characters of an answer that stand on the page; the rest is fetched when it is asked for."""
ALIKE = 60.0
"""Ratio (0 to 100) from which two answers are much the same, and compared word by word in order."""

_WORD = re.compile(r"\s+|\w+(?:[’'-]\w+)*|[^\w\s]")
_KEPT = "\n\t"
_WITHOUT_KEPT = dict.fromkeys(map(ord, _KEPT))
_NAMES = {
    "\u202a": "left-to-right embedding",
    "\u202b": "right-to-left embedding",
    "\u202c": "end of embedding",
    "\u202d": "left-to-right override",
    "\u202e": "right-to-left override",
}


@dataclass(frozen=True)
class Piece:
    """A stretch of text. `kind`: empty, `slot`, `differs`, `evidence`, or `hidden`, a character that does
    something and shows nothing, with its name as the text."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Cut:
    """A text as far as it is shown."""

    pieces: tuple[Piece, ...]
    length: int
    """Characters of the whole text."""
    whole: bool


def is_hidden(character: str) -> bool:
    """Controls, and the format characters that turn the direction of text or have no width. Joiners stay:
    scripts and emoji need them."""
    if character in _KEPT or character in "\u200c\u200d":
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def hidden_name(character: str) -> str:
    """What to call such a character: `right-to-left override U+202E`."""
    name = _NAMES.get(character) or unicodedata.name(character, "control").lower()
    return f"{name} U+{ord(character):04X}"


def visible(text: str, kind: str = "") -> list[Piece]:
    """The text in pieces, hidden characters named."""
    text = text.replace("\r\n", "\n")
    if text.translate(_WITHOUT_KEPT).isprintable():
        return [Piece(text, kind)] if text else []
    pieces: list[Piece] = []
    start = 0
    for at, character in enumerate(text):
        if is_hidden(character):
            pieces += [Piece(text[start:at], kind)] if at > start else []
            pieces.append(Piece(hidden_name(character), "hidden"))
            start = at + 1
    return pieces + ([Piece(text[start:], kind)] if start < len(text) else [])


def plain(text: str) -> str:
    """The text in one, hidden characters named in brackets."""
    return "".join(f"⟨{p.text}⟩" if p.kind == "hidden" else p.text for p in visible(text))


def shorten(text: str, shown: int = SHOWN) -> str:
    """The beginning of a text, cut at a space where there is one near the end."""
    if len(text) <= shown + shown // 4:
        return text
    at = text.rfind(" ", shown - 80, shown)
    return text[: at if at > 0 else shown]


def side_by_side(texts: Sequence[str], shown: int = SHOWN) -> list[Cut]:
    """Texts that stand beside each other, each with the words marked that set it apart.

    A word is set apart where no text beside it has it; and where a text is much like another (a ratio of
    `ALIKE` or more), also where the two differ word by word, so that one "not" is seen.
    """
    beginnings = [shorten(text, shown) for text in texts]
    words = [_WORD.findall(text) for text in beginnings]
    return [
        Cut(_marked(words[i], _set_apart(i, words, beginnings)), len(text), len(text) == len(beginnings[i]))
        for i, text in enumerate(texts)
    ]


def _set_apart(i: int, words: Sequence[Sequence[str]], texts: Sequence[str]) -> list[bool]:
    others = [j for j in range(len(words)) if j != i]
    if not others or not words[i]:
        return [False] * len(words[i])
    shared = {word.lower() for j in others for word in words[j]}
    apart = [word.lower() not in shared for word in words[i]]
    likeness, nearest = max((ratio(texts[i], texts[j]), -j) for j in others)
    if likeness >= ALIKE:
        changed = changed_words(words[-nearest], words[i])
        apart = [a or b for a, b in zip(apart, changed, strict=True)]
    return [mark and word[0].isalnum() for mark, word in zip(apart, words[i], strict=True)]


def _marked(words: Sequence[str], marks: Sequence[bool]) -> tuple[Piece, ...]:
    """Words joined to as few pieces as there are changes of mark; a space between marks is marked as well."""
    joined: list[tuple[str, bool]] = []
    for at, (word, mark) in enumerate(zip(words, marks, strict=True)):
        between = word == " " and 0 < at < len(words) - 1 and marks[at - 1] and marks[at + 1]
        if joined and joined[-1][1] == (mark or between):
            joined[-1] = (joined[-1][0] + word, joined[-1][1])
        else:
            joined.append((word, mark or between))
    return tuple(piece for text, mark in joined for piece in visible(text, "differs" if mark else ""))


def with_evidence(text: str, evidence: str | None) -> list[Piece]:
    """The text with the verbatim span that decided, where it stands in it."""
    at = text.find(evidence) if evidence else -1
    if not evidence or at < 0:
        return visible(text)
    end = at + len(evidence)
    return visible(text[:at]) + visible(text[at:end], "evidence") + visible(text[end:])
