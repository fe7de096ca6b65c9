"""Text that was decoded wrongly: UTF-8 read as Latin-1 or cp1252, lost characters, control characters."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tasks.text.slots import SLOT_MARK

# What the continuation bytes 0x80-0xBF of UTF-8 look like in Latin-1 and in cp1252.
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
        r"\x{FFFD}",  # what decoders write for bytes they could not read
        r"[\x{00}-\x{08}\x{0B}\x{0C}\x{0E}-\x{1F}\x{7F}-\x{9F}]",  # control characters
    )
)


def is_garbled(texts: pa.Array) -> pa.Array:
    """Whether each text shows signs of wrong decoding; null stays null."""
    return pc.match_substring_regex(texts, GARBLED)


# Slots and placeholders that nobody filled.


UNFILLED = r"\{\{|\}\}|\{[A-Za-z][A-Za-z_ ]*\}|" + SLOT_MARK


def has_unfilled_slot(texts: pa.Array) -> pa.Array:
    """Whether each text still holds `{{…}}`, a `{form}` or a mask; null stays null."""
    return pc.match_substring_regex(texts, UNFILLED)


# Personal data by pattern: e-mail addresses, phone numbers, web addresses. Vectorised (RE2, linear time).


EMAIL = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"
URL = r"(?i:\bhttps?://[^\s]|\bwww\.[a-z0-9-]+\.[a-z]{2,})"
PHONE = (
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}\d"
    r"|(?:^|[^\d.-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?:$|[^\d-])"
    r"|(?:^|[^\d.-])0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,4}(?:$|[^\d-])"
)
"""With a country code; in groups of 3, 3 and 4; or with a leading 0. Years, prices and dates are none."""

PERSONAL_DATA = "|".join((EMAIL, URL, PHONE))


def holds_personal_data(texts: pa.Array) -> pa.Array:
    """Whether each text holds an e-mail address, a phone number or a web address; null stays null."""
    return pc.match_substring_regex(texts, PERSONAL_DATA)
