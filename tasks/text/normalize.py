"""Normalise text for comparison. Normalised text is never stored.

The steps, in order: repair mojibake ("donâ€™t" → "don’t"), make quotes and dashes plain, remove invisible
characters, apply NFKC, fold case, collapse white space.
"""

from __future__ import annotations

import re
import unicodedata

MAX_MOJIBAKE_LAYERS = 3
"""Maximum number of mojibake layers that are repaired. Real text has one, sometimes two."""

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´`", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufe0f\ufeff", None),
    }
)


def _bytes_by_character() -> dict[str, int]:
    """Map characters to the bytes 0x80-0xFF that Latin-1 or Windows-1252 decodes to them."""
    table = {chr(byte): byte for byte in range(0x80, 0x100)}
    for byte in range(0x80, 0xA0):
        table[bytes([byte]).decode("cp1252", errors="replace")] = byte
    table.pop("\ufffd", None)
    return table


_BYTE_OF = _bytes_by_character()
_TAIL = "[" + re.escape("".join(c for c, byte in _BYTE_OF.items() if byte < 0xC0)) + "]"
# A curly quote may really follow a capital such as É. It never follows Â or Ã, so only these two accept it
# here.
_MOJIBAKE = f"[ÂÃ]{_TAIL}|[\xc4-\xdf][\x80-\xbf]|[\xe0-\xef]{_TAIL}{{2}}|[\xf0-\xf4]{_TAIL}{{3}}"
_BROKEN = re.compile(_MOJIBAKE)
_CLUSTER = re.compile(r"\s+|.[\u0300-\u036f]*", re.DOTALL)

Pieces = list[tuple[str, int, int]]
"""Normalised pieces of a text, each with the start and end offset of its source."""


def normalise_for_match(text: str) -> str:
    """Return the normalised text. Two texts are equal for all comparisons if their normalised texts are."""
    if not text.isascii():
        text = _to_plain(repair_mojibake(text))
    return " ".join(text.casefold().split())


def repair_mojibake(text: str) -> str:
    """Repair UTF-8 that was decoded as Latin-1 or Windows-1252, up to `MAX_MOJIBAKE_LAYERS` times."""
    for _ in range(MAX_MOJIBAKE_LAYERS):
        text = _BROKEN.sub(lambda match: _redecode(match.group()), text)
    return text


def find_span(passage: str, span: str) -> tuple[int, int] | None:
    """Find a span in a passage: first exactly, then normalised, then with mojibake repaired.

    Returns:
        The start and end offset in the original passage, or `None` if the span is blank or absent.
    """
    span = span.strip()
    if not span:
        return None
    at = passage.find(span)
    if at >= 0:
        return at, at + len(span)
    offsets = _find_pieces(passage, span, repair=False)
    if offsets is None and (_BROKEN.search(passage) or _BROKEN.search(span)):
        offsets = _find_pieces(passage, span, repair=True)
    return offsets


def _find_pieces(passage: str, span: str, *, repair: bool) -> tuple[int, int] | None:
    needle = "".join(piece for piece, _, _ in _normalise_pieces(span, repair)).strip()
    pieces = _normalise_pieces(passage, repair)
    offsets = [(start, end) for piece, start, end in pieces for _ in piece]
    at = "".join(piece for piece, _, _ in pieces).find(needle) if needle else -1
    return None if at < 0 else (offsets[at][0], offsets[at + len(needle) - 1][1])


def _normalise_pieces(text: str, repair: bool) -> Pieces:
    pieces: Pieces = [(character, i, i + 1) for i, character in enumerate(text)]
    for _ in range(MAX_MOJIBAKE_LAYERS if repair else 0):
        pieces = _repair_pieces(pieces)
    clusters = (match.span() for match in _CLUSTER.finditer("".join(piece for piece, _, _ in pieces)))
    return [(_fold(pieces[a:b]), pieces[a][1], pieces[b - 1][2]) for a, b in clusters]


def _repair_pieces(pieces: Pieces) -> Pieces:
    """Repair one layer of mojibake. All pieces are single characters, before and after."""
    text = "".join(piece for piece, _, _ in pieces)
    repaired: Pieces = []
    at = 0
    for match in _BROKEN.finditer(text):
        start, end = match.span()
        character = _redecode(match.group())
        repaired += pieces[at:start]
        merged = (character, pieces[start][1], pieces[end - 1][2])
        repaired += [merged] if len(character) == 1 else pieces[start:end]
        at = end
    return repaired + pieces[at:]


def _fold(cluster: Pieces) -> str:
    piece = "".join(character for character, _, _ in cluster)
    if not piece.isascii():
        piece = _to_plain(piece)
    return " " if piece.isspace() else piece.casefold()


def _to_plain(text: str) -> str:
    # NFKC can produce quotes and dashes again, so translate before and after.
    return unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)


def _redecode(text: str) -> str:
    try:
        return bytes(_BYTE_OF[character] for character in text).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return text
