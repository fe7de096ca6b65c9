"""Detect faults in text: wrong decoding, unfilled slots, and personal data.

Each function takes an array of texts and returns an array of booleans of the same length. Null stays null.
The patterns are RE2 and run in linear time.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tasks.text.slots import SLOT_MARK

# The UTF-8 continuation bytes 0x80-0xBF, decoded as Latin-1 or as cp1252.
_CONTINUATION = (
    r"[\x{80}-\x{BF}\x{152}\x{153}\x{160}\x{161}\x{178}\x{17D}\x{17E}\x{192}\x{2C6}\x{2DC}"
    r"\x{2013}\x{2014}\x{2018}-\x{201E}\x{2020}-\x{2022}\x{2026}\x{2030}\x{2039}\x{203A}\x{20AC}\x{2122}]"
)
GARBLED = "|".join(
    (
        rf"[\x{{C3}}]{_CONTINUATION}",  # letters with accents
        r"\x{C2}[\x{80}-\x{BF}]",  # no-break space, guillemets, degree sign, …
        rf"\x{{E2}}(?:\x{{20AC}}|\x{{80}}){_CONTINUATION}",  # quotation marks and dashes
        rf"(?:[\x{{D0}}\x{{D1}}]{_CONTINUATION}){{2}}",  # Cyrillic
        rf"\x{{F0}}\x{{178}}{_CONTINUATION}",  # emoji
        r"\x{EF}\x{BB}\x{BF}|\x{FEFF}",  # byte order mark
        r"\x{FFFD}",  # replacement character
        r"[\x{00}-\x{08}\x{0B}\x{0C}\x{0E}-\x{1F}\x{7F}-\x{9F}]",  # control characters
    )
)


UNFILLED = r"\{\{|\}\}|\{[A-Za-z][A-Za-z_ ]*\}|" + SLOT_MARK
"""A slot `{{…}}`, a placeholder `{form}`, or a mask."""

EMAIL = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"
URL = r"(?i:\bhttps?://[^\s]|\bwww\.[a-z0-9-]+\.[a-z]{2,})"
PHONE = (
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}\d"
    r"|(?:^|[^\d.-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?:$|[^\d-])"
    r"|(?:^|[^\d.-])0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,4}(?:$|[^\d-])"
)
"""A number with a country code, in groups of 3, 3 and 4 digits, or with a leading 0. Years, prices and dates
do not match."""

PERSONAL_DATA = "|".join((EMAIL, URL, PHONE))


def is_garbled(texts: pa.Array) -> pa.Array:
    """Return whether each text was decoded wrongly or contains control characters."""
    return pc.match_substring_regex(texts, GARBLED)


def has_unfilled_slot(texts: pa.Array) -> pa.Array:
    """Return whether each text contains a slot or placeholder that was not filled."""
    return pc.match_substring_regex(texts, UNFILLED)


def holds_personal_data(texts: pa.Array) -> pa.Array:
    """Return whether each text contains an e-mail address, a phone number or a web address."""
    return pc.match_substring_regex(texts, PERSONAL_DATA)
