"""Relabel with a cascade: a cheap judge compares every row, a strong one the rows that it flags.

A judge compares up to 25 passages per call with the positives. It names the passages that answer as well or
better, and those that are relevant but worse. Our addition: rows on which the cheap judge abstains also go to
the strong judge, because an abstention does not mean "no false negatives".

References:
    RLHN, arXiv 2505.16967.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tasks.judges.judge_answers import read_comparison
from tasks.judges.relevance import TOO_LONG, ComparisonQuestion, RowComparison, comparison_of
from tasks.relabel.decisions import CandidateVerdict, Policy, RowPlan, cut_passage

PASSAGES_PER_CALL = 25


class Comparer(Protocol):
    """A judge of the cascade. It returns one comparison per question, in order."""

    name: str

    async def compare(self, questions: Sequence[ComparisonQuestion]) -> list[RowComparison]:
        """Compare passages with positives."""
        ...


@dataclass(frozen=True, slots=True)
class CascadeResult:
    """Verdicts on one row by judge and index of the negative, before the policy. The last judge decides."""

    verdicts_by_judge: dict[str, dict[int, CandidateVerdict]] = field(default_factory=dict)

    @property
    def judge(self) -> str:
        """The judge that decided, or `rule` if none saw the row."""
        return next(reversed(self.verdicts_by_judge), "rule")

    @property
    def verdicts(self) -> dict[int, CandidateVerdict]:
        """The verdicts of the judge that decided."""
        return self.verdicts_by_judge.get(self.judge, {})


async def compare_in_cascade(plans: Sequence[RowPlan], judges: Sequence[Comparer]) -> list[CascadeResult]:
    """Compare the rows with each judge in turn.

    A judge sees only the rows that the previous one flagged or abstained on.
    """
    results = [CascadeResult() for _ in plans]
    pending = [i for i, plan in enumerate(plans) if plan.undecided and plan.positives]
    for judge in judges:
        compared = await _compare([plans[i] for i in pending], judge)
        for i, verdicts in zip(pending, compared, strict=True):
            results[i].verdicts_by_judge[judge.name] = verdicts
        pending = [i for i, verdicts in zip(pending, compared, strict=True) if _needs_next_judge(verdicts)]
    return results


def _needs_next_judge(verdicts: dict[int, CandidateVerdict]) -> bool:
    return any(verdict.outcome != "kept" for verdict in verdicts.values())


async def _compare(plans: Sequence[RowPlan], judge: Comparer) -> list[dict[int, CandidateVerdict]]:
    calls = [
        (number, plan.undecided[start : start + PASSAGES_PER_CALL])
        for number, plan in enumerate(plans)
        for start in range(0, len(plan.undecided), PASSAGES_PER_CALL)
    ]
    comparisons = await judge.compare([_question(plans[number], indices) for number, indices in calls])
    rows: list[dict[int, CandidateVerdict]] = [{} for _ in plans]
    for (number, indices), comparison in zip(calls, comparisons, strict=True):
        rows[number].update(zip(indices, comparison_verdicts(comparison, len(indices)), strict=True))
    return rows


def _question(plan: RowPlan, indices: Sequence[int]) -> ComparisonQuestion:
    positives = tuple(cut_passage(plan.row.positives[i], Policy().max_characters) for i in plan.positives)
    return ComparisonQuestion(plan.row.query, positives, tuple(plan.row.negatives[i] for i in indices))


def comparison_verdicts(comparison: RowComparison, shown: int) -> list[CandidateVerdict]:
    """Return one verdict per passage shown. A passage in both lists is an abstention."""
    if comparison.abstention is not None:
        return [CandidateVerdict("abstained", comparison.abstention)] * shown
    return [_comparison_verdict(comparison, identifier) for identifier in range(1, shown + 1)]


def _comparison_verdict(comparison: RowComparison, identifier: int) -> CandidateVerdict:
    if identifier in comparison.too_long:
        return CandidateVerdict("abstained", TOO_LONG)
    if identifier in comparison.unknown:
        return CandidateVerdict("abstained", "truncated")
    match identifier in comparison.better, identifier in comparison.worse:
        case True, True:
            return CandidateVerdict("abstained", "in_both_lists")
        case True, False:
            return CandidateVerdict("promoted", "as_good_as_positive")
        case False, True:
            return CandidateVerdict("removed", "relevant_but_worse")
        case _:
            return CandidateVerdict("kept", "not_relevant")


def cascade_verdicts(
    plan: RowPlan, judged: dict[int, CandidateVerdict], policy: Policy
) -> tuple[list[CandidateVerdict], bool]:
    """Combine the verdicts of rules and judge on one row.

    Returns:
        One verdict per negative, and whether the row is ambiguous: more than `max_promoted` of its negatives
        were flagged.
    """
    flagged = sum(verdict.outcome in ("promoted", "removed") for verdict in judged.values())
    unjudged = CandidateVerdict("abstained", "no_positive")
    verdicts = [
        plan.decided.get(i) or policy.restrict(judged.get(i, unjudged))
        for i in range(len(plan.row.negatives))
    ]
    return verdicts, flagged > policy.max_promoted


def parse_text_verdict(text: str, shown: int) -> RowComparison:
    """Parse a verdict in RLHN's text form, `<better>… [Doc (3)] </better> <worse>… [] </worse>`.

    Returns:
        The comparison. It is an abstention if a list is missing. Ids that were not shown are left out.
    """
    try:
        ids = read_comparison(text, False)
    except ValueError:
        return RowComparison(abstention="unparsable_verdict")
    return comparison_of(ids, shown)
