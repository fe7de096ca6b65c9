"""The strategies: two stages (ARHN, arXiv 2604.11092), cascade (RLHN, arXiv 2505.16967), graded.

Two stages read: find hard negatives → extract evidence → rank candidates → settle labels → record changes.
ARHN's prompts and edge cases are unpublished: prompts, rules, orders and policies are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from schemas.candidates import CandidateSet
from tasks.relabelling.cascade import Comparer, compare_in_cascade, settle_comparison
from tasks.relabelling.changes import Relabelling, record_changes
from tasks.relabelling.evidence import contest_of, extract_evidence, review_flags, settle_labels
from tasks.relabelling.graded import DecisionRule, Grades, doubted_positives, settle_grades
from tasks.relabelling.judge import Judge
from tasks.relabelling.policies import Policy, Verdict, settle_panel
from tasks.relabelling.ranking import rank_candidates
from tasks.relabelling.report import agreement_of
from tasks.relabelling.rules import Plan, find_hard_negatives

Elsewhere = Container[str] | None
"""Normalised positives of all rows of a file; `None`: of the rows at hand."""

Screening = Callable[[Sequence[Plan]], list[Plan]] | None
"""Takes candidates out that need not be asked about (`screen.screen_candidates`)."""


def plan_rows(
    sets: Sequence[CandidateSet],
    policy: Policy,
    positives_elsewhere: Elsewhere = None,
    screen: Screening = None,
) -> list[Plan]:
    """What is decided before any call: by rule, then by the screen, where there is one."""
    plans = find_hard_negatives(sets, policy, positives_elsewhere)
    return screen(plans) if screen else plans


async def relabel_sets(
    sets: Sequence[CandidateSet],
    judge: Judge,
    policy: Policy,
    positives_elsewhere: Elsewhere = None,
    screen: Screening = None,
) -> Relabelling:
    """The two-stage strategy with one judge."""
    return await relabel_with_panel(sets, (judge,), policy, positives_elsewhere, screen)


async def relabel_with_panel(
    sets: Sequence[CandidateSet],
    judges: Sequence[Judge],
    policy: Policy,
    positives_elsewhere: Elsewhere = None,
    screen: Screening = None,
) -> Relabelling:
    """The two-stage strategy; several judges decide each by themselves, and `settle_panel` between them."""
    plans = plan_rows(sets, policy, positives_elsewhere, screen)
    found = [await _two_stages(plans, judge, policy) for judge in judges]
    names = tuple(judge.name for judge in judges)
    rows, votes = [], []
    for plan, *opinions in zip(plans, *found, strict=True):
        panel = list(zip(*(verdicts for verdicts, _ in opinions), strict=True))
        votes += [dict(zip(names, map(has_evidence, panel[i]), strict=True)) for i in plan.asked]
        flags = [flag for _, flags in opinions for flag in flags]
        verdicts = [settle_panel(each) for each in panel]
        rows.append(record_changes(plan, verdicts, policy, judge="+".join(names), flags=flags))
    return Relabelling(tuple(rows), names, agreement_of(votes))


def has_evidence(verdict: Verdict) -> bool | None:
    """Whether a judge found that a candidate answers; `None`: it abstained."""
    if verdict.outcome == "abstained":
        return None
    return verdict.evidence is not None or verdict.outcome != "kept"


async def _two_stages(
    plans: Sequence[Plan], judge: Judge, policy: Policy
) -> list[tuple[list[Verdict], tuple[str, ...]]]:
    evidence = await extract_evidence(plans, judge)
    standings = await rank_candidates(list(map(contest_of, plans, evidence)), judge)
    return [
        (settle_labels(plan, found, standing, policy), review_flags(found))
        for plan, found, standing in zip(plans, evidence, standings, strict=True)
    ]


async def relabel_in_cascade(
    sets: Sequence[CandidateSet],
    judges: Sequence[Comparer],
    policy: Policy,
    positives_elsewhere: Elsewhere = None,
    screen: Screening = None,
) -> Relabelling:
    """The cascade: every judge sees only what the one before it flagged. Rows with more than
    `policy.max_promoted` flagged passages are dropped as ambiguous."""
    plans = plan_rows(sets, policy, positives_elsewhere, screen)
    compared = await compare_in_cascade(plans, judges)
    rows, votes = [], []
    for plan, found in zip(plans, compared, strict=True):
        verdicts, ambiguous = settle_comparison(plan, found.verdicts, policy)
        votes += [{name: has_evidence(seen[i]) for name, seen in found.opinions.items()} for i in plan.asked]
        flags = ("ambiguous",) if ambiguous else ()
        rows.append(record_changes(plan, verdicts, policy, judge=found.judge, flags=flags, drop=ambiguous))
    return Relabelling(tuple(rows), tuple(judge.name for judge in judges), agreement_of(votes))


def relabel_by_grades(
    sets: Sequence[CandidateSet],
    grades: Grades,
    rule: DecisionRule,
    policy: Policy,
    positives_elsewhere: Elsewhere = None,
    screen: Screening = None,
) -> Relabelling:
    """The graded strategy: a written rule over pointwise grades, recorded or fresh."""
    return settle_by_grades(plan_rows(sets, policy, positives_elsewhere, screen), grades, rule, policy)


def settle_by_grades(
    plans: Sequence[Plan], grades: Grades, rule: DecisionRule, policy: Policy
) -> Relabelling:
    """Verdicts on planned rows out of grades."""
    judge = "+".join(grades.judges)
    doubted = doubted_positives([plan.row for plan in plans], grades, rule)
    rows = [
        record_changes(
            plan,
            settle_grades(plan, grades, rule, policy),
            policy,
            judge=judge,
            flags=("review",) if plan.row.id in doubted else (),
        )
        for plan in plans
    ]
    votes = (grades.votes(plan.row.query_id, plan.row.negatives[i].id) for plan in plans for i in plan.asked)
    return Relabelling(tuple(rows), grades.judges, agreement_of(votes))
