"""Normalisation for comparing text, never for changing it.

In this order: mojibake is repaired ("donâ€™t" → "don’t"), Unicode is brought to NFKC, case is folded, curly
quotes and dashes become plain ones, invisible characters go, every run of white space becomes one space.
"""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from urllib.parse import quote, quote_plus

import numpy as np
from numpy.typing import NDArray

MISREADINGS = 3
"""How many layers of mojibake are undone; real text has one, sometimes two."""

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´`", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufe0f\ufeff", None),
    }
)


def _bytes_by_character() -> dict[str, int]:
    """Which byte a character of 0x80 to 0xFF was: Latin-1, and Windows-1252 where that differs."""
    table = {chr(byte): byte for byte in range(0x80, 0x100)}
    for byte in range(0x80, 0xA0):
        table[bytes([byte]).decode("cp1252", errors="replace")] = byte
    table.pop("\ufffd", None)
    return table


_BYTES = _bytes_by_character()
_TAIL = "[" + re.escape("".join(c for c, byte in _BYTES.items() if byte < 0xC0)) + "]"
# After a capital such as É a curly quote is what it seems; only Â and Ã are never followed by one.
_MOJIBAKE = f"[ÂÃ]{_TAIL}|[\xc4-\xdf][\x80-\xbf]|[\xe0-\xef]{_TAIL}{{2}}|[\xf0-\xf4]{_TAIL}{{3}}"
_BROKEN = re.compile(_MOJIBAKE)
_CLUSTER = re.compile(r"\s+|.[\u0300-\u036f]*", re.DOTALL)

Placed = list[tuple[str, int, int]]
"""Pieces of a text as they are compared, each with the start and end of what it came from."""


def normalise_for_match(text: str) -> str:
    """The text as it is compared; two texts with the same result say the same, letter for letter."""
    if not text.isascii():
        text = _plain(repair_mojibake(text))
    return " ".join(text.casefold().split())


def repair_mojibake(text: str) -> str:
    """UTF-8 that was (up to `MISREADINGS` times) read as Latin-1 or Windows-1252, read as UTF-8 again."""
    for _ in range(MISREADINGS):
        text = _BROKEN.sub(lambda match: _redecode(match.group()), text)
    return text


def find_span(passage: str, span: str) -> tuple[int, int] | None:
    """Where `span` stands in `passage` (start, end), or `None`. Compares exactly first, then normalised,
    then with mojibake repaired; the offsets are always those of the passage as it is."""
    span = span.strip()
    if not span:
        return None
    at = passage.find(span)
    if at >= 0:
        return at, at + len(span)
    found = _find_normalised(passage, span, repair=False)
    if found is None and (_BROKEN.search(passage) or _BROKEN.search(span)):
        found = _find_normalised(passage, span, repair=True)
    return found


def _find_normalised(passage: str, span: str, *, repair: bool) -> tuple[int, int] | None:
    needle = "".join(piece for piece, _, _ in _normalised(span, repair)).strip()
    pieces = _normalised(passage, repair)
    places = [(start, end) for piece, start, end in pieces for _ in piece]
    at = "".join(piece for piece, _, _ in pieces).find(needle) if needle else -1
    return None if at < 0 else (places[at][0], places[at + len(needle) - 1][1])


def _normalised(text: str, repair: bool) -> Placed:
    pieces: Placed = [(character, i, i + 1) for i, character in enumerate(text)]
    for _ in range(MISREADINGS if repair else 0):
        pieces = _repair(pieces)
    found = (match.span() for match in _CLUSTER.finditer("".join(piece for piece, _, _ in pieces)))
    return [(_folded(pieces[a:b]), pieces[a][1], pieces[b - 1][2]) for a, b in found]


def _repair(pieces: Placed) -> Placed:
    """One layer of mojibake less; the pieces are single characters, before and after."""
    text = "".join(piece for piece, _, _ in pieces)
    repaired: Placed = []
    at = 0
    for match in _BROKEN.finditer(text):
        start, end = match.span()
        character = _redecode(match.group())
        repaired += pieces[at:start]
        whole = (character, pieces[start][1], pieces[end - 1][2])
        repaired += [whole] if len(character) == 1 else pieces[start:end]
        at = end
    return repaired + pieces[at:]


def _folded(cluster: Placed) -> str:
    piece = "".join(character for character, _, _ in cluster)
    if not piece.isascii():
        piece = _plain(piece)
    return " " if piece.isspace() else piece.casefold()


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)


def _redecode(text: str) -> str:
    try:
        return bytes(_BYTES[character] for character in text).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return text


# Keys and passwords taken out of what others say: whole, encoded, or a part of them.


MASK = "***"
PART = 8
"""So many characters of a secret in a row give it away."""


def without_secrets(text: str, *secrets: str | None) -> str:
    """The text with a mask for every secret, in the encodings in which servers and programs repeat them, and
    for every piece of one from `PART` characters on."""
    for secret in secrets:
        if secret:
            for form in sorted(set(_forms(secret)), key=len, reverse=True):
                text = _without_pieces(text.replace(form, MASK), form)
    return text


def _forms(secret: str) -> Iterator[str]:
    """As it is; escaped for an address, a page, JSON, a Python literal; in base64, alone or after a user."""
    yield secret
    yield from (quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield from (html.escape(secret), html.escape(secret, quote=False))
    yield from (json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(secret.encode())[2:-1])
    for place in range(3):  # base64 has three alignments
        encoded = base64.b64encode(b"\0" * place + secret.encode()).decode().rstrip("=")
        whole = encoded[-(-place * 4 // 3) : len(encoded) - 1]
        yield from (whole, whole.replace("+", "-").replace("/", "_"))


def _without_pieces(text: str, form: str) -> str:
    if len(form) < PART:
        return text
    parts = {form[i : i + PART] for i in range(len(form) - PART + 1)}
    hidden = [False] * len(text)
    for i in range(len(text) - PART + 1):
        if text[i : i + PART] in parts:
            hidden[i : i + PART] = [True] * PART
    masked = "".join("\0" if hide else c for c, hide in zip(text, hidden, strict=True))
    return re.sub("\0+", MASK, masked) if any(hidden) else text


# How alike two texts are, 0 to 100. The only door to rapidfuzz.
#
# `ratio` is the normalised Indel similarity: 100 · (1 - d / (|a| + |b|)), where d counts the characters to
# insert and to delete. Texts are compared as they are given: normalise first.


def ratio(left: str, right: str) -> float:
    """Normalised Indel similarity of two whole texts."""
    from rapidfuzz import fuzz

    return fuzz.ratio(left, right)


def partial_ratio(left: str, right: str) -> float:
    """`ratio` of the shorter text with the stretch of the longer one that is most like it."""
    from rapidfuzz import fuzz

    return fuzz.partial_ratio(left, right)


def token_set_ratio(left: str, right: str) -> float:
    """`ratio` of the words that the texts share with the words of either, whatever their order."""
    from rapidfuzz import fuzz

    return fuzz.token_set_ratio(left, right)


def changed_words(before: Sequence[str], after: Sequence[str]) -> list[bool]:
    """For every word of `after`: whether it is not one of the longest sequence of words that both share."""
    from rapidfuzz.distance import Indel

    changed = [False] * len(after)
    for step in Indel.opcodes(before, after):
        if step.tag == "insert":
            changed[step.dest_start : step.dest_end] = [True] * (step.dest_end - step.dest_start)
    return changed


def paired_ratios(
    left: Sequence[str], right: Sequence[str], *, cutoff: float = 0.0, workers: int = 1
) -> NDArray[np.float64]:
    """`ratio` of left[i] with right[i], shape (n,); 0 where it is below `cutoff`."""
    from rapidfuzz import fuzz, process

    return np.asarray(
        process.cpdist(left, right, scorer=fuzz.ratio, score_cutoff=cutoff, dtype=np.float64, workers=workers)
    )


def ratio_matrix(left: Sequence[str], right: Sequence[str], *, cutoff: float = 0.0) -> NDArray[np.float64]:
    """`ratio` of every left text with every right one, shape (len(left), len(right)); 0 below `cutoff`."""
    from rapidfuzz import fuzz, process

    return np.asarray(
        process.cdist(left, right, scorer=fuzz.ratio, score_cutoff=cutoff, dtype=np.float64, workers=1)
    )
