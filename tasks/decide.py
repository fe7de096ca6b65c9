"""Decide what becomes of a refreshed release: nothing, a look by people, or publication."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.comparison import Comparison
from schemas.effect import EFFECTS, Effect
from schemas.refreshing import Decision, ReviewItem
from tasks.release.reading import Contents

SLICES = ("attribute", "family")
"""Levels whose movement is a finding; single questions move by chance."""
MOST_REMOVED = 0.5
"""Share of the old questions that may go before people have to look."""


def decide(comparison: Comparison, old: Contents | None, new: Contents) -> Decision:
    """`unchanged` where the comparison finds nothing; `risky` where labels, metrics or columns changed, an
    effect of an attribute or family left its old interval, or most old questions are gone; else `safe`."""
    if comparison.bump == "none":
        return Decision(verdict="unchanged", reasons=("nothing differs from the last release",), review=())
    review = [*_relabelled(comparison), *_schema(comparison)]
    if old is not None:
        review += moved_effects(old.rows(EFFECTS), new.rows(EFFECTS))
        review += _removed(comparison)
    reasons = tuple(dict.fromkeys(_reason(item) for item in review))
    if review:
        return Decision(verdict="risky", reasons=reasons, review=tuple(review))
    return Decision(verdict="safe", reasons=(_what_changed(comparison),), review=())


def moved_effects(old: Iterable[Effect], new: Iterable[Effect]) -> list[ReviewItem]:
    """Effects of attributes and families whose old and new 95 % intervals do not meet."""
    before = {_slice(e): e for e in old if e.level in SLICES}
    found = []
    for after in new:
        was = before.get(_slice(after))
        if was is not None and _apart(was, after):
            why = f"{was.value:+.3f} ({was.low:+.3f} to {was.high:+.3f}) became {after.value:+.3f}"
            subject = f"{after.name} · {after.metric} · {after.model}"
            found.append(ReviewItem(kind="effect_moved", subject=subject, why=why))
    return found


def _slice(e: Effect) -> tuple[str, ...]:
    return (e.level, e.name, e.family, e.attribute, e.model, e.condition, e.metric, e.unit)


def _apart(one: Effect, other: Effect) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.high < other.low or other.high < one.low


def _relabelled(comparison: Comparison) -> list[ReviewItem]:
    why = "carries another label than in the last release"
    return [ReviewItem(kind="relabelled", subject=i, why=why) for i in comparison.relabelled]


def _schema(comparison: Comparison) -> list[ReviewItem]:
    return [
        ReviewItem(kind="schema", subject=change, why="scores are not comparable across it")
        for change in comparison.schema_changes
    ]


def _removed(comparison: Comparison) -> list[ReviewItem]:
    before = comparison.common + len(comparison.removed) + len(comparison.reworded)
    if len(comparison.removed) <= MOST_REMOVED * before:
        return []
    why = f"one of {len(comparison.removed)} questions of {before} that are gone"
    return [ReviewItem(kind="removed", subject=i, why=why) for i in comparison.removed]


_WORDS: Mapping[str, str] = {
    "effect_moved": "an effect left its old interval",
    "relabelled": "questions changed their label",
    "removed": "most old questions are gone",
    "schema": "columns, metrics or judges changed",
}


def _reason(item: ReviewItem) -> str:
    return _WORDS[item.kind]


def _what_changed(comparison: Comparison) -> str:
    counts: dict[str, Any] = {
        "added": len(comparison.added),
        "removed": len(comparison.removed),
        "reworded": len(comparison.reworded),
    }
    told = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    return f"{comparison.bump} change: {told or 'answers or scores'}; no effect left its interval"
