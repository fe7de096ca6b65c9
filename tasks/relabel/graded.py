"""Pointwise grades, recorded or asked live, turned into verdicts by a rule that is written down.

A rule has two sentences: who must agree, and on what, before a candidate is promoted; and before it is
removed. The default is the two-tier rule: promoted when *every* judge gives its *top* grade, removed when
*any* judge calls it *relevant* (on a scale of 0 to 3: from 2; on a binary scale: 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from schemas.errors import InputError
from schemas.labels import CandidateSet
from schemas.tables import derived_seed
from tasks.files.tables import cell_error, read_csv_rows
from tasks.judges.relevance import EvidenceQuestion
from tasks.relabel.decisions import ALLOWED, CandidateVerdict, Outcome, Plan, Policy, find_hard_negatives
from tasks.relabel.quality import COUNTED, METRICS, Qrels, QueryCounts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


Quorum = Literal["all", "majority", "any"]
Level = Literal["top", "relevant", "marginal"]


@dataclass(frozen=True, slots=True)
class GradeScale:
    """The grades of one judge: 0 to `top`; from `relevant` on a passage answers the query."""

    top: int
    relevant: int

    @classmethod
    def up_to(cls, top: int) -> GradeScale:
        """Binary, or graded with the usual cut (2 of 3)."""
        return cls(top, 1 if top <= 1 else (top + 1) // 2)

    def reaches(self, grade: int, level: Level) -> bool:
        """Whether a grade is at that level or above."""
        return grade >= {"top": self.top, "relevant": self.relevant, "marginal": 1}[level]


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """`all:top/any:relevant` in words: promote when all say top, remove when any says relevant."""

    promote_by: Quorum = "all"
    promote_at: Level = "top"
    remove_by: Quorum = "any"
    remove_at: Level = "relevant"

    @classmethod
    def parse(cls, text: str) -> DecisionRule:
        """Read `QUORUM:LEVEL/QUORUM:LEVEL`; `InputError` says what there is."""
        parts = text.replace("/", ":").split(":")
        quorums, levels = ("all", "majority", "any"), ("top", "relevant", "marginal")
        if len(parts) != 4 or {parts[0], parts[2]} - set(quorums) or {parts[1], parts[3]} - set(levels):
            raise InputError(
                f"not a decision rule: {text!r}",
                hint="write promote/remove as QUORUM:LEVEL/QUORUM:LEVEL, e.g. all:top/any:relevant; "
                f"quorums: {', '.join(quorums)}; levels: {', '.join(levels)}",
            )
        return cls(*parts)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.promote_by}:{self.promote_at}/{self.remove_by}:{self.remove_at}"

    def outcome(self, grades: Mapping[str, int | None], scales: Mapping[str, GradeScale]) -> Outcome:
        """What the grades of one candidate call for. A grade that is missing can neither make all agree nor
        clear the candidate: without it nothing is promoted, and "no judge objects" is an abstention."""
        known = {judge: grade for judge, grade in grades.items() if grade is not None}
        if not known:
            return "abstained"

        def agreed(quorum: Quorum, level: Level) -> bool:
            votes = sum(scales[judge].reaches(grade, level) for judge, grade in known.items())
            needed = {"all": len(grades), "majority": len(grades) // 2 + 1, "any": 1}[quorum]
            return votes >= needed

        if agreed(self.promote_by, self.promote_at):
            return "promoted"
        if agreed(self.remove_by, self.remove_at):
            return "removed"
        return "kept" if len(known) == len(grades) else "abstained"


@dataclass(frozen=True)
class Grades:
    """Grades by (query id, passage id) and judge, with each judge's scale."""

    judges: tuple[str, ...]
    scales: Mapping[str, GradeScale]
    by_pair: Mapping[tuple[str, str], Mapping[str, int]]

    def of(self, query_id: str, passage_id: str) -> dict[str, int | None]:
        """Every judge's grade of one pair; `None` where there is none."""
        found = self.by_pair.get((query_id, passage_id), {})
        return {judge: found.get(judge) for judge in self.judges}

    def votes(self, query_id: str, passage_id: str) -> dict[str, bool | None]:
        """Whether every judge calls one pair relevant; `None` where it gave no grade."""
        return {
            judge: None if grade is None else self.scales[judge].reaches(grade, "relevant")
            for judge, grade in self.of(query_id, passage_id).items()
        }


def read_grades(path: Path, judges: Sequence[str] = (), scales: Mapping[str, int] | None = None) -> Grades:
    """A CSV `query_id,docid,judge,grade`. `judges`: only these; `scales`: a judge's top grade, where the file
    does not happen to hold it."""
    by_pair: dict[tuple[str, str], dict[str, int]] = {}
    tops: dict[str, int] = {}
    for place, record in read_csv_rows(path, ("query_id", "docid", "judge", "grade")):
        judge, grade = record["judge"], _grade(record["grade"], place)
        if grade is None or (judges and judge not in judges):
            continue
        given = by_pair.setdefault((record["query_id"], record["docid"]), {})
        if given.setdefault(judge, grade) != grade:
            raise InputError(
                f"{judge!r} grades {record['docid']!r} both {given[judge]} and {grade}",
                place=place,
                hint="keep one of the two lines",
            )
        tops[judge] = max(tops.get(judge, 1), grade)
    tops.update({judge: top for judge, top in (scales or {}).items() if judge in tops})
    unknown = [judge for judge in judges if judge not in tops]
    if unknown or not tops:
        raise InputError(f"no verdicts of {unknown[0] if unknown else 'any judge'}", place=str(path))
    names = tuple(judges) or tuple(sorted(tops))
    return Grades(names, {judge: GradeScale.up_to(tops[judge]) for judge in names}, by_pair)


def _grade(text: str, place: str) -> int | None:
    if not text.strip():
        return None
    try:
        grade = int(text)
    except ValueError:
        grade = -1
    if grade < 0:
        raise cell_error(place, "grade", text, "grades are whole numbers from 0")
    return grade


class Grader(Protocol):
    """Grades single passages from 0 to 3; `None` is an abstention."""

    name: str

    async def grade(self, questions: Sequence[EvidenceQuestion]) -> list[int | None]: ...


async def grade_live(plans: Sequence[Plan], graders: Sequence[Grader]) -> Grades:
    """Ask for the grades of what rules left open, and of the positives of such rows."""
    by_pair: dict[tuple[str, str], dict[str, int]] = {}
    asked = {
        (plan.row.query_id, passage.id): (plan.row.query, passage)
        for plan in plans
        if plan.asked
        for passage in (
            *(plan.row.positives[i] for i in plan.positives),
            *(plan.row.negatives[i] for i in plan.asked),
        )
    }
    for grader in graders:
        found = await grader.grade([EvidenceQuestion(query, passage) for query, passage in asked.values()])
        for pair, grade in zip(asked, found, strict=True):
            if grade is not None:
                by_pair.setdefault(pair, {})[grader.name] = grade
    names = tuple(grader.name for grader in graders)
    return Grades(names, dict.fromkeys(names, GradeScale.up_to(3)), by_pair)


def settle_grades(plan: Plan, grades: Grades, rule: DecisionRule, policy: Policy) -> list[CandidateVerdict]:
    """One verdict for each negative of a row, rules first."""
    return [
        plan.decided.get(index) or _settle(plan.row, index, grades, rule, policy)
        for index in range(len(plan.row.negatives))
    ]


def _settle(
    row: CandidateSet, index: int, grades: Grades, rule: DecisionRule, policy: Policy
) -> CandidateVerdict:
    given = grades.of(row.query_id, row.negatives[index].id)
    outcome = rule.outcome(given, grades.scales)
    reason = "no_grade" if outcome == "abstained" else "graded " + _in_words(given)
    return CandidateVerdict(ALLOWED[policy.mode].get(outcome, outcome), reason)


def _in_words(grades: Mapping[str, int | None]) -> str:
    return ", ".join(f"{judge}={'?' if grade is None else grade}" for judge, grade in grades.items())


def doubted_positives(rows: Iterable[CandidateSet], grades: Grades, rule: DecisionRule) -> set[str]:
    """Ids of rows none of whose graded positives any judge calls relevant: a person should look at them."""
    doubted = set()
    for row in rows:
        outcomes = [rule.outcome(grades.of(row.query_id, p.id), grades.scales) for p in row.positives]
        known = [outcome for outcome in outcomes if outcome != "abstained"]
        if known and all(outcome == "kept" for outcome in known):
            doubted.add(row.id)
    return doubted


# The operating point: which decision rule, when so much may be lost and so much precision is wanted.
#
# Every rule over the judges at hand is tried on rows with known grades. Chosen is the one that leaves the
# fewest false negatives among those that keep to the limits. How good the choice is, is measured by
# cross-validation: queries are dealt into folds, the rule is chosen on the others and measured on the fold,
# so
# that no query has a say in the rule that it is measured with.


FOLDS = 5
QUORUMS: tuple[Quorum, ...] = ("all", "majority", "any")
LEVELS: tuple[Level, ...] = ("top", "relevant", "marginal")


@dataclass(frozen=True)
class RuleLimits:
    """What a rule has to keep to; `None`: no limit."""

    max_true_negatives_lost: float | None = None
    min_relabel_precision: float | None = None

    @property
    def are_set(self) -> bool:
        """Whether there is any."""
        return self != RuleLimits()

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
    tallies: dict[DecisionRule, QueryCounts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for parts in product(QUORUMS, LEVELS, QUORUMS, LEVELS):
            self.tallies[DecisionRule(*parts)] = QueryCounts(self.qrels, self.relevant_from)

    def add(self, rows: Iterable[CandidateSet]) -> None:
        """Try every rule on some rows."""
        for plan in find_hard_negatives(list(rows), self.policy):
            known = [self.qrels.get((plan.row.query_id, p.id)) for p in plan.row.negatives]
            for rule, tally in self.tallies.items():
                verdicts = settle_grades(plan, self.grades, rule, self.policy)
                for grade, verdict in zip(known, verdicts, strict=True):
                    if grade is not None:
                        tally.count(plan.row.query_id, grade, verdict.outcome)

    def choose(self, limits: RuleLimits, *, without: frozenset[str] = frozenset()) -> DecisionRule | None:
        """The rule with the fewest false negatives left that keeps to the limits, leaving some queries out;
        ties go to what loses less, then to the rule's own order."""
        found = []
        for order, (rule, tally) in enumerate(self.tallies.items()):
            cells = _summed(cells for query, cells in tally.by_query.items() if query not in without)
            if limits.allow(cells):
                left, lost = _share(cells, "false_negative_rate_after"), _share(cells, "true_negatives_lost")
                found.append((1.0 if left is None else left, lost or 0.0, order, rule))
        return min(found)[3] if found else None


def choose_rule(trial: RuleTrial, limits: RuleLimits) -> tuple[DecisionRule, dict[str, Any]]:
    """The rule for these limits and how it does on queries that had no say in it. `InputError` where no rule
    keeps to them."""
    rule = trial.choose(limits)
    if rule is None:
        raise InputError(
            "no decision rule keeps to these limits",
            hint="allow more true negatives to be lost, or ask for less precision",
        )
    held_out, unmet = QueryCounts(trial.qrels, trial.relevant_from), 0
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


# How far judges agree, and how reliable each is when nobody knows the truth.
#
# Agreement is Cohen's kappa of every two judges on "relevant or not". Reliability is the model of Dawid and
# Skene (1979), here with two classes: a candidate is relevant with probability π; judge j says so with
# probability α_j (sensitivity) where it is and 1 − β_j (β specificity) where it is not; judges err
# independently of each other given the truth. Expectation–maximisation starts from the share of judges that
# said yes. It takes at least three judges, and it is as right as the independence is: judges that share a
# blind spot vouch for each other.


ROUNDS = 500
CLOSE = 1e-8
PRIOR = 1.0
"""One imagined yes and one imagined no a cell: no judge is taken to be infallible."""


@dataclass(frozen=True)
class Reliability:
    """What the model makes of the judges."""

    prevalence: float
    sensitivity: Mapping[str, float]
    specificity: Mapping[str, float]
    relevant: tuple[float, ...]
    """Probability that a pair is relevant, in the order of the pairs."""


def relevance_votes(grades: Grades, pairs: Sequence[tuple[str, str]]) -> Floats:
    """Array (pairs, judges): 1 relevant, 0 not, NaN no grade."""
    import numpy as np

    votes = np.full((len(pairs), len(grades.judges)), np.nan)
    for i, pair in enumerate(pairs):
        for j, (judge, grade) in enumerate(grades.of(*pair).items()):
            if grade is not None:
                votes[i, j] = float(grades.scales[judge].reaches(grade, "relevant"))
    return votes


def pairwise_kappa(grades: Grades, votes: Floats) -> dict[str, float | None]:
    """Cohen's kappa of every two judges on the pairs that both graded; `None` where nothing varies."""
    import numpy as np

    from tasks.stats.agreement import weighted_kappa

    found: dict[str, float | None] = {}
    for (i, left), (j, right) in combinations(enumerate(grades.judges), 2):
        both = ~np.isnan(votes[:, [i, j]]).any(axis=1)
        kappa = weighted_kappa(votes[both, i].tolist(), votes[both, j].tolist())
        found[f"{left} ~ {right}"] = None if np.isnan(kappa) else kappa
    return found


def estimate_reliability(grades: Grades, votes: Floats) -> Reliability | None:
    """Dawid–Skene by expectation–maximisation; `None` for fewer than three judges or without votes."""
    import numpy as np

    if len(grades.judges) < 3 or not (~np.isnan(votes)).any():
        return None
    given = ~np.isnan(votes)
    yes = np.where(given, votes, 0.0)
    no = np.where(given, 1.0 - votes, 0.0)
    share = yes.sum(axis=1) / np.maximum(given.sum(axis=1), 1)
    relevant = np.where(given.any(axis=1), share, 0.5)
    for _ in range(ROUNDS):
        prevalence = (relevant.sum() + PRIOR) / (len(relevant) + 2 * PRIOR)
        sensitivity = (relevant @ yes + PRIOR) / (relevant @ given + 2 * PRIOR)
        specificity = ((1 - relevant) @ no + PRIOR) / ((1 - relevant) @ given + 2 * PRIOR)
        is_so = np.log(prevalence) + yes @ np.log(sensitivity) + no @ np.log(1 - sensitivity)
        is_not = np.log(1 - prevalence) + yes @ np.log(1 - specificity) + no @ np.log(specificity)
        updated = 1 / (1 + np.exp(np.clip(is_not - is_so, -700, 700)))
        moved = float(np.abs(updated - relevant).max())
        relevant = updated
        if moved < CLOSE:
            break
    return Reliability(
        float(prevalence),
        dict(zip(grades.judges, map(float, sensitivity), strict=True)),
        dict(zip(grades.judges, map(float, specificity), strict=True)),
        tuple(map(float, relevant)),
    )


def describe_judges(grades: Grades) -> dict[str, Any]:
    """Agreement and, for three judges or more, reliability without gold, over all pairs that were graded."""
    votes = relevance_votes(grades, sorted(grades.by_pair))
    found = estimate_reliability(grades, votes)
    reliability = found and {
        "prevalence": found.prevalence,
        "sensitivity": dict(found.sensitivity),
        "specificity": dict(found.specificity),
    }
    return {"kappa": pairwise_kappa(grades, votes), "reliability": reliability}
