"""Compare everything that can decide about hard negatives, on pairs with human grades and recorded verdicts.

    python benchmarks/relabel_judges.py [--pairs FILE]… [--system NAME] [--draws 20] [--quick] [--json]

A file has one pair per line: `qid`, `query`, `docid`, `text`, `human_grade`, `llm` (grade by judge) and
`ranks` (rank by retrieval system), such as TREC DL 2019. Other years are read in the same way, with the
judges that they name. Rows are drawn as in `relabel_quality.py`: a random passage of the top grade is the
positive, and 10 random judged passages of a system's first 50 are the negatives. Passages are relevant from
grade 2 (`--relevant-from`).

The lines without a language model are `lexical`, the packaged sentence encoder (MiniLM) as a judge of
sentences, both as a panel, and BM25 and MiniLM scores with the limits of NV-Retriever (TopK-PercPos and
TopK-MarginPos). `limit chosen` takes the limit from a grid, on queries that it is not measured on (5 folds).
Screens run before the default of all recorded judges.

The best pair of judges is chosen in the same way: it loses the fewest true negatives plus false negatives
left. `default` is the rule that `counterfoil relabel --verdicts` uses without `--rule`. The differences
between the two are paired. All intervals are over queries.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from tasks.models import ModelSettings, sentence_encoder
from tasks.models.sentence_encoder import find_encoder
from tasks.relabel.decisions import Policy, Relabelling, RowPlan, decide_by_rule
from tasks.relabel.graded import DecisionRule, Grades, GradeScale, WeightedVote
from tasks.relabel.judges import open_judges
from tasks.relabel.mining import PassagePool, Screen, screen_candidates
from tasks.relabel.quality import COUNTED, METRICS, QueryCounts
from tasks.relabel.scoring import Score, ScoreWindow, open_scorer, relabel_by_scores, score_rows
from tasks.relabel.two_stage import apply_decision_rule, relabel_with_panel
from tasks.stats.intervals import mean_interval, statistic_interval

FOLDS = 5
LOST, LEFT = METRICS.index("true_negatives_lost"), METRICS.index("false_negative_rate_after")
SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
PERC_POS = {share: ScoreWindow(relative_margin=share) for share in SHARES}
"""TopK-PercPos: at most this share below the positive."""
MARGIN_POS = {share: ScoreWindow(absolute_margin=share) for share in SHARES}
"""TopK-MarginPos. BM25 has no fixed scale, so this is for cosines."""
SCREEN_MARGINS = (0.1, 0.25, 0.5)
ENCODED = 100_000
"""Vectors that the encoder keeps: the draws of a query share passages."""


@dataclass(frozen=True)
class Method:
    """One line of the table."""

    name: str
    counts: QueryCounts
    calls_saved: float = 0.0
    """Share of the candidates that a screen kept from the judges."""

    @classmethod
    def of(cls, name: str, relabelling: Relabelling, bench: LabelledRows) -> Method:
        """Count the result of a relabelling."""
        counts = QueryCounts(bench.qrels, bench.relevant_from)
        counts.add(relabelling.rows)
        screened = relabelling.counts["screened_out"] / max(1, relabelling.counts["candidates"])
        return cls(name, counts, screened)

    def describe(self) -> dict[str, Any]:
        """Return the metrics with intervals. A screen has its savings and losses."""
        line = {"method": self.name, **self.counts.estimates()}
        if self.calls_saved:
            line |= {"calls_saved": self.calls_saved} | self.counts.estimates(COUNTED[-1:])
        return line


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


async def judged_methods(bench: LabelledRows, settings: ModelSettings) -> list[Method]:
    """Measure the judges that need no language model, alone and as a panel."""
    panels = [("lexical",), *([("embedding",), ("lexical", "embedding")] if find_encoder() else [])]
    methods = []
    for names in panels:
        async with open_judges(names, settings, "passage") as judges:
            found = await relabel_with_panel(bench.rows, judges, Policy(), OWN_ROW)
        methods.append(Method.of(f"{' + '.join(names)}, two stages", found, bench))
    return methods


async def scored_methods(
    bench: LabelledRows, plans: Sequence[RowPlan], settings: ModelSettings
) -> tuple[list[Method], list[dict[str, Any]]]:
    """Measure the scores with their limits, and as screens before the default of the recorded judges.

    Returns:
        The methods, and the AUROC of each score within queries.
    """
    pool = PassagePool(p for row in bench.rows for p in (*row.positives, *row.negatives))
    methods, separations = [], []
    for name in ("bm25", *(["embedding"] if find_encoder() else [])):
        label = "MiniLM" if name == "embedding" else name
        score = await score_rows(bench.rows, open_scorer(name, settings, pool.score))
        separations.append({"score": label} | auroc_within_queries(bench, score))
        families = {"TopK-PercPos": PERC_POS} | ({"TopK-MarginPos": MARGIN_POS} if label == "MiniLM" else {})
        for family, windows in families.items():
            by_limit = {
                limit: Method.of(
                    f"{label}, {family} {limit}",
                    relabel_by_scores(plans, score, window, Policy(), name),
                    bench,
                )
                for limit, window in windows.items()
            }
            methods += [
                by_limit[0.05],
                choose_held_out(list(by_limit.values()), f"{label}, {family}, limit chosen"),
            ]
        methods += _screened(bench, plans, name, label, score)
    return methods, separations


def _screened(
    bench: LabelledRows, plans: Sequence[RowPlan], name: str, label: str, score: Score
) -> Iterator[Method]:
    grades = grades_of(bench)
    if not grades.judges:
        return
    rule = WeightedVote.fit(grades) or DecisionRule.parse(BASELINE)
    for margin in SCREEN_MARGINS:
        left = screen_candidates(plans, Screen(name, margin, 0.0), score)
        found = apply_decision_rule(left, grades, rule, Policy())
        yield Method.of(f"default after the screen {label}:{margin}", found, bench)


def auroc_within_queries(bench: LabelledRows, score: Score) -> dict[str, Any]:
    """Return how often a relevant candidate scores higher than another one of its query. Ties count half.

    Every candidate counts once, however many rows have it. The interval of the mean is over queries.
    """
    by_query: dict[str, dict[str, tuple[float, bool]]] = {}
    for row in bench.rows:
        for passage in row.negatives:
            value = score(row.query, passage)
            is_relevant = bench.qrels[row.query_id, passage.id] >= bench.relevant_from
            if value is not None:
                by_query.setdefault(row.query_id, {})[passage.id] = (value, is_relevant)
    found = []
    for scored in by_query.values():
        relevant = np.array([value for value, is_relevant in scored.values() if is_relevant])
        others = np.array([value for value, is_relevant in scored.values() if not is_relevant])
        if len(relevant) and len(others):
            gaps = relevant[:, None] - others[None, :]
            found.append(float(np.mean((gaps > 0) + 0.5 * (gaps == 0))))
    if not found:
        return {"value": None, "low": None, "high": None, "queries": 0}
    interval = mean_interval(found)
    return {"value": interval.value, "low": interval.low, "high": interval.high, "queries": len(found)}


# --- choices on other queries -----------------------------------------------------------------------------


def cells_of(method: Method, queries: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the counts of a method, shape (queries, 2 · counted)."""
    empty = [0] * 2 * len(COUNTED)
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


def choose_held_out(methods: Sequence[Method], name: str) -> Method:
    """Return a method that is chosen on other queries than those that it is measured on."""
    queries = sorted({query for method in methods for query in method.counts.by_query})
    table, chosen = best_held_out(methods, queries)
    counts = QueryCounts(methods[0].counts.qrels, methods[0].counts.relevant_from)
    counts.merge({query: [int(cell) for cell in cells] for query, cells in zip(queries, table, strict=True)})
    limits = sorted({text.rpartition(" ")[2] for text in chosen})
    return Method(f"{name} ({', '.join(limits)})", counts)


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

        found = statistic_interval(both, gap)
        is_equal = bool((mine[:, at] == other[:, at]).all())
        low, high = (0.0, 0.0) if is_equal else (found.low, found.high)
        result[METRICS[metric]] = {"value": found.value, "low": low, "high": high}
    return result


def run(path: Path, system: str | None, draws: int, relevant_from: int = 2) -> dict[str, Any]:
    """Run all comparisons on one file.

    Raises:
        ValueError: If no passage is relevant, or every passage is.
    """
    by_query = read_pairs(path)
    top = max(pair["human_grade"] for pairs in by_query.values() for pair in pairs)
    known = {name for pairs in by_query.values() for pair in pairs for name in pair.get("ranks", {})}
    system = system if system in known else None
    bench = replace(draw_rows(by_query, top, system, draws), relevant_from=relevant_from)
    relevant = {grade >= relevant_from for grade in bench.qrels.values()}
    if len(relevant) < 2:
        kind = "every" if True in relevant else "no"
        raise ValueError(f"{path}: {kind} passage has grade {relevant_from} or more; set --relevant-from")
    sentence_encoder.MAX_KNOWN = ENCODED
    plans = decide_by_rule(bench.rows, Policy(), OWN_ROW)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = ModelSettings(
            data_dir=PROJECT / "data", run_dir=home / "run", cache_path=home / "answers.sqlite"
        )
        methods = asyncio.run(judged_methods(bench, settings))
        scored, separations = asyncio.run(scored_methods(bench, plans, settings))
    methods += [*scored, *recorded_methods(bench, plans)]
    queries = sorted({row.query_id for row in bench.rows})
    pairs = [method for method in methods if method.name.startswith("pair ")]
    result: dict[str, Any] = {
        "file": path.name,
        "system": system or "all judged passages",
        "rows": len(bench.rows),
        "queries": len(queries),
        "candidates": sum(len(row.negatives) for row in bench.rows),
        "auroc": separations,
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
    print(f"{'':54}{'precision':>19}{'FN before':>19}{'FN after':>19}{'grade 0 lost':>19}")
    for line in result["methods"]:
        cells = "".join(f"{format_interval(line[metric]):>19}" for metric in METRICS)
        saved = ""
        if "calls_saved" in line:
            hidden = format_interval(line["relevant_screened_out"])
            saved = f"  calls saved {line['calls_saved']:.3f}, relevant among those {hidden}"
        print(f"{line['method']:54}{cells}{saved}")
    for line in result["auroc"]:
        print(f"AUROC within queries, {line['score']}: {format_interval(line)}")
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
    parser.add_argument("--relevant-from", type=int, default=2, help="lowest grade of a relevant passage")
    parser.add_argument("--draws", type=int, default=20, help="rows per query")
    parser.add_argument("--quick", action="store_true", help="two rows per query")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    files = options.pairs or [DATA / "dl19_pairs.jsonl"]
    absent = [str(path) for path in files if not path.is_file()]
    if absent:
        sys.exit(f"{', '.join(absent)} does not exist. Name files with --pairs.")
    draws = 2 if options.quick else options.draws
    try:
        results = [run(path, options.system, draws, options.relevant_from) for path in files]
    except ValueError as error:
        sys.exit(str(error))
    if options.json:
        print(json.dumps({"files": results}))
    else:
        for result in results:
            print_table(result)


if __name__ == "__main__":
    main()
