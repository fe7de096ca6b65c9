"""A cheap screen: candidates that score far below their positive are left alone without asking anybody.

Screened out is what scores below `pos − |pos|·margin`, where `pos` is the lowest score of the row's
positives: by `bm25` over the passages at hand, or by the `score`s that the file came with. Such a candidate
keeps its label. What that saves is counted; what it costs is measured: a share of them (`check`, drawn by
content) is judged all the same, and how many of those turn out relevant estimates what was missed among the
rest. With known grades it is counted outright.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from schemas.candidates import CandidateSet, Passage
from schemas.errors import InputError
from schemas.ids import derived_seed
from tasks.relabelling.changes import RelabelledRow
from tasks.relabelling.policies import Verdict
from tasks.relabelling.rules import SCREENED_OUT, Plan

Score = Callable[[str, Passage], float | None]
"""The score of a passage for a query; `None`: it has none, and is not screened."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Which score, how far below the positive, and which share of what is screened out is judged anyway."""

    by: Literal["bm25", "score"] = "bm25"
    margin: float = 0.5
    check: float = 0.05

    @classmethod
    def parse(cls, text: str) -> Screen:
        """Read `bm25:0.5` or `score:0.2:0.1` (the score, its margin, and the share that is checked)."""
        by, *numbers = text.split(":")
        try:
            values = [float(number) for number in numbers]
        except ValueError:
            values = [-1.0]
        if by not in ("bm25", "score") or not 1 <= len(values) <= 2 or not all(0 <= v <= 1 for v in values):
            raise InputError(
                f"not a screen: {text!r}",
                hint="write SCORE:MARGIN[:CHECK], e.g. bm25:0.5 or score:0.2:0.1; scores: bm25, score",
            )
        return cls(by, *values)  # type: ignore[arg-type]


def screen_candidates(plans: Sequence[Plan], screen: Screen, score: Score) -> list[Plan]:
    """The plans without the candidates that need not be asked about."""
    return [_screened(plan, screen, score) for plan in plans]


def _screened(plan: Plan, screen: Screen, score: Score) -> Plan:
    row = plan.row
    positives = [score(row.query, row.positives[i]) for i in plan.positives]
    known = [value for value in positives if value is not None]
    if not known:
        return plan
    floor = min(known) - abs(min(known)) * screen.margin
    far = [i for i in plan.asked if _is_below(score(row.query, row.negatives[i]), floor)]
    checked = tuple(i for i in far if _is_checked(row, row.negatives[i], screen.check))
    out = [i for i in far if i not in checked]
    return replace(
        plan,
        decided={**plan.decided, **{i: Verdict("kept", SCREENED_OUT) for i in out}},
        asked=tuple(i for i in plan.asked if i not in out),
        screen_checked=checked,
    )


def _is_below(value: float | None, floor: float) -> bool:
    return value is not None and value < floor


def _is_checked(row: CandidateSet, passage: Passage, share: float) -> bool:
    return derived_seed("screen check", row.query, passage.id) % 1_000_000 < share * 1_000_000


def given_score(query: str, passage: Passage) -> float | None:
    """The score that the file came with."""
    return passage.score


def missed_of(row: RelabelledRow) -> int:
    """How many of a row's checked candidates turned out relevant, though the screen had let them be."""
    return sum(row.verdicts[i].outcome in ("promoted", "removed") for i in row.screen_checked)


def describe_screen(screened_out: int, checked: int, missed: int) -> dict[str, Any]:
    """Calls saved, and the share of relevant ones among those that were checked, with Wilson's interval."""
    low, high = _wilson(missed, checked) if checked else (None, None)
    share = missed / checked if checked else None
    return {
        "spared": screened_out,
        "checked": checked,
        "missed": {"value": share, "low": low, "high": high, "n": checked},
    }


def _wilson(hits: int, of: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(hits, of).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
