"""How good a relabelling is, where human grades are known: four numbers with intervals over queries.

`relabel_precision`: share of the promoted that are relevant. `false_negative_rate_before`, `_after`: share
of the hard negatives that are relevant, as they came and as they are left. `true_negatives_lost`: share of
the candidates with grade 0 that were promoted or removed, the hidden cost. Candidates without a grade count
nowhere. Intervals are percentiles of a bootstrap that draws whole queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from schemas.errors import InputError
from schemas.ids import derived_seed
from tasks.formats.text_file import open_text
from tasks.relabelling.changes import RelabelledRow
from tasks.relabelling.rules import SCREENED_OUT

METRICS = (
    "relabel_precision",
    "false_negative_rate_before",
    "false_negative_rate_after",
    "true_negatives_lost",
)
COUNTED = (*METRICS, "relevant_screened_out")
"""The last is the share of relevant candidates among those that a screen kept from the judges."""


class Estimate(TypedDict):
    """A share with its 95 % interval; `n` is its denominator. All `None` where there was nothing to count."""

    value: float | None
    low: float | None
    high: float | None
    n: int


Qrels = Mapping[tuple[str, str], int]


@dataclass
class Tally:
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

    def estimates(self, names: Sequence[str] = METRICS) -> dict[str, Estimate]:
        """The four metrics, or those that are named."""
        from tasks.stats.bootstrap import cluster_bootstrap, ratio_of_sums

        cells = [self.by_query[query] for query in sorted(self.by_query)]
        found: dict[str, Estimate] = {}
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
