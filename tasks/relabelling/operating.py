"""The operating point: which decision rule, when so much may be lost and so much precision is wanted.

Every rule over the judges at hand is tried on rows with known grades. Chosen is the one that leaves the
fewest false negatives among those that keep to the limits. How good the choice is, is measured by
cross-validation: queries are dealt into folds, the rule is chosen on the others and measured on the fold, so
that no query has a say in the rule that it is measured with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from schemas.candidates import CandidateSet
from schemas.errors import InputError
from schemas.ids import derived_seed
from tasks.relabelling.graded import DecisionRule, Grades, Level, Quorum, settle_grades
from tasks.relabelling.policies import Policy
from tasks.relabelling.rules import find_hard_negatives
from tasks.relabelling.truth import COUNTED, METRICS, Qrels, Tally

FOLDS = 5
QUORUMS: tuple[Quorum, ...] = ("all", "majority", "any")
LEVELS: tuple[Level, ...] = ("top", "relevant", "marginal")


@dataclass(frozen=True)
class Limits:
    """What a rule has to keep to; `None`: no limit."""

    max_true_negatives_lost: float | None = None
    min_relabel_precision: float | None = None

    @property
    def are_set(self) -> bool:
        """Whether there is any."""
        return self != Limits()

    def allow(self, cells: Sequence[int]) -> bool:
        """Whether summed counts (see `truth.Tally`) keep to the limits. A rule that promotes nothing has no
        precision, and does not satisfy one that is wanted."""
        promoted, lost = _share(cells, "relabel_precision"), _share(cells, "true_negatives_lost")
        if self.min_relabel_precision is not None and (promoted or 0.0) < self.min_relabel_precision:
            return False
        return self.max_true_negatives_lost is None or (lost or 0.0) <= self.max_true_negatives_lost


@dataclass
class RuleTrial:
    """All rules on the same rows: counts by rule and query."""

    grades: Grades
    qrels: Qrels
    relevant_from: int
    policy: Policy
    tallies: dict[DecisionRule, Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for parts in product(QUORUMS, LEVELS, QUORUMS, LEVELS):
            self.tallies[DecisionRule(*parts)] = Tally(self.qrels, self.relevant_from)

    def add(self, rows: Iterable[CandidateSet]) -> None:
        """Try every rule on some rows."""
        for plan in find_hard_negatives(list(rows), self.policy):
            known = [self.qrels.get((plan.row.query_id, p.id)) for p in plan.row.negatives]
            for rule, tally in self.tallies.items():
                verdicts = settle_grades(plan, self.grades, rule, self.policy)
                for grade, verdict in zip(known, verdicts, strict=True):
                    if grade is not None:
                        tally.count(plan.row.query_id, grade, verdict.outcome)

    def choose(self, limits: Limits, *, without: frozenset[str] = frozenset()) -> DecisionRule | None:
        """The rule with the fewest false negatives left that keeps to the limits, leaving some queries out;
        ties go to what loses less, then to the rule's own order."""
        found = []
        for order, (rule, tally) in enumerate(self.tallies.items()):
            cells = _summed(cells for query, cells in tally.by_query.items() if query not in without)
            if limits.allow(cells):
                left, lost = _share(cells, "false_negative_rate_after"), _share(cells, "true_negatives_lost")
                found.append((1.0 if left is None else left, lost or 0.0, order, rule))
        return min(found)[3] if found else None


def choose_rule(trial: RuleTrial, limits: Limits) -> tuple[DecisionRule, dict[str, Any]]:
    """The rule for these limits and how it does on queries that had no say in it. `InputError` where no rule
    keeps to them."""
    rule = trial.choose(limits)
    if rule is None:
        raise InputError(
            "no decision rule keeps to these limits",
            hint="allow more true negatives to be lost, or ask for less precision",
        )
    held_out, unmet = Tally(trial.qrels, trial.relevant_from), 0
    queries = sorted({query for tally in trial.tallies.values() for query in tally.by_query})
    for fold in _folds(queries):
        chosen = trial.choose(limits, without=fold)
        unmet += chosen is None
        if chosen is not None:
            held_out.merge({q: c for q, c in trial.tallies[chosen].by_query.items() if q in fold})
    return rule, {
        "rule": str(rule),
        "folds_without_a_rule": unmet,
        "held_out": held_out.estimates(),
        "trade_off": trade_off(trial),
    }


def trade_off(trial: RuleTrial) -> list[dict[str, Any]]:
    """The rules that no other beats both in true negatives lost and in false negatives left, on all rows."""
    points = []
    for rule, tally in trial.tallies.items():
        cells = _summed(tally.by_query.values())
        shares = {name: _share(cells, name) for name in METRICS}
        lost, left = shares["true_negatives_lost"], shares["false_negative_rate_after"]
        points.append((lost or 0.0, 1.0 if left is None else left, str(rule), shares["relabel_precision"]))
    front: list[dict[str, Any]] = []
    for lost, left, name, precision in sorted(points, key=lambda point: point[:3]):
        if not front or left < front[-1]["false_negative_rate_after"]:
            front.append(
                {
                    "rule": name,
                    "true_negatives_lost": lost,
                    "false_negative_rate_after": left,
                    "relabel_precision": precision,
                }
            )
    return front


def _folds(queries: Sequence[str]) -> list[frozenset[str]]:
    dealt = sorted(queries, key=lambda query: (derived_seed("fold", query), query))
    return [frozenset(dealt[i::FOLDS]) for i in range(min(FOLDS, len(dealt)))]


def _summed(rows: Iterable[Sequence[int]]) -> list[int]:
    total = [0] * 2 * len(COUNTED)
    for cells in rows:
        total = [a + b for a, b in zip(total, cells, strict=True)]
    return total


def _share(cells: Sequence[int], metric: str) -> float | None:
    at = 2 * METRICS.index(metric)
    return cells[at] / cells[at + 1] if cells[at + 1] else None
