"""Slugs: ids made of `[a-z0-9_]` from titles that a model wrote."""

from __future__ import annotations

import re
import unicodedata

from schemas.tables import content_hash

MAX_SLUG = 48
"""Maximum length in characters."""


def slugify(title: str) -> str:
    """Convert a title to an id of letters without accents, digits, and `_` between words.

    Returns:
        1 to `MAX_SLUG` characters. The same words give the same id. A title without Latin letters or digits
        gets an id from its hash.
    """
    plain = unicodedata.normalize("NFKD", title.replace("&", " and ")).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    if not words:
        return f"x_{content_hash(title.strip().casefold())[:8]}"
    return words[:MAX_SLUG].strip("_")


def slug_to_title(slug: str) -> str:
    """Return the slug with spaces between its words."""
    return slug.replace("_", " ")
