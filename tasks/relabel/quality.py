"""A sheet for people: some candidates to label by hand, and how far the judges agree with that.

The sheet does not say what the judges decided. Which candidates are on it depends on their content only, so
that the same file gives the same sheet. Cells that a spreadsheet would take for a formula get an apostrophe.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any, TypedDict

from schemas.errors import InputError
from schemas.release import StageCost
from schemas.tables import content_hash, derived_seed
from tasks.files.records import open_text
from tasks.files.tables import cell_error, read_csv_rows, write_csv
from tasks.relabel.decisions import SCREENED_OUT, RelabelledRow, Relabelling
from tasks.relabel.mining import describe_screen, missed_of

COLUMNS = ("row", "docid", "query", "passage", "answers")
ANSWERS = {"yes": 1, "y": 1, "1": 1, "no": 0, "n": 0, "0": 0}


@dataclass(frozen=True, order=True, slots=True)
class AuditLine:
    """One candidate, and whether the judges took it for an answer (`None`: they abstained)."""

    draw: str
    row: str
    docid: str
    query: str
    passage: str
    judged: int | None


def audit_lines(rows: Iterable[RelabelledRow]) -> Iterator[AuditLine]:
    """Every candidate that a judge had a say in."""
    for row in rows:
        for at, (passage, verdict) in enumerate(zip(row.before.negatives, row.verdicts, strict=True)):
            if at in row.rule_decided:
                continue
            judged = {"abstained": None, "kept": int(verdict.evidence is not None)}.get(verdict.outcome, 1)
            draw = content_hash(["audit", row.before.id, passage.id])
            yield AuditLine(draw, row.before.id, passage.id, row.before.query, passage.text, judged)


def draw_lines(lines: Iterable[AuditLine], count: int) -> list[AuditLine]:
    """A random sample by content: the smallest hashes. Samples of parts can be drawn from again."""
    return heapq.nsmallest(count, lines)


def write_sheet(path: Path, lines: Iterable[AuditLine]) -> None:
    """A CSV with an empty column `answers`, to be filled with yes or no."""
    write_csv(
        path,
        COLUMNS,
        (dict(zip(COLUMNS, (x.row, x.docid, x.query, x.passage, ""), strict=True)) for x in lines),
    )


def read_sheet(path: Path) -> dict[tuple[str, str], int]:
    """Return people's answers (1 yes, 0 no) by (row, docid), without the lines that nobody filled in.

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


def compare_with_people(lines: Iterable[AuditLine], answers: dict[tuple[str, str], int]) -> dict[str, Any]:
    """Cohen's kappa and the share of equal answers; abstentions of the judges are counted apart."""
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


# What a relabelling run has to say for itself: the funnel by reason, how judges agree, what a row costs,
# how long evidence is, how often the order of a ranking decided, what the screen saved and missed.
#
# Everything is a sum over rows, so that parts of a file add up.


RANKED = ("ranked_above_positive", "evidence_below_positive", "tied_with_positive", "order_flip")


@dataclass
class Observed:
    """Sums over rows."""

    reasons: Counter[str] = field(default_factory=Counter)
    """Candidates by the reason of their verdict; `graded …` counts as `graded`."""
    flags: Counter[str] = field(default_factory=Counter)
    spans: Counter[str] = field(default_factory=Counter)
    """Spans of evidence by their length in characters."""
    agreement: dict[str, list[int]] = field(default_factory=dict)
    screen: Counter[str] = field(default_factory=Counter)
    costs: dict[str, list[float]] = field(default_factory=dict)
    """By judge: calls, tokens in, tokens out, dollars."""

    @classmethod
    def of(cls, relabelling: Relabelling, costs: Iterable[StageCost] = ()) -> Observed:
        """What some rows add."""
        found = cls(agreement={pair: list(votes) for pair, votes in relabelling.agreement.items()})
        for row in relabelling.rows:
            found.reasons.update(verdict.reason.split(" ")[0] for verdict in row.verdicts)
            found.spans.update(str(len(v.evidence)) for v in row.verdicts if v.evidence is not None)
            found.flags.update(row.flags)
            found.screen.update(checked=len(row.screen_checked), missed=missed_of(row))
        for cost in costs:
            found.costs[cost.model] = [cost.calls, cost.tokens_in, cost.tokens_out, cost.cost_usd]
        return found

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Observed:
        """Read what `to_dict` wrote."""
        counters = {name: Counter(record[name]) for name in ("reasons", "flags", "spans", "screen")}
        return cls(**counters, agreement=dict(record["agreement"]), costs=dict(record["costs"]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {each.name: dict(getattr(self, each.name)) for each in fields(self)}

    def merge(self, other: Observed) -> None:
        """Add the sums of other rows."""
        for name in ("reasons", "flags", "spans", "screen"):
            getattr(self, name).update(getattr(other, name))
        for pair, votes in other.agreement.items():
            self.agreement[pair] = [
                a + b for a, b in zip(self.agreement.get(pair, [0] * 4), votes, strict=True)
            ]
        for judge, spent in other.costs.items():
            self.costs[judge] = [a + b for a, b in zip(self.costs.get(judge, [0] * 4), spent, strict=True)]

    def describe(self, rows: int) -> dict[str, Any]:
        """The report."""
        return {
            "by_reason": dict(sorted(self.reasons.items())),
            "rows_for_review": self.flags["review"],
            "rows_ambiguous": self.flags["ambiguous"],
            "agreement": {pair: kappa_of(votes) for pair, votes in sorted(self.agreement.items())},
            "evidence_characters": quantiles(self.spans),
            "order_flips": {
                "flipped": self.reasons["order_flip"],
                "ranked": sum(self.reasons[reason] for reason in RANKED),
            },
            "cost": {judge: _cost_of(values, rows) for judge, values in sorted(self.costs.items())},
            "screen": describe_screen(
                self.reasons["screened_out"], self.screen["checked"], self.screen["missed"]
            ),
        }


def agreement_of(votes: Iterable[Mapping[str, bool | None]]) -> dict[str, tuple[int, int, int, int]]:
    """Agreement of every two judges, see `Relabelling.agreement`; abstentions count nowhere."""
    cells: dict[str, list[int]] = {}
    for vote in votes:
        for left, right in combinations(vote, 2):
            one, other = vote[left], vote[right]
            if one is not None and other is not None:
                cells.setdefault(f"{left} ~ {right}", [0] * 4)[2 * (not one) + (not other)] += 1
    return {pair: (a, b, c, d) for pair, (a, b, c, d) in cells.items()}


def kappa_of(votes: Iterable[int]) -> dict[str, Any]:
    """Cohen's kappa of a table of four (yes-yes, yes-no, no-yes, no-no); `None` where nothing varies."""
    from tasks.stats.agreement import kappa_of_votes

    yes, left, right, no = votes
    kappa = kappa_of_votes(yes, left, right, no)
    return {"kappa": kappa, "both_yes": yes, "only_first": left, "only_second": right, "both_no": no}


def quantiles(lengths: Mapping[str, int]) -> dict[str, int | None]:
    """Number, median, ninth decile and maximum of counted lengths."""
    n, found = sum(lengths.values()), {}
    for name, share in (("median", 0.5), ("p90", 0.9), ("max", 1.0)):
        seen = 0
        for length, count in sorted((int(length), count) for length, count in lengths.items()):
            seen += count
            if seen >= share * n:
                found[name] = length
                break
    return {"n": n, "median": found.get("median"), "p90": found.get("p90"), "max": found.get("max")}


def _cost_of(values: Iterable[float], rows: int) -> dict[str, float]:
    calls, tokens_in, tokens_out, dollars = values
    return {
        "calls": calls,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost_usd": round(dollars, 6),
        "calls_per_row": round(calls / max(1, rows), 3),
        "cost_usd_per_row": round(dollars / max(1, rows), 8),
    }


# How good a relabelling is, where human grades are known: four numbers with intervals over queries.
#
# `relabel_precision`: share of the promoted that are relevant. `false_negative_rate_before`, `_after`: share
# of the hard negatives that are relevant, as they came and as they are left. `true_negatives_lost`: share of
# the candidates with grade 0 that were promoted or removed, the hidden cost. Candidates without a grade count
# nowhere. Intervals are percentiles of a bootstrap that draws whole queries.


METRICS = (
    "relabel_precision",
    "false_negative_rate_before",
    "false_negative_rate_after",
    "true_negatives_lost",
)
COUNTED = (*METRICS, "relevant_screened_out")
"""The last is the share of relevant candidates among those that a screen kept from the judges."""


class ShareEstimate(TypedDict):
    """A share with its 95 % interval; `n` is its denominator. All `None` where there was nothing to count."""

    value: float | None
    low: float | None
    high: float | None
    n: int


Qrels = Mapping[tuple[str, str], int]


@dataclass
class QueryCounts:
    """Counts by query: for each metric (hits, of how many)."""

    qrels: Qrels
    relevant_from: int = 2
    by_query: dict[str, list[int]] = field(default_factory=dict)

    def add(self, rows: Iterable[RelabelledRow]) -> None:
        """Count the candidates of some rows. In a dropped row nothing is left, and nothing was promoted."""
        for row in rows:
            for passage, verdict in zip(row.before.negatives, row.verdicts, strict=True):
                grade = self.qrels.get((row.before.query_id, passage.id))
                if grade is not None:
                    outcome = "removed" if row.after is None else verdict.outcome
                    self.count(row.before.query_id, grade, outcome, verdict.reason == SCREENED_OUT)

    def count(self, query_id: str, grade: int, outcome: str, screened: bool = False) -> None:
        """Count one candidate with a known grade."""
        cells = self.by_query.setdefault(query_id, [0] * 2 * len(COUNTED))
        relevant, left = grade >= self.relevant_from, outcome in ("kept", "abstained")
        for metric, hit, counts in (
            (0, relevant, outcome == "promoted"),
            (1, relevant, True),
            (2, relevant, left),
            (3, not left, grade == 0),
            (4, relevant, screened),
        ):
            cells[2 * metric] += hit and counts
            cells[2 * metric + 1] += counts

    def merge(self, by_query: Mapping[str, Sequence[int]]) -> None:
        """Add the counts of other rows."""
        for query_id, cells in by_query.items():
            mine = self.by_query.setdefault(query_id, [0] * 2 * len(COUNTED))
            self.by_query[query_id] = [a + b for a, b in zip(mine, cells, strict=True)]

    def estimates(self, names: Sequence[str] = METRICS) -> dict[str, ShareEstimate]:
        """The four metrics, or those that are named."""
        from tasks.stats.resampling import cluster_bootstrap, ratio_of_sums

        cells = [self.by_query[query] for query in sorted(self.by_query)]
        found: dict[str, ShareEstimate] = {}
        for name in names:
            i = COUNTED.index(name)
            pairs = [row[2 * i : 2 * i + 2] for row in cells]
            n = sum(of for _, of in pairs)
            if n == 0:
                found[name] = {"value": None, "low": None, "high": None, "n": 0}
                continue
            seed = derived_seed("relabel truth", name)
            interval = cluster_bootstrap(pairs, ratio_of_sums, seed)
            found[name] = {"value": interval.value, "low": interval.low, "high": interval.high, "n": n}
        return found


def read_qrels(path: Path) -> dict[tuple[str, str], int]:
    """TREC qrels `qid 0 docid grade`, or BEIR's `query-id corpus-id score` with its header."""
    qrels: dict[tuple[str, str], int] = {}
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            fields = line.split()
            if not fields or (number == 1 and fields[-1] == "score"):
                continue
            try:
                pair, grade = (fields[0], fields[-2]), int(fields[-1])
            except (ValueError, IndexError):
                raise InputError(
                    "not a qrels line", place=f"{path}:{number}", hint="each line is `qid 0 docid grade`"
                ) from None
            if qrels.setdefault(pair, grade) != grade:
                raise InputError(
                    f"{pair[1]!r} has the grades {qrels[pair]} and {grade} for query {pair[0]!r}",
                    place=f"{path}:{number}",
                    hint="keep one of the two lines",
                )
    return qrels
