"""What a relabelling run has to say for itself: the funnel by reason, how judges agree, what a row costs,
how long evidence is, how often the order of a ranking decided, what the screen saved and missed.

Everything is a sum over rows, so that parts of a file add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import combinations
from typing import Any

from schemas.manifest import StageCost
from tasks.relabelling.changes import Relabelling
from tasks.relabelling.screen import describe_screen, missed_of

RANKED = ("ranked_above_positive", "evidence_below_positive", "tied_with_positive", "order_flip")


@dataclass
class Observed:
    """Sums over rows."""

    reasons: Counter[str] = field(default_factory=Counter)
    """Candidates by the reason of their verdict; `graded …` counts as `graded`."""
    flags: Counter[str] = field(default_factory=Counter)
    spans: Counter[str] = field(default_factory=Counter)
    """Spans of evidence by their length in characters."""
    agreement: dict[str, list[int]] = field(default_factory=dict)
    screen: Counter[str] = field(default_factory=Counter)
    costs: dict[str, list[float]] = field(default_factory=dict)
    """By judge: calls, tokens in, tokens out, dollars."""

    @classmethod
    def of(cls, relabelling: Relabelling, costs: Iterable[StageCost] = ()) -> Observed:
        """What some rows add."""
        found = cls(agreement={pair: list(votes) for pair, votes in relabelling.agreement.items()})
        for row in relabelling.rows:
            found.reasons.update(verdict.reason.split(" ")[0] for verdict in row.verdicts)
            found.spans.update(str(len(v.evidence)) for v in row.verdicts if v.evidence is not None)
            found.flags.update(row.flags)
            found.screen.update(checked=len(row.screen_checked), missed=missed_of(row))
        for cost in costs:
            found.costs[cost.model] = [cost.calls, cost.tokens_in, cost.tokens_out, cost.cost_usd]
        return found

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Observed:
        """Read what `to_dict` wrote."""
        counters = {name: Counter(record[name]) for name in ("reasons", "flags", "spans", "screen")}
        return cls(**counters, agreement=dict(record["agreement"]), costs=dict(record["costs"]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {each.name: dict(getattr(self, each.name)) for each in fields(self)}

    def merge(self, other: Observed) -> None:
        """Add the sums of other rows."""
        for name in ("reasons", "flags", "spans", "screen"):
            getattr(self, name).update(getattr(other, name))
        for pair, votes in other.agreement.items():
            self.agreement[pair] = [
                a + b for a, b in zip(self.agreement.get(pair, [0] * 4), votes, strict=True)
            ]
        for judge, spent in other.costs.items():
            self.costs[judge] = [a + b for a, b in zip(self.costs.get(judge, [0] * 4), spent, strict=True)]

    def describe(self, rows: int) -> dict[str, Any]:
        """The report."""
        return {
            "by_reason": dict(sorted(self.reasons.items())),
            "rows_for_review": self.flags["review"],
            "rows_ambiguous": self.flags["ambiguous"],
            "agreement": {pair: kappa_of(votes) for pair, votes in sorted(self.agreement.items())},
            "evidence_characters": quantiles(self.spans),
            "order_flips": {
                "flipped": self.reasons["order_flip"],
                "ranked": sum(self.reasons[reason] for reason in RANKED),
            },
            "cost": {judge: _cost_of(values, rows) for judge, values in sorted(self.costs.items())},
            "screen": describe_screen(
                self.reasons["screened_out"], self.screen["checked"], self.screen["missed"]
            ),
        }


def agreement_of(votes: Iterable[Mapping[str, bool | None]]) -> dict[str, tuple[int, int, int, int]]:
    """Agreement of every two judges, see `Relabelling.agreement`; abstentions count nowhere."""
    cells: dict[str, list[int]] = {}
    for vote in votes:
        for left, right in combinations(vote, 2):
            one, other = vote[left], vote[right]
            if one is not None and other is not None:
                cells.setdefault(f"{left} ~ {right}", [0] * 4)[2 * (not one) + (not other)] += 1
    return {pair: (a, b, c, d) for pair, (a, b, c, d) in cells.items()}


def kappa_of(votes: Iterable[int]) -> dict[str, Any]:
    """Cohen's kappa of a table of four (yes-yes, yes-no, no-yes, no-no); `None` where nothing varies."""
    yes, left, right, no = votes
    n = yes + left + right + no
    expected = ((yes + left) * (yes + right) + (right + no) * (left + no)) / n**2 if n else 1.0
    kappa = ((yes + no) / n - expected) / (1 - expected) if expected < 1 else None
    return {"kappa": kappa, "both_yes": yes, "only_first": left, "only_second": right, "both_no": no}


def quantiles(lengths: Mapping[str, int]) -> dict[str, int | None]:
    """Number, median, ninth decile and maximum of counted lengths."""
    n, found = sum(lengths.values()), {}
    for name, share in (("median", 0.5), ("p90", 0.9), ("max", 1.0)):
        seen = 0
        for length, count in sorted((int(length), count) for length, count in lengths.items()):
            seen += count
            if seen >= share * n:
                found[name] = length
                break
    return {"n": n, "median": found.get("median"), "p90": found.get("p90"), "max": found.get("max")}


def _cost_of(values: Iterable[float], rows: int) -> dict[str, float]:
    calls, tokens_in, tokens_out, dollars = values
    return {
        "calls": calls,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost_usd": round(dollars, 6),
        "calls_per_row": round(calls / max(1, rows), 3),
        "cost_usd_per_row": round(dollars / max(1, rows), 8),
    }
