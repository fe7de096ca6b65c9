"""What is decided about a row before any call is made."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

from schemas.candidates import CandidateSet, Passage
from tasks.relabelling.policies import Policy, Verdict
from tasks.text.normalize import normalise_for_match
from tasks.text.similarity import ratio

SCREENED_OUT = "screened_out"
NEAR_DUPLICATE = 95.0
"""rapidfuzz ratio (0 to 100) of the normalised texts from which a negative is a copy of a positive."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A row with what the rules decided and what is left to ask."""

    row: CandidateSet
    positives: tuple[int, ...]
    """Indices of the positives that can be read."""
    decided: dict[int, Verdict]
    """Verdicts by rule, by index of the negative."""
    asked: tuple[int, ...]
    """Indices of the negatives that a judge has to see."""
    flags: tuple[str, ...]
    conflicts: tuple[str, ...]
    """Ids of negatives that are a positive of another row (in-batch conflict): reported, not decided."""
    screen_checked: tuple[int, ...] = ()
    """Negatives that a screen would have decided, and that are asked about to see what it misses."""


def find_hard_negatives(
    rows: Sequence[CandidateSet], policy: Policy, positives_elsewhere: Container[str] | None = None
) -> list[Plan]:
    """One plan a row: copies of a positive, repeated and empty negatives are removed by rule, over-long ones
    abstain. `positives_elsewhere` holds the normalised positives of all rows; default: of these rows."""
    known = positives_elsewhere
    if known is None:
        known = {normalise_for_match(p.text) for row in rows for p in row.positives}
    return [_plan(row, policy, known) for row in rows]


def _plan(row: CandidateSet, policy: Policy, known: Container[str]) -> Plan:
    readable = tuple(
        i for i, p in enumerate(row.positives) if 0 < len(p.text.strip()) <= policy.max_characters
    )
    own = {normalise_for_match(p.text): p for p in row.positives if p.text.strip()}
    decided: dict[int, Verdict] = {}
    conflicts: list[str] = []
    seen: set[str] = set()
    for index, negative in enumerate(row.negatives):
        text = normalise_for_match(negative.text)
        verdict = _rule(negative, text, own, seen, policy)
        seen |= {text, negative.id}
        if verdict is not None:
            decided[index] = verdict
        elif text in known:
            conflicts.append(negative.id)
    asked = tuple(i for i in range(len(row.negatives)) if i not in decided)
    flags = ("no_positive",) * (not readable) + ("no_negatives",) * (not row.negatives)
    return Plan(row, readable, decided, asked, flags, tuple(conflicts))


def _rule(
    negative: Passage, text: str, own: dict[str, Passage], seen: set[str], policy: Policy
) -> Verdict | None:
    if not text:
        return Verdict("removed", "empty_passage")
    if len(negative.text) > policy.max_characters:
        return Verdict("abstained", "passage_too_long")
    if text in own or any(negative.id == positive.id for positive in own.values()):
        return Verdict("removed", "duplicate_of_positive")
    if text in seen or negative.id in seen:
        return Verdict("removed", "repeated_negative")
    if any(is_near_duplicate(text, positive) for positive in own):
        return Verdict("removed", "near_duplicate_of_positive")
    return None


def is_near_duplicate(text: str, other: str) -> bool:
    """Whether two normalised texts say the same in nearly the same letters. Texts whose numbers differ never
    do: "founded in 1884" is a hard negative of "founded in 1848"."""
    if min(len(text), len(other)) * 200 < NEAR_DUPLICATE * (len(text) + len(other)):
        return False
    return ratio(text, other) >= NEAR_DUPLICATE and _numbers(text) == _numbers(other)


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)
