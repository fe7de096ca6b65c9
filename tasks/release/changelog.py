"""CHANGELOG.md: what changed in this version, on top of what changed before."""

from __future__ import annotations

from schemas.comparison import Comparison
from tasks.release.markdown import escape_markdown

SHOWN = 50
"""Ids that are written out per kind of change; the manifest has all of them."""

_TITLE = "# Changes\n"


def write_changelog(comparison: Comparison, earlier: str | None) -> str:
    """The page. `earlier`: the last release's, whose sections are kept."""
    past = earlier.removeprefix(_TITLE).strip("\n") if earlier else ""
    return "\n".join([_TITLE, version_section(comparison), *([past, ""] if past else [])])


def version_section(comparison: Comparison) -> str:
    """One version: every kind of change with its count and ids."""
    lines = [f"## {comparison.new_version}", ""]
    if comparison.old_version is None:
        return "\n".join([*lines, "First release.", ""])
    lines += [f"Compared with {comparison.old_version} ({comparison.bump}).", ""]
    for kind in ("added", "removed", "reworded", "relabelled"):
        ids: tuple[str, ...] = getattr(comparison, kind)
        if ids:
            lines.append(f"- {len(ids):,} {kind}: {_some(ids)}")
    lines += [f"- {escape_markdown(change)}" for change in comparison.schema_changes]
    lines += [f"- {escape_markdown(change)}" for change in comparison.other_changes]
    if comparison.fitness_drift is not None:
        common = f"{comparison.common:,} questions that both versions have"
        lines.append(f"- Mean change of fitness over the {common}: {comparison.fitness_drift:+.3f}")
    return "\n".join([*lines, ""])


def _some(ids: tuple[str, ...]) -> str:
    rest = f" and {len(ids) - SHOWN:,} more (see manifest.json)" if len(ids) > SHOWN else ""
    return ", ".join(escape_markdown(i) for i in ids[:SHOWN]) + rest
