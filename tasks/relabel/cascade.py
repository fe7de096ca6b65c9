"""The cascade of RLHN (arXiv 2505.16967): a cheap judge on every row, a strong one where it objects.

A judge compares at most 25 passages a call with the ground truth and names those that are as good or
better, and those that are relevant but worse. Ours: a row on which the cheap judge abstains goes to the
strong judge as well, because an abstention is never "no false negatives".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tasks.judges.relevance import ComparisonQuestion, RowComparison
from tasks.relabel.decisions import ALLOWED, CandidateVerdict, Outcome, Plan, Policy

PASSAGES_A_CALL = 25


@dataclass(frozen=True, slots=True)
class ComparisonVerdicts:
    """Verdicts on a row by judge and index of the negative, as the evidence calls for; the last counts."""

    opinions: dict[str, dict[int, CandidateVerdict]] = field(default_factory=dict)

    @property
    def judge(self) -> str:
        """Who decided."""
        return next(reversed(self.opinions), "rule")

    @property
    def verdicts(self) -> dict[int, CandidateVerdict]:
        """What was decided."""
        return self.opinions.get(self.judge, {})


class Comparer(Protocol):
    """A judge of the cascade: one comparison a question, in the order of the questions."""

    name: str

    async def compare(self, questions: Sequence[ComparisonQuestion]) -> list[RowComparison]: ...


async def compare_in_cascade(plans: Sequence[Plan], judges: Sequence[Comparer]) -> list[ComparisonVerdicts]:
    """What the judges said of each row. Every judge sees only the rows that the one before it flagged or
    could not judge; the last one that saw a row decides it."""
    rows = [ComparisonVerdicts() for _ in plans]
    waiting = [i for i, plan in enumerate(plans) if plan.asked and plan.positives]
    for judge in judges:
        found = await _compare([plans[i] for i in waiting], judge)
        for i, row in zip(waiting, found, strict=True):
            rows[i].opinions[judge.name] = row
        waiting = [i for i, row in zip(waiting, found, strict=True) if _is_flagged(row)]
    return rows


def _is_flagged(row: dict[int, CandidateVerdict]) -> bool:
    return any(verdict.outcome != "kept" for verdict in row.values())


async def _compare(plans: Sequence[Plan], judge: Comparer) -> list[dict[int, CandidateVerdict]]:
    calls = [
        (number, plan.asked[start : start + PASSAGES_A_CALL])
        for number, plan in enumerate(plans)
        for start in range(0, len(plan.asked), PASSAGES_A_CALL)
    ]
    comparisons = await judge.compare([_question(plans[number], asked) for number, asked in calls])
    rows: list[dict[int, CandidateVerdict]] = [{} for _ in plans]
    for (number, asked), comparison in zip(calls, comparisons, strict=True):
        rows[number].update(zip(asked, verdicts_of(comparison, len(asked)), strict=True))
    return rows


def _question(plan: Plan, asked: Sequence[int]) -> ComparisonQuestion:
    positives = tuple(plan.row.positives[i] for i in plan.positives)
    return ComparisonQuestion(plan.row.query, positives, tuple(plan.row.negatives[i] for i in asked))


def verdicts_of(comparison: RowComparison, shown: int) -> list[CandidateVerdict]:
    """One verdict for each passage shown. An id in both lists abstains; ids out of range say nothing."""
    if comparison.abstention is not None:
        return [CandidateVerdict("abstained", comparison.abstention)] * shown
    return [_verdict(comparison, identifier) for identifier in range(1, shown + 1)]


def _verdict(comparison: RowComparison, identifier: int) -> CandidateVerdict:
    match identifier in comparison.better, identifier in comparison.worse:
        case True, True:
            return CandidateVerdict("abstained", "in_both_lists")
        case True, False:
            return CandidateVerdict("promoted", "as_good_as_positive")
        case False, True:
            return CandidateVerdict("removed", "relevant_but_worse")
        case _:
            return CandidateVerdict("kept", "not_relevant")


def settle_comparison(
    plan: Plan, found: dict[int, CandidateVerdict], policy: Policy
) -> tuple[list[CandidateVerdict], bool]:
    """One verdict for each negative, rules first; and whether the row is dropped as ambiguous, because more
    than `max_promoted` of its negatives were flagged."""
    flagged = sum(verdict.outcome in ("promoted", "removed") for verdict in found.values())
    unasked = CandidateVerdict("abstained", "no_positive")
    verdicts = [
        plan.decided.get(i) or _allowed(found.get(i, unasked), policy) for i in range(len(plan.row.negatives))
    ]
    return verdicts, flagged > policy.max_promoted


def _allowed(verdict: CandidateVerdict, policy: Policy) -> CandidateVerdict:
    outcome: Outcome = ALLOWED[policy.mode].get(verdict.outcome, verdict.outcome)
    return CandidateVerdict(outcome, verdict.reason, verdict.evidence)


_LISTS = {
    name: re.compile(rf"<{name}>(.*?)</{name}>", re.DOTALL | re.IGNORECASE) for name in ("better", "worse")
}
_DOC = re.compile(r"(?:doc\s*)?\(?\b(\d+)\b\)?", re.IGNORECASE)


def parse_text_verdict(text: str, shown: int) -> RowComparison:
    """Read a verdict in RLHN's published text form, `<better>… [Doc (3)] </better> <worse>… [] </worse>`.

    An answer without both lists, or with an id that was not shown, is an abstention.
    """
    found = {}
    for name, pattern in _LISTS.items():
        match = pattern.search(text)
        bracket = re.search(r"\[(.*?)\]", match.group(1), re.DOTALL) if match else None
        if bracket is None:
            return RowComparison(abstention="unparsable_verdict")
        found[name] = frozenset(int(number) for number in _DOC.findall(bracket.group(1)))
    if any(not 1 <= identifier <= shown for ids in found.values() for identifier in ids):
        return RowComparison(abstention="id_out_of_range")
    return RowComparison(found["better"], found["worse"])
