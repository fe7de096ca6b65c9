"""Relabel: which hard negatives answer after all?

Two stages after ARHN (arXiv 2604.11092): find hard negatives → extract evidence → rank candidates → settle
labels → record changes. ARHN's prompts and edge cases are unpublished: prompts, rules, orders and policies
are ours. The same five steps serve retrieval sets and the question pool; what differs is the criterion.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from schemas.candidates import CandidateSet
from tasks.relabelling.cascade import Comparer, compare_in_cascade, settle_comparison
from tasks.relabelling.changes import Relabelling, record_changes
from tasks.relabelling.evidence import contest_of, extract_evidence, review_flags, settle_labels
from tasks.relabelling.graded import DecisionRule, Grades, doubted_positives, settle_grades
from tasks.relabelling.judge import Judge
from tasks.relabelling.policies import Policy
from tasks.relabelling.ranking import rank_candidates
from tasks.relabelling.rules import find_hard_negatives


async def relabel_sets(
    sets: Sequence[CandidateSet],
    judge: Judge,
    policy: Policy,
    positives_elsewhere: Container[str] | None = None,
) -> Relabelling:
    """The two-stage strategy. `positives_elsewhere`: see `find_hard_negatives`."""
    plans = find_hard_negatives(sets, policy, positives_elsewhere)
    evidence = await extract_evidence(plans, judge)
    standings = await rank_candidates(list(map(contest_of, plans, evidence)), judge)
    rows = [
        record_changes(
            plan,
            settle_labels(plan, found, standing, policy),
            policy,
            judge=judge.name,
            flags=review_flags(found),
        )
        for plan, found, standing in zip(plans, evidence, standings, strict=True)
    ]
    return Relabelling(tuple(rows), (judge.name,))


async def relabel_in_cascade(
    sets: Sequence[CandidateSet],
    judges: Sequence[Comparer],
    policy: Policy,
    positives_elsewhere: Container[str] | None = None,
) -> Relabelling:
    """The cascade: every judge sees only what the one before it flagged. Rows with more than
    `policy.max_promoted` flagged passages are dropped as ambiguous."""
    plans = find_hard_negatives(sets, policy, positives_elsewhere)
    compared = await compare_in_cascade(plans, judges)
    rows = []
    for plan, (found, judge) in zip(plans, compared, strict=True):
        verdicts, ambiguous = settle_comparison(plan, found, policy)
        flags = ("ambiguous",) if ambiguous else ()
        rows.append(record_changes(plan, verdicts, policy, judge=judge, flags=flags, drop=ambiguous))
    return Relabelling(tuple(rows), tuple(judge.name for judge in judges))


def relabel_by_grades(
    sets: Sequence[CandidateSet],
    grades: Grades,
    rule: DecisionRule,
    policy: Policy,
    positives_elsewhere: Container[str] | None = None,
) -> Relabelling:
    """The graded strategy: a written rule over pointwise grades, recorded or fresh."""
    judge = "+".join(grades.judges)
    doubted = doubted_positives(sets, grades, rule)
    rows = [
        record_changes(
            plan,
            settle_grades(plan, grades, rule, policy),
            policy,
            judge=judge,
            flags=("review",) if plan.row.id in doubted else (),
        )
        for plan in find_hard_negatives(sets, policy, positives_elsewhere)
    ]
    return Relabelling(tuple(rows), grades.judges)
