"""Make untrusted text safe to print."""

from __future__ import annotations

import re

from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str, limit: int = 300) -> Text:
    """Return untrusted text on one line, shortened, without control characters, not read as markup."""
    shown = " ".join(_CONTROL.sub("�", text).split())
    return Text(shown if len(shown) <= limit else shown[: limit - 1] + "…")
