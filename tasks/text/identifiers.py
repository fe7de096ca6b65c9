"""Names of ours from words of others: what a model calls a topic becomes `[a-z0-9_]`, and nothing else."""

from __future__ import annotations

import re
import unicodedata

from schemas.ids import content_hash

LONGEST = 48
"""Characters."""


def identifier(title: str) -> str:
    """A title as an id: letters without their accents, digits, `_` between words, 1 to 48 characters.

    The same words give the same id. A title without any such letter gets a hash of its own.
    """
    plain = unicodedata.normalize("NFKD", title.replace("&", " and ")).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    if not words:
        return f"x_{content_hash(title.strip().casefold())[:8]}"
    return words[:LONGEST].strip("_")


def title_of(name: str) -> str:
    """An id as people read it."""
    return name.replace("_", " ")
