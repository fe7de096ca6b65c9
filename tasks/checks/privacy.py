"""Personal data by pattern: e-mail addresses, phone numbers, web addresses. Vectorised (RE2, linear time)."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

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
