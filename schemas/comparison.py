"""What changed between two releases, and which version number follows from it."""

from __future__ import annotations

from typing import Literal

from schemas.tables import Row

Bump = Literal["none", "patch", "minor", "major", "first"]


class Comparison(Row):
    """Stable ids that were added, removed, reworded or relabelled, and how scores moved in between."""

    old_version: str | None
    old_manifest: str | None = None
    """sha256 of the manifest of the release that this one was compared with."""
    new_version: str
    bump: Bump
    added: tuple[str, ...]
    removed: tuple[str, ...]
    reworded: tuple[str, ...]
    relabelled: tuple[str, ...]
    schema_changes: tuple[str, ...]
    """Columns, metrics and judges that came, went or changed."""
    other_changes: tuple[str, ...] = ()
    """What else is not as it was (answers, scores, the licence), in words."""
    common: int
    fitness_drift: float | None
    """Mean change of fitness over the common rows; `None` without common judged rows."""
