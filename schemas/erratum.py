"""Errata: texts that were mended after a release, and why."""

from __future__ import annotations

from schemas.tables import Row


class Erratum(Row):
    """One mended question. Its text is part of its id, so the mended one has another id and the old one as
    its parent."""

    question_id: str
    """The question that was wrong."""
    mended_id: str
    before: str
    """Its template, slots and all."""
    after: str
    reason: str
    changed_in: str
    """The release version in which it was mended."""
