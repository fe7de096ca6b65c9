"""Text from outside, made harmless for a Markdown page."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")


def escape_markdown(text: str) -> str:
    """One line in which nothing is markup: no HTML, link, emphasis, table cell or heading."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
