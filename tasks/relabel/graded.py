"""Turn pointwise grades, recorded or new, into verdicts with a written rule.

A rule has two parts: which judges must give which grade before a candidate is promoted, and before it is
removed. The default promotes if *every* judge gives its *top* grade, and removes if *any* judge calls it
*relevant* (from 2 on a scale of 0 to 3, 1 on a binary scale).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from schemas.errors import InputError
from schemas.labels import CandidateSet, Passage
from schemas.tables import derived_seed
from tasks.files.retrieval_rows import passage_id
from tasks.files.tables import cell_error, read_csv_rows
from tasks.judges.relevance import EvidenceQuestion
from tasks.relabel.decisions import CandidateVerdict, Outcome, Policy, RowPlan, cut_passage, decide_by_rule
from tasks.relabel.quality import COUNTED, METRICS, Qrels, QueryCounts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


Quorum = Literal["all", "majority", "any"]
Level = Literal["top", "relevant", "marginal"]
QUORUMS: tuple[Quorum, ...] = ("all", "majority", "any")
LEVELS: tuple[Level, ...] = ("top", "relevant", "marginal")

FOLDS = 5
"""Folds of the cross-validation that evaluates the choice of a rule."""
MAX_ROUNDS = 500
TOLERANCE = 1e-8
PRIOR = 1.0
"""Pseudo-counts per cell of the Dawid–Skene model: no judge is taken to be infallible."""


# --- grades and rules -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GradeScale:
    """The grades of one judge, 0 to `top`. From `relevant`, a passage answers the query."""

    top: int
    relevant: int

    @classmethod
    def up_to(cls, top: int) -> GradeScale:
        """Return a binary scale, or a graded one with the usual cut (2 of 3)."""
        return cls(top, 1 if top <= 1 else (top + 1) // 2)

    def reaches(self, grade: int, level: Level) -> bool:
        """Return whether a grade is at a level or above it."""
        return grade >= {"top": self.top, "relevant": self.relevant, "marginal": 1}[level]


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """A rule such as `all:top/any:relevant`.

    This one promotes a candidate if all judges give the top grade, and removes it if any calls it relevant.
    """

    promote_by: Quorum = "all"
    promote_at: Level = "top"
    remove_by: Quorum = "any"
    remove_at: Level = "relevant"

    @classmethod
    def parse(cls, text: str) -> DecisionRule:
        """Parse `QUORUM:LEVEL/QUORUM:LEVEL`. Raise `InputError` with the valid names."""
        parts = text.replace("/", ":").split(":")
        if len(parts) != 4 or {parts[0], parts[2]} - set(QUORUMS) or {parts[1], parts[3]} - set(LEVELS):
            raise InputError(
                f"not a decision rule: {text!r}",
                hint="write promotion/removal as QUORUM:LEVEL/QUORUM:LEVEL, e.g. all:top/any:relevant; "
                f"quorums: {', '.join(QUORUMS)}; levels: {', '.join(LEVELS)}",
            )
        return cls(*parts)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.promote_by}:{self.promote_at}/{self.remove_by}:{self.remove_at}"

    def outcome(self, grades: Mapping[str, int | None], scales: Mapping[str, GradeScale]) -> Outcome:
        """Return the outcome for the grades of one candidate.

        A missing grade (`None`) counts against every quorum. If it prevents a verdict, the outcome is an
        abstention, not `kept`: a judge without a grade has not cleared the candidate.
        """
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
    by_text: bool = False
    """The keys of `by_pair` are query and passage as texts, not as ids."""

    def key(self, row: CandidateSet, passage: Passage) -> tuple[str, str]:
        """Return the key of a passage of a row in `by_pair`."""
        return _text_key(row, passage) if self.by_text else (row.query_id, passage.id)

    def of(self, query_id: str, passage_id: str) -> dict[str, int | None]:
        """Return the grade of each judge for one pair, `None` if it is missing."""
        grades = self.by_pair.get((query_id, passage_id), {})
        return {judge: grades.get(judge) for judge in self.judges}

    def votes(self, query_id: str, passage_id: str) -> dict[str, bool | None]:
        """Return by judge whether it calls one pair relevant, `None` if it gave no grade."""
        return {
            judge: None if grade is None else self.scales[judge].reaches(grade, "relevant")
            for judge, grade in self.of(query_id, passage_id).items()
        }


def read_grades(path: Path, judges: Sequence[str] = (), scales: Mapping[str, int] | None = None) -> Grades:
    """Read recorded grades from a CSV file with the columns `query_id,docid,judge,grade`.

    Args:
        path: The file. Lines without a grade are skipped.
        judges: Only these judges. Default: all, in alphabetical order.
        scales: Top grades by judge, for judges that never give their top grade in the file.

    Raises:
        InputError: If a grade is not a whole number from 0, if a judge gives a pair two grades, or if a judge
            has no grades.
    """
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
        raise InputError(
            f"the file has no verdicts of {unknown[0] if unknown else 'any judge'}",
            place=str(path),
            hint="check the column judge",
        )
    names = tuple(judges) or tuple(sorted(tops))
    return Grades(names, {judge: GradeScale.up_to(tops[judge]) for judge in names}, by_pair)


def _grade(text: str, place: str) -> int | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    grade = int(value) if math.isfinite(value) and value == int(value) else -1
    if grade < 0:
        raise cell_error(place, "grade", text, "grades are whole numbers from 0")
    return grade


def _text_key(row: CandidateSet, passage: Passage) -> tuple[str, str]:
    return row.query, passage_id(passage.text, passage.title)


class Grader(Protocol):
    """A judge that grades single passages from 0 to 3. `None` is an abstention."""

    name: str

    async def grade(self, questions: Sequence[EvidenceQuestion]) -> list[int | None]:
        """Grade passages."""
        ...


async def request_grades(plans: Sequence[RowPlan], graders: Sequence[Grader]) -> Grades:
    """Ask for the grades of undecided candidates, and of the positives of their rows."""
    by_pair: dict[tuple[str, str], dict[str, int]] = {}
    questions = {
        _text_key(plan.row, passage): EvidenceQuestion(
            plan.row.query, cut_passage(passage, Policy().max_characters)
        )
        for plan in plans
        if plan.undecided
        for passage in (
            *(plan.row.positives[i] for i in plan.positives),
            *(plan.row.negatives[i] for i in plan.undecided),
        )
    }
    for grader in graders:
        grades = await grader.grade(list(questions.values()))
        for pair, grade in zip(questions, grades, strict=True):
            if grade is not None:
                by_pair.setdefault(pair, {})[grader.name] = grade
    names = tuple(grader.name for grader in graders)
    return Grades(names, dict.fromkeys(names, GradeScale.up_to(3)), by_pair, by_text=True)


def graded_verdicts(plan: RowPlan, grades: Grades, rule: Rule, policy: Policy) -> list[CandidateVerdict]:
    """Return one verdict per negative of a row. Rules take precedence."""
    return [
        plan.decided.get(index) or _graded_verdict(plan.row, index, grades, rule, policy)
        for index in range(len(plan.row.negatives))
    ]


def _graded_verdict(
    row: CandidateSet, index: int, grades: Grades, rule: Rule, policy: Policy
) -> CandidateVerdict:
    own = grades.of(*grades.key(row, row.negatives[index]))
    outcome = rule.outcome(own, grades.scales)
    reason = "no_grade" if outcome == "abstained" else "graded " + _format_grades(own)
    return policy.restrict(CandidateVerdict(outcome, reason))


def _format_grades(grades: Mapping[str, int | None]) -> str:
    return ", ".join(f"{judge}={'?' if grade is None else grade}" for judge, grade in grades.items())


def rows_with_doubted_positives(rows: Iterable[CandidateSet], grades: Grades, rule: Rule) -> set[str]:
    """Return the ids of rows with positives that no judge finds relevant. A person should check them."""
    doubted = set()
    for row in rows:
        outcomes = [rule.outcome(grades.of(*grades.key(row, p)), grades.scales) for p in row.positives]
        known = [outcome for outcome in outcomes if outcome != "abstained"]
        if known and all(outcome == "kept" for outcome in known):
            doubted.add(row.id)
    return doubted


# --- the weighted vote ------------------------------------------------------------------------------------


WEIGHTED = "weighted"
"""Name of the rule, and the default for three or more recorded judges."""
VOTERS = 2
"""Judges that decide. On TREC DL 2019 more voters or a posterior are no better, see docs/methods.md."""
DEPENDENCE = 0.5
"""Exponent of the likelihood of soft labels. Judges share blind spots, so their votes count less than
independent ones."""
LEAST_INFORMATIVE = 0.2
MOST_YES = 0.9
"""A judge is named if sensitivity + specificity − 1 is lower, or its share of yes is higher."""
AUDIT_PRIOR = 10.0
"""Audited passages that the estimate without labels is worth."""


@dataclass(frozen=True)
class WeightedVote:
    """A vote of the most reliable judges, chosen by their estimated error rates.

    The weight of a judge is ln(sensitivity / (1 − specificity)): how much a yes raises the odds that a
    passage is relevant. A candidate is removed if one of the two judges with the largest weights calls it
    relevant. If one of them gave no grade, the next judge takes its place. A candidate is promoted if, in
    addition, every judge that is not down-weighted gives its top grade.
    """

    prevalence: float
    sensitivity: Mapping[str, float]
    specificity: Mapping[str, float]
    down_weighted: tuple[str, ...]
    """Judges that call nearly everything relevant, or vote nearly at random. They do not vote."""
    audited: int = 0
    """Answers of people that the error rates rest on."""

    @classmethod
    def fit(cls, grades: Grades, audited: Mapping[tuple[str, str], int] | None = None) -> WeightedVote | None:
        """Estimate the error rates from all recorded grades. `None` with fewer than three judges.

        Args:
            grades: The recorded grades.
            audited: Answers of people (1 relevant, 0 not) by pair. They correct the estimate.
        """
        votes = relevance_votes(grades, sorted(grades.by_pair))
        estimate = estimate_reliability(grades, votes)
        if estimate is None:
            return None
        rates = _audited_rates(grades, estimate, audited or {})
        given = ~_isnan(votes)
        shares = {
            judge: float(votes[given[:, j], j].mean()) if given[:, j].any() else 0.0
            for j, judge in enumerate(grades.judges)
        }
        weak = tuple(
            judge
            for judge, (sensitivity, specificity) in rates.items()
            if sensitivity + specificity - 1 < LEAST_INFORMATIVE or shares[judge] > MOST_YES
        )
        return cls(
            estimate.prevalence,
            {judge: rate[0] for judge, rate in rates.items()},
            {judge: rate[1] for judge, rate in rates.items()},
            weak,
            len({pair for pair in audited or {} if pair in grades.by_pair}),
        )

    def __str__(self) -> str:
        return WEIGHTED

    def weight(self, judge: str) -> float:
        """Return the logarithm of the likelihood ratio of a yes."""
        return math.log(self.sensitivity[judge] / (1 - self.specificity[judge]))

    @property
    def ranked(self) -> list[str]:
        """The judges that may vote, the most reliable first. All of them if none is informative."""
        trusted = [judge for judge in self.sensitivity if judge not in self.down_weighted]
        return sorted(trusted or self.sensitivity, key=lambda judge: (-self.weight(judge), judge))

    def probability(self, grades: Mapping[str, int | None], scales: Mapping[str, GradeScale]) -> float | None:
        """Return the probability that a candidate is relevant, `None` without any grade."""
        log_odds, votes = math.log(self.prevalence) - math.log1p(-self.prevalence), 0
        for judge, grade in grades.items():
            if grade is None:
                continue
            votes += 1
            alpha, beta = self.sensitivity[judge], self.specificity[judge]
            is_yes = scales[judge].reaches(grade, "relevant")
            ratio = alpha / (1 - beta) if is_yes else (1 - alpha) / beta
            log_odds += DEPENDENCE * math.log(ratio)
        return 1 / (1 + math.exp(-log_odds)) if votes else None

    def outcome(self, grades: Mapping[str, int | None], scales: Mapping[str, GradeScale]) -> Outcome:
        """Return the outcome for the grades of one candidate.

        A candidate without two voters that would be kept is an abstention, unless only one judge may vote.
        """
        known = {judge: grade for judge, grade in grades.items() if grade is not None}
        ranked = self.ranked
        voters = [judge for judge in ranked if judge in known][:VOTERS]
        if not any(scales[judge].reaches(known[judge], "relevant") for judge in voters):
            return "kept" if voters and len(voters) == min(VOTERS, len(ranked)) else "abstained"
        all_top = all(judge in known and scales[judge].reaches(known[judge], "top") for judge in ranked)
        return "promoted" if all_top and set(ranked).isdisjoint(self.down_weighted) else "removed"

    def describe(self) -> dict[str, Any]:
        """Return the weights for the report, the judges that decide, and those that do not vote."""
        return {
            "rule": WEIGHTED,
            "weights": {judge: self.weight(judge) for judge in self.sensitivity},
            "voters": self.ranked[:VOTERS],
            "down_weighted": list(self.down_weighted),
            "audited": self.audited,
        }


def _audited_rates(
    grades: Grades, estimate: Reliability, audited: Mapping[tuple[str, str], int]
) -> dict[str, tuple[float, float]]:
    """Return sensitivity and specificity by judge: the estimate, corrected by the answers of people."""
    rates = {}
    for judge in grades.judges:
        judged = [(truth, grades.votes(*pair)[judge]) for pair, truth in audited.items()]
        decided = [(truth, vote) for truth, vote in judged if vote is not None]
        relevant = [vote for truth, vote in decided if truth]
        other = [not vote for truth, vote in decided if not truth]
        rates[judge] = (
            (sum(relevant) + AUDIT_PRIOR * estimate.sensitivity[judge]) / (len(relevant) + AUDIT_PRIOR),
            (sum(other) + AUDIT_PRIOR * estimate.specificity[judge]) / (len(other) + AUDIT_PRIOR),
        )
    return rates


Rule = DecisionRule | WeightedVote


def _isnan(votes: Floats) -> Any:
    import numpy as np

    return np.isnan(votes)


def soft_label(own: Mapping[str, int | None], scales: Mapping[str, GradeScale], rule: Rule) -> float | None:
    """Return the probability that a passage is relevant, or its mean grade on a scale of 0 to 1.

    The weighted vote gives a probability, other rules the mean over the judges that gave a grade.
    """
    if isinstance(rule, WeightedVote):
        return rule.probability(own, scales)
    known = [grade / scales[judge].top for judge, grade in own.items() if grade is not None]
    return sum(known) / len(known) if known else None


# --- the choice of a rule ---------------------------------------------------------------------------------
#
# Every rule over the judges is tried on rows with known grades. The rule with the fewest false negatives
# among those within the limits is chosen. Cross-validation evaluates the choice: a fold is measured with the
# rule that was chosen without its queries.


@dataclass(frozen=True)
class RuleLimits:
    """Limits that a rule must meet. `None`: no limit."""

    max_true_negatives_lost: float | None = None
    min_relabel_precision: float | None = None

    @property
    def are_set(self) -> bool:
        """Whether any limit is set."""
        return self != RuleLimits()

    def allow(self, cells: Sequence[int]) -> bool:
        """Return whether summed counts (`QueryCounts.by_query`) meet the limits.

        A rule that promotes nothing has no precision, and does not meet a limit on it.
        """
        promoted, lost = _share(cells, "relabel_precision"), _share(cells, "true_negatives_lost")
        if self.min_relabel_precision is not None and (promoted or 0.0) < self.min_relabel_precision:
            return False
        return self.max_true_negatives_lost is None or (lost or 0.0) <= self.max_true_negatives_lost


@dataclass
class RuleTrial:
    """All rules on the same rows, with counts by rule and query."""

    grades: Grades
    qrels: Qrels
    relevant_from: int
    policy: Policy
    counts: dict[DecisionRule, QueryCounts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for parts in product(QUORUMS, LEVELS, QUORUMS, LEVELS):
            self.counts[DecisionRule(*parts)] = QueryCounts(self.qrels, self.relevant_from)

    def add(self, rows: Iterable[CandidateSet]) -> None:
        """Try every rule on some rows."""
        for plan in decide_by_rule(list(rows), self.policy):
            known = [self.qrels.get((plan.row.query_id, p.id)) for p in plan.row.negatives]
            for rule, counts in self.counts.items():
                verdicts = graded_verdicts(plan, self.grades, rule, self.policy)
                for grade, verdict in zip(known, verdicts, strict=True):
                    if grade is not None:
                        counts.count(plan.row.query_id, grade, verdict.outcome)

    def choose(self, limits: RuleLimits, *, without: frozenset[str] = frozenset()) -> DecisionRule | None:
        """Return the rule within the limits that leaves the fewest false negatives, or `None`.

        Ties go to the rule that loses fewer true negatives, then to the first one.

        Args:
            limits: Limits on the summed counts.
            without: Queries to leave out.
        """
        candidates = []
        for order, (rule, counts) in enumerate(self.counts.items()):
            cells = _sum_cells(cells for query, cells in counts.by_query.items() if query not in without)
            if limits.allow(cells):
                left, lost = _share(cells, "false_negative_rate_after"), _share(cells, "true_negatives_lost")
                candidates.append((1.0 if left is None else left, lost or 0.0, order, rule))
        return min(candidates)[3] if candidates else None


def choose_rule(trial: RuleTrial, limits: RuleLimits) -> tuple[DecisionRule, dict[str, Any]]:
    """Choose the rule that meets the limits, and evaluate the choice by cross-validation.

    Returns:
        The rule, and a report with the estimates on held-out queries.

    Raises:
        InputError: If no rule meets the limits.
    """
    rule = trial.choose(limits)
    if rule is None:
        raise InputError(
            "no decision rule meets these limits",
            hint="raise --max-true-negatives-lost or lower --min-relabel-precision",
        )
    held_out, folds_without_rule = QueryCounts(trial.qrels, trial.relevant_from), 0
    queries = sorted({query for counts in trial.counts.values() for query in counts.by_query})
    for fold in _folds(queries):
        chosen = trial.choose(limits, without=fold)
        folds_without_rule += chosen is None
        if chosen is not None:
            held_out.merge({q: c for q, c in trial.counts[chosen].by_query.items() if q in fold})
    return rule, {
        "rule": str(rule),
        "folds_without_a_rule": folds_without_rule,
        "held_out": held_out.estimates(),
        "trade_off": pareto_front(trial),
    }


def pareto_front(trial: RuleTrial) -> list[dict[str, Any]]:
    """Return the rules that no other rule beats in both true negatives lost and false negatives left."""
    points = []
    for rule, counts in trial.counts.items():
        cells = _sum_cells(counts.by_query.values())
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
    shuffled = sorted(queries, key=lambda query: (derived_seed("fold", query), query))
    return [frozenset(shuffled[i::FOLDS]) for i in range(min(FOLDS, len(shuffled)))]


def _sum_cells(rows: Iterable[Sequence[int]]) -> list[int]:
    total = [0] * 2 * len(COUNTED)
    for cells in rows:
        total = [a + b for a, b in zip(total, cells, strict=True)]
    return total


def _share(cells: Sequence[int], metric: str) -> float | None:
    position = 2 * METRICS.index(metric)
    return cells[position] / cells[position + 1] if cells[position + 1] else None


# --- agreement and reliability of the judges --------------------------------------------------------------


def describe_judges(grades: Grades) -> dict[str, Any]:
    """Return the agreement of the judges over all graded pairs and, for three or more, their reliability."""
    votes = relevance_votes(grades, sorted(grades.by_pair))
    estimate = estimate_reliability(grades, votes)
    reliability = estimate and {
        "prevalence": estimate.prevalence,
        "sensitivity": dict(estimate.sensitivity),
        "specificity": dict(estimate.specificity),
    }
    return {"kappa": pairwise_kappa(grades, votes), "reliability": reliability}


def relevance_votes(grades: Grades, pairs: Sequence[tuple[str, str]]) -> Floats:
    """Return an array (pairs, judges): 1 relevant, 0 not relevant, NaN no grade."""
    import numpy as np

    votes = np.full((len(pairs), len(grades.judges)), np.nan)
    for i, pair in enumerate(pairs):
        for j, (judge, grade) in enumerate(grades.of(*pair).items()):
            if grade is not None:
                votes[i, j] = float(grades.scales[judge].reaches(grade, "relevant"))
    return votes


def pairwise_kappa(grades: Grades, votes: Floats) -> dict[str, float | None]:
    """Return Cohen's kappa of every two judges on the pairs that both graded, `None` if no vote varies."""
    import numpy as np

    from tasks.stats.agreement import weighted_kappa

    kappas: dict[str, float | None] = {}
    for (i, left), (j, right) in combinations(enumerate(grades.judges), 2):
        both = ~np.isnan(votes[:, [i, j]]).any(axis=1)
        kappa = weighted_kappa(votes[both, i].tolist(), votes[both, j].tolist())
        kappas[f"{left} ~ {right}"] = None if np.isnan(kappa) else kappa
    return kappas


@dataclass(frozen=True)
class Reliability:
    """Estimated error rates of the judges."""

    prevalence: float
    """Share of relevant pairs."""
    sensitivity: Mapping[str, float]
    specificity: Mapping[str, float]
    relevant: tuple[float, ...]
    """Probability that each pair is relevant, in the order of the pairs."""


def estimate_reliability(grades: Grades, votes: Floats) -> Reliability | None:
    """Estimate the judges' error rates without known grades, by expectation–maximisation.

    A pair is relevant with probability π. Judge j calls a relevant pair relevant with probability α_j
    (sensitivity), an irrelevant one with 1 − β_j (β_j: specificity). Given the truth, judges are taken to err
    independently: judges that share a blind spot vouch for each other. The start is the share of judges that
    call a pair relevant.

    Args:
        grades: Names the judges.
        votes: Shape (pairs, judges), see `relevance_votes`.

    Returns:
        The estimate, or `None` with fewer than three judges or without votes.

    References:
        Dawid and Skene (1979), doi:10.2307/2346806.
    """
    import numpy as np

    if len(grades.judges) < 3 or not (~np.isnan(votes)).any():
        return None
    given = ~np.isnan(votes)
    yes = np.where(given, votes, 0.0)
    no = np.where(given, 1.0 - votes, 0.0)
    share = yes.sum(axis=1) / np.maximum(given.sum(axis=1), 1)
    relevant = np.where(given.any(axis=1), share, 0.5)
    for _ in range(MAX_ROUNDS):
        prevalence = (relevant.sum() + PRIOR) / (len(relevant) + 2 * PRIOR)
        sensitivity = (relevant @ yes + PRIOR) / (relevant @ given + 2 * PRIOR)
        specificity = ((1 - relevant) @ no + PRIOR) / ((1 - relevant) @ given + 2 * PRIOR)
        for_relevant = yes @ np.log(sensitivity) + no @ np.log(1 - sensitivity)
        for_irrelevant = yes @ np.log(1 - specificity) + no @ np.log(specificity)
        log_relevant = np.log(prevalence) + for_relevant
        log_irrelevant = np.log(1 - prevalence) + for_irrelevant
        updated = 1 / (1 + np.exp(np.clip(log_irrelevant - log_relevant, -700, 700)))
        change = float(np.abs(updated - relevant).max())
        relevant = updated
        if change < TOLERANCE:
            break
    return Reliability(
        float(prevalence),
        dict(zip(grades.judges, map(float, sensitivity), strict=True)),
        dict(zip(grades.judges, map(float, specificity), strict=True)),
        tuple(map(float, relevant)),
    )
