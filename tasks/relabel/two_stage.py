"""Ranking the evidence of a row: windows, two orders, and where each candidate stands.

A window holds up to 20 spans and moves on by 10 (the published setting for sets that do not fit in one).
Ours: the positives' spans are in every window, because the only question is whether a candidate beats the
best of them; every window is asked in two opposite orders, because a verdict that depends on the order is
none; and a candidate that falls into two windows must win in both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

from schemas.labels import CandidateSet
from schemas.tables import derived_seed
from tasks.judges.relevance import Evidence, EvidenceQuestion, Judge, RankingQuestion
from tasks.relabel.cascade import Comparer, compare_in_cascade, settle_comparison
from tasks.relabel.decisions import (
    CandidateVerdict,
    Plan,
    Policy,
    Relabelling,
    Standing,
    find_hard_negatives,
    record_changes,
    settle_panel,
    verdict_with_evidence,
)
from tasks.relabel.graded import DecisionRule, Grades, doubted_positives, settle_grades
from tasks.relabel.quality import agreement_of

WINDOW = 20
STEP = 10


@dataclass(frozen=True, slots=True)
class Contest:
    """The evidence of one row: spans of positives, and of the negatives that have one, by index."""

    query: str
    positives: dict[int, Evidence]
    candidates: dict[int, Evidence]
    positive_unknown: bool
    """Some positive's evidence is unknown, so that nothing can be said to beat them all."""


@dataclass(frozen=True, slots=True)
class _Window:
    contest: int
    shown: tuple[tuple[bool, int], ...]
    """(is a positive, index), in the order in which the spans are shown."""


def windows(positives: Sequence[int], candidates: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Which positives and which candidates are ranked together. With more than 10 positives a candidate has
    to meet them in groups of 10."""
    for first in range(0, len(positives), STEP):
        pinned = list(positives[first : first + STEP])
        room = WINDOW - len(pinned)
        for start in range(0, len(candidates), STEP):
            yield pinned, list(candidates[start : start + room])
            if start + room >= len(candidates):
                break


async def rank_candidates(contests: Sequence[Contest], judge: Judge) -> list[dict[int, Standing]]:
    """Where every candidate of every contest stands against the best-ranked positive."""
    asked = [window for number, contest in enumerate(contests) for window in _orders(number, contest)]
    rankings = await judge.rank([_question_ranking(contests[w.contest], w) for w in asked])
    seen: list[dict[int, list[Standing]]] = [{i: [] for i in c.candidates} for c in contests]
    for window, ranking in zip(asked, rankings, strict=True):
        for index, standing in _standings(window, ranking.places):
            seen[window.contest][index].append(standing)
    return [
        {index: settle_standing(found, contest.positive_unknown) for index, found in standings.items()}
        for contest, standings in zip(contests, seen, strict=True)
    ]


def settle_standing(found: Sequence[Standing], positive_unknown: bool = False) -> Standing:
    """One standing out of all orders and windows: unanimous, or no win."""
    if not found or "unjudged" in found:
        return "unjudged"
    if len(set(found)) > 1:
        return "flipped"
    if positive_unknown and found[0] != "below":
        return "unjudged"
    return found[0]


def _orders(number: int, contest: Contest) -> Iterator[_Window]:
    for pinned, candidates in windows(sorted(contest.positives), sorted(contest.candidates)):
        shown = [(True, i) for i in pinned] + [(False, i) for i in candidates]
        spans = [(_span(contest, is_positive, i)) for is_positive, i in shown]
        random.Random(derived_seed("ranking order", contest.query, spans)).shuffle(shown)
        yield _Window(number, tuple(shown))
        yield _Window(number, tuple(reversed(shown)))


def _question_ranking(contest: Contest, window: _Window) -> RankingQuestion:
    spans = tuple((contest.positives if positive else contest.candidates)[i] for positive, i in window.shown)
    return RankingQuestion(contest.query, spans)


def _span(contest: Contest, is_positive: bool, index: int) -> str | None:
    return (contest.positives if is_positive else contest.candidates)[index].span


def _standings(window: _Window, places: Sequence[int | None]) -> Iterator[tuple[int, Standing]]:
    """(candidate, standing) in one order. A positive without a place leaves open who beats it."""
    positives = [place for (positive, _), place in zip(window.shown, places, strict=True) if positive]
    ranked = [place for place in positives if place is not None]
    for (positive, index), place in zip(window.shown, places, strict=True):
        if positive:
            continue
        if place is None or not ranked:
            yield index, "unjudged"
        elif place > min(ranked):
            yield index, "below"
        elif len(ranked) < len(positives):
            yield index, "unjudged"
        else:
            yield index, "tied" if place == min(ranked) else "above"


# Evidence for every passage of a row, positives included, and the contest that it makes.


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
) -> list[CandidateVerdict]:
    """One verdict for each negative of a row."""
    return [
        plan.decided.get(index) or _settle(index, plan, evidence, standings, policy)
        for index in range(len(plan.row.negatives))
    ]


def _settle(
    index: int, plan: Plan, evidence: RowEvidence, standings: dict[int, Standing], policy: Policy
) -> CandidateVerdict:
    if not plan.positives:
        return CandidateVerdict("abstained", "no_positive")
    found = evidence.negatives[index]
    if found.abstention is not None:
        return CandidateVerdict("abstained", found.abstention)
    if found.span is None:
        return CandidateVerdict("kept", "no_evidence")
    if evidence.contest_positives:
        return verdict_with_evidence(found.span, standings[index], policy.mode)
    return verdict_with_evidence(found.span, "unjudged" if evidence.positive_unknown else None, policy.mode)


def review_flags(evidence: RowEvidence) -> tuple[str, ...]:
    """`review` where a positive has no evidence: either the row or the judge is wrong about it."""
    return ("review",) if any(e.span is None for e in evidence.positives.values()) else ()


# The strategies: two stages (ARHN, arXiv 2604.11092), cascade (RLHN, arXiv 2505.16967), graded.
#
# Two stages read: find hard negatives → extract evidence → rank candidates → settle labels → record changes.
# ARHN's prompts and edge cases are unpublished: prompts, rules, orders and policies are ours.


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


def has_evidence(verdict: CandidateVerdict) -> bool | None:
    """Whether a judge found that a candidate answers; `None`: it abstained."""
    if verdict.outcome == "abstained":
        return None
    return verdict.evidence is not None or verdict.outcome != "kept"


async def _two_stages(
    plans: Sequence[Plan], judge: Judge, policy: Policy
) -> list[tuple[list[CandidateVerdict], tuple[str, ...]]]:
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
