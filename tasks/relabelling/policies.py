"""The decisions about a row: what a verdict does to a label, and what a row does with too few negatives.

The cases are published nowhere; every one of them is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.recipe import Relabel

Mode = Literal["both", "relabel", "filter", "remove_row"]
TooFew = Literal["keep_row", "drop_row", "backfill"]
Outcome = Literal["promoted", "removed", "kept", "abstained"]
Standing = Literal["above", "below", "tied", "flipped", "unjudged"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is allowed to change, and when a row is no longer worth having."""

    mode: Mode = "both"
    min_negatives: int = 1
    too_few: TooFew = "keep_row"
    max_promoted: int = 7
    """More promotions than this: the row is flagged `ambiguous` (the cascade drops it)."""
    max_characters: int = 20_000
    """Longer passages are not sent anywhere: the verdict is an abstention."""

    @classmethod
    def of(cls, section: Relabel) -> Policy:
        """The policy that a recipe asks for."""
        return cls(section.mode, section.min_negatives, section.too_few, section.max_promoted)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one candidate becomes, why, and the verbatim span that decided."""

    outcome: Outcome
    reason: str
    evidence: str | None = None


ALLOWED: Mapping[Mode, Mapping[Outcome, Outcome]] = {
    "both": {},
    "relabel": {"removed": "kept"},
    "filter": {"promoted": "removed"},
    "remove_row": {"promoted": "removed"},
}
"""What a mode makes of the outcome that the evidence calls for."""

STANDINGS: Mapping[Standing, tuple[Outcome, str]] = {
    "above": ("promoted", "ranked_above_positive"),
    "below": ("removed", "evidence_below_positive"),
    "tied": ("removed", "tied_with_positive"),
    "flipped": ("removed", "order_flip"),
    "unjudged": ("abstained", "unusable_ranking"),
}


def verdict_with_evidence(span: str, standing: Standing | None, mode: Mode) -> Verdict:
    """The verdict on a candidate that answers the query. `standing` is how it compares with the best-ranked
    positive; `None`: no positive of the row has evidence, so there is nothing to be promoted against."""
    outcome, reason = STANDINGS[standing] if standing else ("removed", "positive_without_evidence")
    return Verdict(ALLOWED[mode].get(outcome, outcome), reason, span)


def why_dropped(policy: Policy, judged: Iterable[Verdict], before: int, left: int) -> str | None:
    """Why a row goes, or `None`. With the mode `remove_row` it goes when a judge found a false negative in
    it; with `drop_row` when too few of its negatives are left (a row that came with none stays)."""
    if policy.mode == "remove_row" and any(verdict.outcome == "removed" for verdict in judged):
        return "false_negative"
    if policy.too_few == "drop_row" and before > 0 and left < policy.min_negatives:
        return "too_few_negatives"
    return None


def row_flags(policy: Policy, verdicts: Sequence[Verdict], flags: Sequence[str]) -> tuple[str, ...]:
    """The row's flags, `ambiguous` among them where more was promoted than one query can well have."""
    promoted = sum(verdict.outcome == "promoted" for verdict in verdicts)
    ambiguous = ("ambiguous",) if promoted > policy.max_promoted else ()
    return tuple(dict.fromkeys((*flags, *ambiguous)))


def settle_panel(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict out of several judges'. All alike: that one. Else any evidence removes the candidate, for
    only a panel that agrees may promote; and without evidence an abstention leaves it open."""
    first = verdicts[0]
    outcomes = {verdict.outcome for verdict in verdicts}
    if len(outcomes) == 1:
        return first
    found = next((v for v in verdicts if v.outcome in ("removed", "promoted")), None)
    if found is not None:
        return Verdict("removed", "judges_disagree", found.evidence)
    return next(v for v in verdicts if v.outcome == "abstained")
