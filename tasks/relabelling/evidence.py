"""Evidence for every passage of a row, positives included, and the contest that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.relabelling.judge import Evidence, EvidenceQuestion, Judge
from tasks.relabelling.policies import Policy, Standing, Verdict, verdict_with_evidence
from tasks.relabelling.ranking import Contest
from tasks.relabelling.rules import Plan


@dataclass(frozen=True, slots=True)
class RowEvidence:
    """Evidence by index, of the positives that can be read and of the negatives that had to be asked."""

    positives: dict[int, Evidence]
    negatives: dict[int, Evidence]

    @property
    def contest_positives(self) -> dict[int, Evidence]:
        """The positives that a candidate has to beat."""
        return {i: e for i, e in self.positives.items() if e.span is not None}

    @property
    def positive_unknown(self) -> bool:
        """Whether the judge abstained on a positive, so that nothing can be said to beat them all."""
        return any(e.abstention is not None for e in self.positives.values())


async def extract_evidence(plans: Sequence[Plan], judge: Judge) -> list[RowEvidence]:
    """Ask for the evidence of every passage that rules left open. A row without a readable positive, or with
    nothing left to decide, is not asked about."""
    asked = [
        (number, is_positive, index)
        for number, plan in enumerate(plans)
        if plan.positives and plan.asked
        for is_positive, indices in ((True, plan.positives), (False, plan.asked))
        for index in indices
    ]
    found = await judge.find_evidence([_question(plans[n], positive, i) for n, positive, i in asked])
    rows = [RowEvidence({}, {}) for _ in plans]
    for (number, is_positive, index), evidence in zip(asked, found, strict=True):
        (rows[number].positives if is_positive else rows[number].negatives)[index] = evidence
    return rows


def _question(plan: Plan, is_positive: bool, index: int) -> EvidenceQuestion:
    passages = plan.row.positives if is_positive else plan.row.negatives
    return EvidenceQuestion(plan.row.query, passages[index])


def contest_of(plan: Plan, evidence: RowEvidence) -> Contest:
    """What has to be ranked for a row: nothing where either side has no evidence."""
    candidates = {i: e for i, e in evidence.negatives.items() if e.span is not None}
    positives = evidence.contest_positives
    if not candidates or not positives:
        return Contest(plan.row.query, {}, {}, evidence.positive_unknown)
    return Contest(plan.row.query, positives, candidates, evidence.positive_unknown)


def settle_labels(
    plan: Plan, evidence: RowEvidence, standings: dict[int, Standing], policy: Policy
) -> list[Verdict]:
    """One verdict for each negative of a row."""
    return [
        plan.decided.get(index) or _settle(index, plan, evidence, standings, policy)
        for index in range(len(plan.row.negatives))
    ]


def _settle(
    index: int, plan: Plan, evidence: RowEvidence, standings: dict[int, Standing], policy: Policy
) -> Verdict:
    if not plan.positives:
        return Verdict("abstained", "no_positive")
    found = evidence.negatives[index]
    if found.abstention is not None:
        return Verdict("abstained", found.abstention)
    if found.span is None:
        return Verdict("kept", "no_evidence")
    if evidence.contest_positives:
        return verdict_with_evidence(found.span, standings[index], policy.mode)
    return verdict_with_evidence(found.span, "unjudged" if evidence.positive_unknown else None, policy.mode)


def review_flags(evidence: RowEvidence) -> tuple[str, ...]:
    """`review` where a positive has no evidence: either the row or the judge is wrong about it."""
    return ("review",) if any(e.span is None for e in evidence.positives.values()) else ()
