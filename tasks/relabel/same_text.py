"""Recognise passages that are the same text, without taking one statement for another.

A copy may differ in case, punctuation, accents, articles and spaces. If a number, a unit, a negation, a name
or any other word differs, it is another statement, and a judge has to read it.
"""

from __future__ import annotations

import re
import unicodedata

from tasks.text.normalize import normalise_for_match, repair_mojibake
from tasks.text.similarity import ratio

NEAR_DUPLICATE = 95.0
"""Minimum rapidfuzz ratio (0 to 100) of a negative and the positive that it copies, both normalised."""
_ARTICLES = frozenset(
    (
        *("a", "an", "the", "der", "die", "das", "den", "dem", "des", "le", "la", "les", "el", "los", "las"),
        *("il", "lo", "gli", "de", "het", "een"),
    )
)
_TOKEN = re.compile(r"[+\-−]?\d[\d.,:/]*\d|[+\-−]?\d|[^\W\d_]+(?:['’][^\W\d_]+)*|[^\s]")
_APOSTROPHES = re.compile("['’‘`´]")


def match_key(text: str) -> str:
    """Return a key that two passages share if they are the same text.

    It is the normalised text, and the digits that normalisation would change: "10²" is not "102".
    """
    key = normalise_for_match(text)
    if text.isascii():
        return key
    unusual = "".join(c for c in text if not c.isascii() and unicodedata.category(c) in ("No", "Nl", "Nd"))
    return f"{key}\x1e{unusual}" if unusual else key


def query_key(query: str, key: str) -> str:
    """Return the key of a positive (`match_key`) of one query."""
    return f"{match_key(query)}\x1f{key}"


def is_near_duplicate(text: str, other: str) -> bool:
    """Check that two texts are nearly identical and have the same meaning."""
    shorter, longer = sorted((len(text), len(other)))
    if shorter * 300 < NEAR_DUPLICATE * (shorter + longer):
        return False  # the ratio cannot reach the bar with such different lengths
    if ratio(normalise_for_match(text), normalise_for_match(other)) < NEAR_DUPLICATE:
        return False
    return _words(text) == _words(other)


def _words(text: str) -> list[str]:
    """Return the words, numbers and symbols of a text, in order, without articles and punctuation.

    Characters are not unified with NFKC, because that would turn "10²" into "102" and "½" into "1⁄2".
    """
    tokens = _TOKEN.findall(unicodedata.normalize("NFC", repair_mojibake(text)))
    words = (_fold(token) for token in tokens if not _is_punctuation(token))
    return [word for word in words if word and word not in _ARTICLES]


_PUNCTUATION = frozenset(("Po", "Ps", "Pe", "Pi", "Pf", "Pd", "Pc", "Cf"))
_MEANINGFUL = frozenset("%‰§#&@*/\\†′″")


def _is_punctuation(word: str) -> bool:
    return len(word) == 1 and unicodedata.category(word) in _PUNCTUATION and word not in _MEANINGFUL


def _fold(token: str) -> str:
    """Return a word without case, apostrophes and the accents of Latin letters."""
    if not token[0].isalpha():
        return token.replace("−", "-")
    decomposed = unicodedata.normalize("NFD", _APOSTROPHES.sub("", token.casefold()))
    if not unicodedata.name(token[0], "").startswith("LATIN"):
        return _APOSTROPHES.sub("", token.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))
