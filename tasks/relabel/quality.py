"""Describe and evaluate a relabelling: run statistics, audit sheets, and metrics with known grades.

All figures are sums over rows, so that the parts of a file can be added up.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, TypedDict

from schemas.errors import InputError
from schemas.release import StageCost
from schemas.tables import content_hash
from tasks.files.records import open_text
from tasks.files.tables import cell_error, read_csv_rows, write_csv
from tasks.relabel.decisions import KNOWN_POSITIVE, SCREENED_OUT, RelabelledRow, Relabelling
from tasks.relabel.mining import count_missed, describe_screen

RANKED = ("ranked_above_positive", "evidence_below_positive", "tied_with_positive", "order_flip")
"""Reasons of verdicts that come from a ranking."""
COLUMNS = ("row", "docid", "query", "passage", "answers")
"""Columns of an audit sheet. People fill in the last one."""
ANSWERS = {"yes": 1, "y": 1, "1": 1, "no": 0, "n": 0, "0": 0}
METRICS = (
    "relabel_precision",
    "false_negative_rate_before",
    "false_negative_rate_after",
    "true_negatives_lost",
)
COUNTED = (*METRICS, "relevant_screened_out")
"""The last one is the share of relevant candidates among those that a screen kept from the judges."""

COUNTERS = ("reasons", "flags", "spans", "screen", "judging", "abstentions", "dropped_rows")
"""Counters of `RunStatistics`."""
DROPPING = ("false_negative", "too_few_negatives", "ambiguous")
"""Flags that drop a row."""
EXAMPLES = 20
LONGEST = 300
"""Masked passages that the report names, and characters of each."""

Qrels = Mapping[tuple[str, str], float]
"""Grades of people by (query id, passage id)."""


# --- run statistics ---------------------------------------------------------------------------------------


@dataclass
class RunStatistics:
    """Sums over rows: reasons, flags, lengths of evidence, agreement, the screen, and costs."""

    reasons: Counter[str] = field(default_factory=Counter)
    """Candidates by the first word of their reason."""
    flags: Counter[str] = field(default_factory=Counter)
    spans: Counter[str] = field(default_factory=Counter)
    """Spans of evidence by length in characters."""
    agreement: dict[str, list[int]] = field(default_factory=dict)
    screen: Counter[str] = field(default_factory=Counter)
    costs: dict[str, list[float]] = field(default_factory=dict)
    """By judge: calls, tokens in, tokens out, dollars."""
    judging: Counter[str] = field(default_factory=Counter)
    """Candidates that judges were `asked` about, and those that were `judged`."""
    abstentions: Counter[str] = field(default_factory=Counter)
    """Candidates without a verdict, by reason."""
    dropped_rows: Counter[str] = field(default_factory=Counter)
    """Dropped rows by reason."""
    masked: list[dict[str, str]] = field(default_factory=list)
    """The first negatives that are a positive of the same query elsewhere in the file."""

    @classmethod
    def of(cls, relabelling: Relabelling, costs: Iterable[StageCost] = ()) -> RunStatistics:
        """Return the statistics of some rows."""
        sums = cls(agreement={pair: list(votes) for pair, votes in relabelling.agreement.items()})
        for row in relabelling.rows:
            sums.reasons.update(verdict.reason.split(" ")[0] for verdict in row.verdicts)
            sums.spans.update(str(len(v.evidence)) for v in row.verdicts if v.evidence is not None)
            sums.flags.update(row.flags)
            sums.screen.update(checked=len(row.screen_checked), missed=count_missed(row))
            sums._count_judging(row)
        sums.add_costs(costs)
        return sums

    def add_costs(self, costs: Iterable[StageCost]) -> None:
        """Add the costs of models."""
        for cost in costs:
            spent = [cost.calls, cost.tokens_in, cost.tokens_out, cost.cost_usd]
            before = self.costs.get(cost.model, [0] * 4)
            self.costs[cost.model] = [a + b for a, b in zip(before, spent, strict=True)]

    def _count_judging(self, row: RelabelledRow) -> None:
        if row.after is None:
            self.dropped_rows.update([next((f for f in row.flags if f in DROPPING), "other")])
        for index, (passage, verdict) in enumerate(zip(row.before.negatives, row.verdicts, strict=True)):
            if verdict.reason == KNOWN_POSITIVE and len(self.masked) < EXAMPLES:
                self.masked.append(
                    {"query": row.before.query, "passage_id": passage.id, "passage": passage.text[:LONGEST]}
                )
            if index in row.rule_decided or verdict.reason == "no_positive":
                continue
            is_judged = verdict.outcome != "abstained"
            self.judging.update(asked=1, judged=int(is_judged))
            if not is_judged:
                self.abstentions[verdict.reason] += 1

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RunStatistics:
        """Return the statistics that `to_dict` wrote."""
        counters = {name: Counter(record[name]) for name in COUNTERS}
        return cls(
            **counters,
            agreement=dict(record["agreement"]),
            costs=dict(record["costs"]),
            masked=list(record["masked"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable form."""
        return asdict(self) | {name: dict(getattr(self, name)) for name in COUNTERS}

    def merge(self, other: RunStatistics) -> None:
        """Add the statistics of other rows."""
        for name in COUNTERS:
            getattr(self, name).update(getattr(other, name))
        self.masked = [*self.masked, *other.masked][:EXAMPLES]
        for pair, votes in other.agreement.items():
            own = self.agreement.get(pair, [0] * 4)
            self.agreement[pair] = [a + b for a, b in zip(own, votes, strict=True)]
        for judge, spent in other.costs.items():
            self.costs[judge] = [a + b for a, b in zip(self.costs.get(judge, [0] * 4), spent, strict=True)]

    def describe(self, rows: int) -> dict[str, Any]:
        """Return the section `report` of the result for a run over `rows` rows."""
        return {
            "by_reason": dict(sorted(self.reasons.items())),
            "rows_for_review": self.flags["review"],
            "rows_ambiguous": self.flags["ambiguous"],
            "agreement": {pair: kappa_of_counts(votes) for pair, votes in sorted(self.agreement.items())},
            "evidence_characters": length_quantiles(self.spans),
            "order_flips": {
                "flipped": self.reasons["order_flip"],
                "ranked": sum(self.reasons[reason] for reason in RANKED),
            },
            "cost": {judge: _describe_cost(spent, rows) for judge, spent in sorted(self.costs.items())},
            "screen": describe_screen(
                self.reasons["screened_out"], self.screen["checked"], self.screen["missed"]
            ),
            "judged": self.describe_judging(),
            "known_positives": {"n": self.reasons[KNOWN_POSITIVE], "passages": self.masked},
        }

    def describe_judging(self) -> dict[str, Any]:
        """Return how many candidates judges were asked about, how many got a verdict, and why others not."""
        asked, judged = self.judging["asked"], self.judging["judged"]
        return {
            "asked": asked,
            "judged": judged,
            "share": judged / asked if asked else None,
            "abstentions": dict(sorted(self.abstentions.items())),
        }


def count_agreement(votes: Iterable[Mapping[str, bool | None]]) -> dict[str, tuple[int, int, int, int]]:
    """Count the votes of every two judges, see `Relabelling.agreement`. Abstentions are left out."""
    cells: dict[str, list[int]] = {}
    for vote in votes:
        for left, right in combinations(vote, 2):
            one, other = vote[left], vote[right]
            if one is not None and other is not None:
                cells.setdefault(f"{left} ~ {right}", [0] * 4)[2 * (not one) + (not other)] += 1
    return {pair: (a, b, c, d) for pair, (a, b, c, d) in cells.items()}


def kappa_of_counts(votes: Iterable[int]) -> dict[str, Any]:
    """Return Cohen's kappa of two judges and its cells. Kappa is `None` if no vote varies.

    Args:
        votes: Candidates called relevant by both, only the first, only the second, neither.
    """
    from tasks.stats.agreement import kappa_of_votes

    both, left, right, neither = votes
    kappa = kappa_of_votes(both, left, right, neither)
    return {"kappa": kappa, "both_yes": both, "only_first": left, "only_second": right, "both_no": neither}


def length_quantiles(lengths: Mapping[str, int]) -> dict[str, int | None]:
    """Return number, median, 90th percentile and maximum of lengths with their counts."""
    n, quantiles = sum(lengths.values()), {}
    for name, share in (("median", 0.5), ("p90", 0.9), ("max", 1.0)):
        seen = 0
        for length, count in sorted((int(length), count) for length, count in lengths.items()):
            seen += count
            if seen >= share * n:
                quantiles[name] = length
                break
    return {
        "n": n,
        "median": quantiles.get("median"),
        "p90": quantiles.get("p90"),
        "max": quantiles.get("max"),
    }


def _describe_cost(spent: Iterable[float], rows: int) -> dict[str, float]:
    calls, tokens_in, tokens_out, dollars = spent
    return {
        "calls": calls,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost_usd": round(dollars, 6),
        "calls_per_row": round(calls / max(1, rows), 3),
        "cost_usd_per_row": round(dollars / max(1, rows), 8),
    }


# --- audit sheets -----------------------------------------------------------------------------------------
#
# The sheet does not show the judges' verdicts. The sample depends on the content of the candidates only, so
# that the same file gives the same sheet.


@dataclass(frozen=True, order=True, slots=True)
class AuditLine:
    """One candidate of the audit."""

    draw: str
    """Hash that orders the sample."""
    row: str
    docid: str
    query: str
    passage: str
    judged: int | None
    """1 if the judges called it relevant, else 0. `None`: they abstained."""


def audit_lines(rows: Iterable[RelabelledRow]) -> Iterator[AuditLine]:
    """Yield every candidate that a judge saw."""
    for row in rows:
        for index, (passage, verdict) in enumerate(zip(row.before.negatives, row.verdicts, strict=True)):
            if index in row.rule_decided:
                continue
            judged = {"abstained": None, "kept": int(verdict.evidence is not None)}.get(verdict.outcome, 1)
            draw = content_hash(["audit", row.before.id, passage.id])
            yield AuditLine(draw, row.before.id, passage.id, row.before.query, passage.text, judged)


def sample_lines(lines: Iterable[AuditLine], count: int) -> list[AuditLine]:
    """Sample the lines with the smallest hashes. A sample of several samples equals a sample of all lines."""
    return heapq.nsmallest(count, lines)


def write_audit_sheet(path: Path, lines: Iterable[AuditLine]) -> None:
    """Write a CSV file with an empty column `answers`, to fill in with yes or no."""
    rows = ((line.row, line.docid, line.query, line.passage, "") for line in lines)
    write_csv(path, COLUMNS, (dict(zip(COLUMNS, row, strict=True)) for row in rows))


def read_audit_sheet(path: Path) -> dict[tuple[str, str], int]:
    """Return people's answers (1 yes, 0 no) by (row, docid). Lines without an answer are skipped.

    Raises:
        InputError: If an answer is neither yes nor no, or if a candidate has both.
    """
    answers: dict[tuple[str, str], int] = {}
    for place, record in read_csv_rows(path, COLUMNS, escaped=True):
        answer = record["answers"].strip().lower()
        if not answer:
            continue
        if answer not in ANSWERS:
            raise cell_error(place, "answers", answer, "write yes or no")
        key = (record["row"], record["docid"])
        if answers.setdefault(key, ANSWERS[answer]) != ANSWERS[answer]:
            raise InputError(f"{key[1]!r} is answered yes and no", place=place, hint="keep one line")
    return answers


def agreement_with_people(
    lines: Iterable[AuditLine], answers: Mapping[tuple[str, str], int]
) -> dict[str, Any]:
    """Return Cohen's kappa and the share of equal answers. Abstentions of the judges are counted apart."""
    from tasks.stats.agreement import weighted_kappa

    both = [
        (line.judged, answers[line.row, line.docid]) for line in lines if (line.row, line.docid) in answers
    ]
    decided = [(judged, human) for judged, human in both if judged is not None]
    kappa = weighted_kappa([j for j, _ in decided], [h for _, h in decided]) if decided else float("nan")
    return {
        "kappa": None if kappa != kappa else kappa,
        "agreement": sum(j == h for j, h in decided) / len(decided) if decided else None,
        "n": len(decided),
        "abstained": len(both) - len(decided),
    }


# --- metrics with known grades ----------------------------------------------------------------------------
#
# `relabel_precision`: share of relevant candidates among the promoted. `false_negative_rate_before`,
# `_after`: share of relevant candidates among the hard negatives, before and after. `true_negatives_lost`:
# share of the candidates with grade 0 or below that were promoted or removed, the hidden cost. Candidates
# without a grade are left out. Queries are the clusters of the intervals.


class ShareEstimate(TypedDict):
    """A share with its 95 % interval and denominator `n`. With `n` = 0 the others are `None`."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass
class QueryCounts:
    """Counts by query: for each of `COUNTED`, hits and denominator."""

    qrels: Qrels
    relevant_from: int = 2
    by_query: dict[str, list[int]] = field(default_factory=dict)

    def add(self, rows: Iterable[RelabelledRow]) -> None:
        """Count the candidates of some rows. Those of a dropped row count as removed."""
        for row in rows:
            for passage, verdict in zip(row.before.negatives, row.verdicts, strict=True):
                grade = self.qrels.get((row.before.query_id, passage.id))
                if grade is not None:
                    outcome = "removed" if row.after is None else verdict.outcome
                    self.count(row.before.query_id, grade, outcome, verdict.reason == SCREENED_OUT)

    def count(self, query_id: str, grade: float, outcome: str, screened: bool = False) -> None:
        """Count one candidate with a known grade."""
        cells = self.by_query.setdefault(query_id, [0] * 2 * len(COUNTED))
        relevant, left = grade >= self.relevant_from, outcome in ("kept", "abstained")
        for metric, hit, in_denominator in (
            (0, relevant, outcome == "promoted"),
            (1, relevant, True),
            (2, relevant, left),
            (3, not left, grade <= 0),
            (4, relevant, screened),
        ):
            cells[2 * metric] += hit and in_denominator
            cells[2 * metric + 1] += in_denominator

    def merge(self, by_query: Mapping[str, Sequence[int]]) -> None:
        """Add the counts of other rows."""
        for query_id, cells in by_query.items():
            own = self.by_query.setdefault(query_id, [0] * 2 * len(COUNTED))
            self.by_query[query_id] = [a + b for a, b in zip(own, cells, strict=True)]

    def estimates(self, names: Sequence[str] = METRICS) -> dict[str, ShareEstimate]:
        """Return the named metrics with intervals."""
        from tasks.stats.intervals import SHARE_BOUNDS, mean_interval

        cells = [self.by_query[query] for query in sorted(self.by_query)]
        estimates: dict[str, ShareEstimate] = {}
        for name in names:
            i = COUNTED.index(name)
            pairs = [row[2 * i : 2 * i + 2] for row in cells if row[2 * i + 1]]
            totals = [total for _, total in pairs]
            n = sum(totals)
            if n == 0:
                estimates[name] = {"value": None, "low": None, "high": None, "n": 0}
                continue
            shares = [hits / total for hits, total in pairs]
            interval = mean_interval(shares, weights=totals, bounds=SHARE_BOUNDS)
            estimates[name] = {"value": interval.value, "low": interval.low, "high": interval.high, "n": n}
        return estimates


def read_qrels(path: Path) -> dict[tuple[str, str], float]:
    """Read grades by (query id, passage id). Ids are kept as they are.

    Args:
        path: TREC qrels (`qid 0 docid grade`), or BEIR's (`query-id corpus-id score`), with tabs or spaces,
            with or without a header.

    Raises:
        InputError: If a line is invalid, if a pair has two grades, or if it is a run file.
    """
    qrels: dict[tuple[str, str], float] = {}
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            text, place = line.rstrip("\r\n"), f"{path}:{number}"
            cells = text.split("\t") if "\t" in text else text.split()
            if not text.strip() or (number == 1 and _is_header(cells)):
                continue
            pair, grade = _qrels_line(cells, place)
            if qrels.setdefault(pair, grade) != grade:
                raise InputError(
                    f"{pair[1]!r} has the grades {qrels[pair]:g} and {grade:g} for query {pair[0]!r}",
                    place=place,
                    hint="keep one of the two lines",
                )
    return qrels


def _qrels_line(cells: Sequence[str], place: str) -> tuple[tuple[str, str], float]:
    if len(cells) == 6:
        raise InputError(
            "this is a run file (query, Q0, document, rank, score, tag), not qrels",
            place=place,
            hint="give the file with the grades of people; each line is `qid 0 docid grade`",
        )
    grade = _number(cells[-1])
    if len(cells) not in (3, 4) or grade is None:
        raise InputError("not a qrels line", place=place, hint="each line is `qid 0 docid grade`")
    return (cells[0], cells[-2]), int(grade) if grade == int(grade) else grade


def _is_header(cells: Sequence[str]) -> bool:
    return len(cells) in (3, 4) and _number(cells[-1]) is None and cells[0].lower() in _HEADERS


_HEADERS = frozenset(
    ("query-id", "query_id", "queryid", "qid", "query", "topic", "topic_id", "topicid", "q_id", "#qid", "id")
)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def describe_grades(qrels: Qrels, relevant_from: float) -> str | None:
    """Return a warning if no grade of the qrels counts as relevant, otherwise `None`."""
    highest = max(qrels.values(), default=0)
    if highest >= relevant_from or highest <= 0:
        return None
    return (
        f"the highest grade in the truth is {highest:g}, so that nothing is relevant from {relevant_from:g}; "
        f"use --relevant-from {math.ceil(highest):g}"
    )
