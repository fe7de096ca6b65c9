"""Relabel with evidence, comparisons or grades: the three strategies.

Two stages: find the evidence of every passage, then rank the spans against those of the positives. The
prompts, rules, orders and policies are ours, because those of the paper are unpublished.

References:
    Two stages: ARHN, arXiv 2604.11092. Cascade: RLHN, arXiv 2505.16967.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace

from schemas.labels import CandidateSet
from schemas.tables import derived_seed
from tasks.judges.relevance import Evidence, EvidenceQuestion, Judge, RankingQuestion
from tasks.relabel.cascade import Comparer, cascade_verdicts, compare_in_cascade
from tasks.relabel.decisions import (
    CandidateVerdict,
    Policy,
    Relabelling,
    RelativeRank,
    RowPlan,
    apply_verdicts,
    cut_passage,
    decide_by_rule,
    evidence_verdict,
    panel_verdict,
)
from tasks.relabel.graded import Grades, Rule, graded_verdicts, rows_with_doubted_positives, soft_label
from tasks.relabel.quality import count_agreement
from tasks.relabel.same_text import match_key

WINDOW = 20
"""Spans per ranking."""
STEP = 10
"""Candidates by which the window moves on: the published setting for sets larger than a window."""

PositiveTexts = Container[str] | None
"""Keys of the positives of a whole file. `None`: only those of the rows at hand are known."""
Screening = Callable[[Sequence[RowPlan]], list[RowPlan]] | None
"""Takes candidates out that need no judge (`mining.screen_candidates`)."""


# --- the strategies ---------------------------------------------------------------------------------------


def plan_rows(
    sets: Sequence[CandidateSet],
    policy: Policy,
    known_positives: PositiveTexts = None,
    screen: Screening = None,
) -> list[RowPlan]:
    """Decide without any call: by rule, then by the screen if there is one."""
    plans = decide_by_rule(sets, policy, known_positives)
    return screen(plans) if screen else plans


async def relabel_sets(
    sets: Sequence[CandidateSet],
    judge: Judge,
    policy: Policy,
    known_positives: PositiveTexts = None,
    screen: Screening = None,
) -> Relabelling:
    """Relabel in two stages with one judge."""
    return await relabel_with_panel(sets, (judge,), policy, known_positives, screen)


async def relabel_with_panel(
    sets: Sequence[CandidateSet],
    judges: Sequence[Judge],
    policy: Policy,
    known_positives: PositiveTexts = None,
    screen: Screening = None,
) -> Relabelling:
    """Relabel in two stages with a panel. Each judge decides alone; `panel_verdict` combines the verdicts."""
    plans = plan_rows(sets, policy, known_positives, screen)
    by_judge = [await _judge_in_two_stages(plans, judge, policy) for judge in judges]
    names = tuple(judge.name for judge in judges)
    rows, votes = [], []
    for plan, *opinions in zip(plans, *by_judge, strict=True):
        by_candidate = list(zip(*(verdicts for verdicts, _ in opinions), strict=True))
        votes += [
            dict(zip(names, map(judged_relevant, by_candidate[i]), strict=True)) for i in plan.undecided
        ]
        flags = [flag for _, flags in opinions for flag in flags]
        verdicts = [panel_verdict(panel) for panel in by_candidate]
        rows.append(apply_verdicts(plan, verdicts, policy, judge="+".join(names), flags=flags))
    return Relabelling(tuple(rows), names, count_agreement(votes))


async def relabel_in_cascade(
    sets: Sequence[CandidateSet],
    judges: Sequence[Comparer],
    policy: Policy,
    known_positives: PositiveTexts = None,
    screen: Screening = None,
) -> Relabelling:
    """Relabel with a cascade, cheap judge first.

    Rows with more than `policy.max_promoted` flagged passages are dropped as ambiguous.
    """
    plans = plan_rows(sets, policy, known_positives, screen)
    results = await compare_in_cascade(plans, judges)
    rows, votes = [], []
    for plan, result in zip(plans, results, strict=True):
        verdicts, ambiguous = cascade_verdicts(plan, result.verdicts, policy)
        votes += [
            {name: judged_relevant(judged[i]) for name, judged in result.verdicts_by_judge.items()}
            for i in plan.undecided
        ]
        flags = ("ambiguous",) if ambiguous else ()
        rows.append(apply_verdicts(plan, verdicts, policy, judge=result.judge, flags=flags, drop=ambiguous))
    return Relabelling(tuple(rows), tuple(judge.name for judge in judges), count_agreement(votes))


def relabel_by_grades(
    sets: Sequence[CandidateSet],
    grades: Grades,
    rule: Rule,
    policy: Policy,
    known_positives: PositiveTexts = None,
    screen: Screening = None,
) -> Relabelling:
    """Relabel with a rule over recorded grades."""
    return apply_decision_rule(plan_rows(sets, policy, known_positives, screen), grades, rule, policy)


def apply_decision_rule(plans: Sequence[RowPlan], grades: Grades, rule: Rule, policy: Policy) -> Relabelling:
    """Relabel planned rows with a rule over grades."""
    judge = "+".join(grades.judges)
    doubted = rows_with_doubted_positives([plan.row for plan in plans], grades, rule)
    rows = [
        replace(
            apply_verdicts(
                plan,
                graded_verdicts(plan, grades, rule, policy),
                policy,
                judge=judge,
                flags=("review",) if plan.row.id in doubted else (),
            ),
            soft_labels={
                match_key(passage.text): soft_label(
                    grades.of(*grades.key(plan.row, passage)), grades.scales, rule
                )
                for passage in (*plan.row.positives, *plan.row.negatives)
            },
        )
        for plan in plans
    ]
    votes = (
        grades.votes(*grades.key(plan.row, plan.row.negatives[i])) for plan in plans for i in plan.undecided
    )
    return Relabelling(tuple(rows), grades.judges, count_agreement(votes))


def judged_relevant(verdict: CandidateVerdict) -> bool | None:
    """Return whether a judge found that a candidate answers the query, or `None` if it abstained."""
    if verdict.outcome == "abstained":
        return None
    return verdict.evidence is not None or verdict.outcome != "kept"


# --- stage one: evidence ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowEvidence:
    """Evidence of one row by index: of its readable positives, and of its undecided negatives."""

    positives: dict[int, Evidence]
    negatives: dict[int, Evidence]

    @property
    def positive_spans(self) -> dict[int, Evidence]:
        """Evidence of the positives that have a span."""
        return {i: e for i, e in self.positives.items() if e.span is not None}

    @property
    def negative_spans(self) -> dict[int, Evidence]:
        """Evidence of the negatives that have a span."""
        return {i: e for i, e in self.negatives.items() if e.span is not None}

    @property
    def positive_unknown(self) -> bool:
        """Whether the judge abstained on a positive. Then no candidate can be known to beat all positives."""
        return any(e.abstention is not None for e in self.positives.values())


async def _judge_in_two_stages(
    plans: Sequence[RowPlan], judge: Judge, policy: Policy
) -> list[tuple[list[CandidateVerdict], tuple[str, ...]]]:
    """Return the verdicts of one judge on each row, and the row's flags."""
    evidence = await extract_evidence(plans, judge, policy)
    ranks = await rank_candidates(list(map(spans_to_rank, plans, evidence)), judge)
    return [
        (candidate_verdicts(plan, row_evidence, row_ranks, policy), review_flags(row_evidence))
        for plan, row_evidence, row_ranks in zip(plans, evidence, ranks, strict=True)
    ]


async def extract_evidence(
    plans: Sequence[RowPlan], judge: Judge, policy: Policy | None = None
) -> list[RowEvidence]:
    """Ask for the evidence of every passage that the rules left undecided, and of the positives.

    Rows without a readable positive or without undecided negatives are skipped.
    """
    passages = [
        (number, is_positive, index)
        for number, plan in enumerate(plans)
        if plan.positives and plan.undecided
        for is_positive, indices in ((True, plan.positives), (False, plan.undecided))
        for index in indices
    ]
    size = (policy or Policy()).max_characters
    questions = [_question(plans[n], positive, i, size) for n, positive, i in passages]
    answers = await judge.find_evidence(questions)
    rows = [RowEvidence({}, {}) for _ in plans]
    for (number, is_positive, index), evidence in zip(passages, answers, strict=True):
        (rows[number].positives if is_positive else rows[number].negatives)[index] = evidence
    return rows


def _question(plan: RowPlan, is_positive: bool, index: int, size: int) -> EvidenceQuestion:
    passage = cut_passage(plan.row.positives[index], size) if is_positive else plan.row.negatives[index]
    return EvidenceQuestion(plan.row.query, passage)


def candidate_verdicts(
    plan: RowPlan, evidence: RowEvidence, ranks: dict[int, RelativeRank], policy: Policy
) -> list[CandidateVerdict]:
    """Return one verdict per negative of a row. Rules take precedence."""
    return [
        plan.decided.get(index) or _candidate_verdict(index, plan, evidence, ranks, policy)
        for index in range(len(plan.row.negatives))
    ]


def _candidate_verdict(
    index: int, plan: RowPlan, evidence: RowEvidence, ranks: dict[int, RelativeRank], policy: Policy
) -> CandidateVerdict:
    if not plan.positives:
        return CandidateVerdict("abstained", "no_positive")
    own = evidence.negatives[index]
    if own.abstention is not None:
        return CandidateVerdict("abstained", own.abstention)
    if own.span is None:
        return CandidateVerdict("kept", "no_evidence")
    if evidence.positive_spans:
        return evidence_verdict(own.span, ranks[index], policy)
    return evidence_verdict(own.span, "unjudged" if evidence.positive_unknown else None, policy)


def review_flags(evidence: RowEvidence) -> tuple[str, ...]:
    """Flag a row for `review` if a positive has no evidence: the row or the judge is wrong about it."""
    return ("review",) if any(e.span is None for e in evidence.positives.values()) else ()


# --- stage two: ranking -----------------------------------------------------------------------------------
#
# Ours: the positives are in every window, because only the comparison with the best of them counts. Every
# window is ranked in two opposite orders, and a candidate in two windows must win in both.


@dataclass(frozen=True, slots=True)
class RowSpans:
    """The spans of one row to rank, by index of the passage."""

    query: str
    positives: dict[int, Evidence]
    candidates: dict[int, Evidence]
    positive_unknown: bool
    """See `RowEvidence.positive_unknown`."""


@dataclass(frozen=True, slots=True)
class _Window:
    row: int
    shown: tuple[tuple[bool, int], ...]
    """(is a positive, index of the passage), in the order shown."""


def spans_to_rank(plan: RowPlan, evidence: RowEvidence) -> RowSpans:
    """Return the spans of a row that must be ranked. None if either side has no evidence."""
    positives, candidates = evidence.positive_spans, evidence.negative_spans
    if not candidates or not positives:
        return RowSpans(plan.row.query, {}, {}, evidence.positive_unknown)
    return RowSpans(plan.row.query, positives, candidates, evidence.positive_unknown)


async def rank_candidates(rows: Sequence[RowSpans], judge: Judge) -> list[dict[int, RelativeRank]]:
    """Rank every candidate of every row against the best positive."""
    windows = [window for number, row in enumerate(rows) for window in _windows_in_two_orders(number, row)]
    rankings = await judge.rank([_ranking_question(rows[w.row], w) for w in windows])
    ranks: list[dict[int, list[RelativeRank]]] = [{i: [] for i in row.candidates} for row in rows]
    for window, ranking in zip(windows, rankings, strict=True):
        for index, rank in _relative_ranks(window, ranking.ranks):
            ranks[window.row][index].append(rank)
    return [
        {index: combine_ranks(found, row.positive_unknown) for index, found in by_candidate.items()}
        for row, by_candidate in zip(rows, ranks, strict=True)
    ]


def ranking_windows(
    positives: Sequence[int], candidates: Sequence[int]
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the positives and the candidates that are ranked together.

    With more than 10 positives, a candidate is ranked against them in groups of 10.
    """
    for first in range(0, len(positives), STEP):
        group = list(positives[first : first + STEP])
        size = WINDOW - len(group)
        for start in range(0, len(candidates), STEP):
            yield group, list(candidates[start : start + size])
            if start + size >= len(candidates):
                break


def _windows_in_two_orders(number: int, row: RowSpans) -> Iterator[_Window]:
    for positives, candidates in ranking_windows(sorted(row.positives), sorted(row.candidates)):
        shown = [(True, i) for i in positives] + [(False, i) for i in candidates]
        spans = [_evidence(row, is_positive, i).span for is_positive, i in shown]
        random.Random(derived_seed("ranking order", row.query, spans)).shuffle(shown)
        yield _Window(number, tuple(shown))
        yield _Window(number, tuple(reversed(shown)))


def _ranking_question(row: RowSpans, window: _Window) -> RankingQuestion:
    return RankingQuestion(row.query, tuple(_evidence(row, positive, i) for positive, i in window.shown))


def _evidence(row: RowSpans, is_positive: bool, index: int) -> Evidence:
    return (row.positives if is_positive else row.candidates)[index]


def _relative_ranks(window: _Window, ranks: Sequence[int | None]) -> Iterator[tuple[int, RelativeRank]]:
    """Yield (candidate, rank) for one order. If a positive has no rank, no candidate can rank above all."""
    positives = [rank for (positive, _), rank in zip(window.shown, ranks, strict=True) if positive]
    ranked = [rank for rank in positives if rank is not None]
    for (positive, index), rank in zip(window.shown, ranks, strict=True):
        if positive:
            continue
        if rank is None or not ranked:
            yield index, "unjudged"
        elif rank > min(ranked):
            yield index, "below"
        elif len(ranked) < len(positives):
            yield index, "unjudged"
        else:
            yield index, "tied" if rank == min(ranked) else "above"


def combine_ranks(ranks: Sequence[RelativeRank], positive_unknown: bool = False) -> RelativeRank:
    """Combine the ranks of one candidate over all orders and windows. Only a unanimous rank counts."""
    if not ranks or "unjudged" in ranks:
        return "unjudged"
    if len(set(ranks)) > 1:
        return "flipped"
    if positive_unknown and ranks[0] != "below":
        return "unjudged"
    return ranks[0]
