"""Compare everything that can decide about hard negatives, on pairs with human grades and recorded verdicts.

    python benchmarks/relabel_judges.py [--pairs FILE]… [--system NAME] [--draws 20] [--quick] [--json]

A file has one pair per line: `qid`, `query`, `docid`, `text`, `human_grade`, `llm` (grade by judge) and
`ranks` (rank by retrieval system), such as TREC DL 2019. Other years are read in the same way, with the
judges that they name. Rows are drawn as in `relabel_quality.py`: a random passage of the top grade is the
positive, and 10 random judged passages of a system's first 50 are the negatives. Passages are relevant from
grade 2.

The best pair of judges is chosen with the truth, on queries that it is not measured on (5 folds): it loses
the fewest true negatives plus false negatives left. `default` is the rule that `counterfoil relabel
--verdicts` uses without `--rule`. The differences between the two are paired. All intervals are over queries.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from benchmarks.relabel_quality import (
    BASELINE,
    DATA,
    OWN_ROW,
    SYSTEM,
    LabelledRows,
    draw_rows,
    format_interval,
    read_pairs,
)
from schemas.tables import derived_seed
from tasks.models import ModelSettings
from tasks.models.sentence_encoder import find_encoder
from tasks.relabel.decisions import Policy, Relabelling, RowPlan, decide_by_rule
from tasks.relabel.graded import DecisionRule, Grades, GradeScale, WeightedVote
from tasks.relabel.judges import open_judges
from tasks.relabel.mining import PassagePool, Screen, screen_candidates
from tasks.relabel.quality import METRICS, QueryCounts
from tasks.relabel.scoring import Score, ScoreWindow, open_scorer, relabel_by_scores, score_rows
from tasks.relabel.two_stage import apply_decision_rule, relabel_sets
from tasks.stats.resampling import cluster_bootstrap

FOLDS = 5
RELEVANT_FROM = 2
LOST, LEFT = METRICS.index("true_negatives_lost"), METRICS.index("false_negative_rate_after")
WINDOWS = {
    "cosine or score below .5": ScoreWindow(max_score=0.5),
    "TopK-PercPos 95 %": ScoreWindow(relative_margin=0.05),
    "TopK-MarginPos .05": ScoreWindow(absolute_margin=0.05),
}


@dataclass(frozen=True)
class Method:
    """One line of the table."""

    name: str
    relabelling: Relabelling
    counts: QueryCounts

    @classmethod
    def of(cls, name: str, relabelling: Relabelling, bench: LabelledRows) -> Method:
        """Count the result of a relabelling."""
        counts = QueryCounts(bench.qrels, RELEVANT_FROM)
        counts.add(relabelling.rows)
        return cls(name, relabelling, counts)

    def describe(self) -> dict[str, Any]:
        """Return the metrics with intervals."""
        return {"method": self.name, **self.counts.estimates()}


def grades_of(bench: LabelledRows, judges: Sequence[str] | None = None) -> Grades:
    """Return the recorded verdicts. A scale ends at the highest grade that a judge gives."""
    given: dict[tuple[str, str], Mapping[str, int]] = {
        key: {judge: grade for judge, grade in pair.get("llm", {}).items() if grade is not None}
        for key, pair in bench.pairs.items()
    }
    tops: dict[str, int] = {}
    for grades in given.values():
        for judge, grade in grades.items():
            tops[judge] = max(tops.get(judge, 1), grade)
    names = tuple(judges or sorted(tops))
    return Grades(names, {judge: GradeScale.up_to(tops[judge]) for judge in names}, given)


def recorded_methods(bench: LabelledRows, plans: Sequence[RowPlan]) -> Iterator[Method]:
    """Measure every judge alone, every pair, the majority and the default of all judges."""
    everybody = grades_of(bench)
    rule = DecisionRule.parse(BASELINE)
    for judge in everybody.judges:
        alone = apply_decision_rule(plans, grades_of(bench, (judge,)), rule, Policy())
        yield Method.of(f"{judge} alone", alone, bench)
    for pair in combinations(everybody.judges, 2):
        both = apply_decision_rule(plans, grades_of(bench, pair), rule, Policy())
        yield Method.of(f"pair {' + '.join(pair)}", both, bench)
    if len(everybody.judges) < 3:
        return
    for name, text in {
        "any of all judges": BASELINE,
        "majority of all judges": "all:top/majority:relevant",
    }.items():
        result = apply_decision_rule(plans, everybody, DecisionRule.parse(text), Policy())
        yield Method.of(name, result, bench)
    vote = WeightedVote.fit(everybody)
    assert vote is not None
    decided = ", ".join(vote.describe()["voters"])
    print(f"default: decided by {decided}; named: {', '.join(vote.down_weighted) or 'none'}", file=sys.stderr)
    yield Method.of("default (weighted)", apply_decision_rule(plans, everybody, vote, Policy()), bench)


async def scored_methods(
    bench: LabelledRows, plans: Sequence[RowPlan], settings: ModelSettings
) -> list[Method]:
    """Measure the judges and scores that need no language model, and a screen before the best judges."""
    methods = []
    async with open_judges(("lexical",), settings, "passage") as (judge,):
        found = await relabel_sets(bench.rows, judge, Policy(), OWN_ROW)
    methods.append(Method.of("lexical, two stages", found, bench))
    pool = PassagePool(p for row in bench.rows for p in (*row.positives, *row.negatives))
    for name in ("bm25", *(["embedding"] if find_encoder() else [])):
        scorer = open_scorer(name, settings, pool.score)
        score = await score_rows(bench.rows, scorer)
        for label, window in WINDOWS.items():
            if name == "bm25" and window.relative_margin is None:
                continue  # BM25 has no fixed scale
            found = relabel_by_scores(plans, score, window, Policy(), name)
            methods.append(Method.of(f"{'MiniLM' if name == 'embedding' else name}, {label}", found, bench))
        methods += _screened(bench, plans, name, score)
    return methods


def _screened(bench: LabelledRows, plans: Sequence[RowPlan], name: str, score: Score) -> list[Method]:
    grades = grades_of(bench)
    vote = WeightedVote.fit(grades)
    if vote is None:
        return []
    screen = Screen(name, 0.25, 0.0)
    found = apply_decision_rule(screen_candidates(plans, screen, score), grades, vote, Policy())
    return [Method.of(f"default after a screen {name}:0.25", found, bench)]


# --- the best pair, chosen on other queries ---------------------------------------------------------------


def cells_of(method: Method, queries: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the counts of a method, shape (queries, 2 · metrics)."""
    empty = [0] * 2 * (len(METRICS) + 1)
    return np.array([method.counts.by_query.get(query, empty) for query in queries], dtype=float)


def best_held_out(
    methods: Sequence[Method], queries: Sequence[str]
) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Choose a method on four fifths of the queries, and measure it on the last fifth.

    Returns:
        The counts by query, and the chosen methods by fold.
    """
    order = sorted(queries, key=lambda query: derived_seed("relabel judges fold", query))
    fold = {query: i % FOLDS for i, query in enumerate(order)}
    of_query = np.array([fold[query] for query in queries])
    tables = [cells_of(method, queries) for method in methods]
    found, chosen = np.zeros_like(tables[0]), []
    for number in range(FOLDS):
        train = of_query != number
        losses = [_share(table[train], LOST) + _share(table[train], LEFT) for table in tables]
        best = int(np.argmin(losses))
        chosen.append(methods[best].name)
        found[~train] = tables[best][~train]
    return found, chosen


def _share(table: np.ndarray[Any, Any], metric: int) -> float:
    hits, total = table[:, 2 * metric].sum(), table[:, 2 * metric + 1].sum()
    return float(hits / total) if total else 1.0


def compare(mine: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the paired differences of two methods in true negatives lost and false negatives left."""
    result = {}
    for metric in (LOST, LEFT):
        at = slice(2 * metric, 2 * metric + 2)
        both = np.hstack([mine[:, at], other[:, at]])

        def gap(totals: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            shares = totals[..., 0::2] / np.maximum(totals[..., 1::2], 1e-9)
            return np.asarray(shares[..., 0] - shares[..., 1])

        found = cluster_bootstrap(both, gap, derived_seed("relabel judges", METRICS[metric]))
        result[METRICS[metric]] = {"value": found.value, "low": found.low, "high": found.high}
    return result


def run(path: Path, system: str | None, draws: int) -> dict[str, Any]:
    """Run all comparisons on one file."""
    by_query = read_pairs(path)
    top = max(pair["human_grade"] for pairs in by_query.values() for pair in pairs)
    known = {name for pairs in by_query.values() for pair in pairs for name in pair.get("ranks", {})}
    system = system if system in known else None
    bench = draw_rows(by_query, top, system, draws)
    plans = decide_by_rule(bench.rows, Policy(), OWN_ROW)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = ModelSettings(
            data_dir=PROJECT / "data", run_dir=home / "run", cache_path=home / "answers.sqlite"
        )
        methods = asyncio.run(scored_methods(bench, plans, settings))
    methods += recorded_methods(bench, plans)
    queries = sorted({row.query_id for row in bench.rows})
    pairs = [method for method in methods if method.name.startswith("pair ")]
    result: dict[str, Any] = {
        "file": path.name,
        "system": system or "all judged passages",
        "rows": len(bench.rows),
        "queries": len(queries),
        "candidates": sum(len(row.negatives) for row in bench.rows),
        "methods": [method.describe() for method in methods],
    }
    default = next((method for method in methods if method.name.startswith("default (")), None)
    if default is not None and pairs:
        best, chosen = best_held_out(pairs, queries)
        result["best_pair"] = chosen
        result["default_minus_best_pair"] = compare(cells_of(default, queries), best)
        majority = next(method for method in methods if method.name.startswith("majority"))
        result["majority_minus_best_pair"] = compare(cells_of(majority, queries), best)
    return result


def print_table(result: Mapping[str, Any]) -> None:
    """Print the results as a table."""
    print(
        f"\n{result['file']}, {result['system']}: {result['queries']} queries, {result['rows']} rows, "
        f"{result['candidates']} candidates"
    )
    print(f"{'':44}{'precision':>19}{'FN before':>19}{'FN after':>19}{'grade 0 lost':>19}")
    for line in result["methods"]:
        print(f"{line['method']:44}" + "".join(f"{format_interval(line[metric]):>19}" for metric in METRICS))
    if "best_pair" in result:
        print(f"best pair by fold: {', '.join(sorted(set(result['best_pair'])))}")
        for name in ("default", "majority"):
            gaps = result[f"{name}_minus_best_pair"]
            cells = "; ".join(f"{metric} {format_interval(gap, '+')}" for metric, gap in gaps.items())
            print(f"{name} minus best pair: {cells}")


def main() -> None:
    """Run the comparison on every file and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, action="append", help="file of pairs (repeatable)")
    parser.add_argument("--system", default=SYSTEM, help="retrieval system of the candidates")
    parser.add_argument("--draws", type=int, default=20, help="rows per query")
    parser.add_argument("--quick", action="store_true", help="two rows per query")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    files = options.pairs or [DATA / "dl19_pairs.jsonl"]
    absent = [str(path) for path in files if not path.is_file()]
    if absent:
        sys.exit(f"{', '.join(absent)} does not exist. Name files with --pairs.")
    results = [run(path, options.system, 2 if options.quick else options.draws) for path in files]
    if options.json:
        print(json.dumps({"files": results}))
    else:
        for result in results:
            print_table(result)


if __name__ == "__main__":
    main()
