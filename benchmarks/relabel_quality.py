"""Compare the decision rules of relabelling on recorded verdicts, and the lexical judge, with human grades.

    python benchmarks/relabel_quality.py [--data FOLDER] [--judge MODEL]… [--draws 20] [--json]

TREC DL 2019: the positive is a random passage of grade 3, and the hard negatives are 10 random judged
passages of a system's first 50. There are 20 draws per query. Passages are relevant from grade 2. Intervals
are over queries. NovelEval is used in the same way, with its 20 passages per query. The data is not part of
the project. `--data` gives its folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from schemas.labels import CandidateSet
from schemas.tables import derived_seed
from tasks.files.retrieval_rows import make_passage, make_set
from tasks.models import ModelSettings
from tasks.relabel.cascade import parse_text_verdict
from tasks.relabel.decisions import Policy, Relabelling
from tasks.relabel.graded import DecisionRule, Grades, GradeScale, estimate_reliability, relevance_votes
from tasks.relabel.judges import open_judges
from tasks.relabel.mining import PassagePool, Screen
from tasks.relabel.quality import COUNTED, METRICS, QueryCounts
from tasks.relabel.strategies import screening_step
from tasks.relabel.two_stage import relabel_by_grades, relabel_sets

DATA = PROJECT.parent / "shared" / "data" / "retrieval"
SYSTEM = "SPLADE_P_P_ENSEMBLE_DISTIL"
SCALES = {"umb_gpt4": 3, "bin_gpt4o": 1, "bin_gpt4": 1, "bin_llama32": 1}
OWN_ROW: tuple[str, ...] = ()
"""Positives of other rows. The draws of a query must not know each other's, because users have one row."""
TWO_TIER = ("umb_gpt4", "bin_gpt4o")
BASELINE = "all:top/any:relevant"
RULES_OF_ONE = (BASELINE, "all:top/any:top", "all:relevant/any:relevant", "all:top/any:marginal")
RULES_OF_MANY = (
    BASELINE,
    "all:top/majority:relevant",
    "all:top/all:relevant",
    "all:relevant/any:relevant",
    "all:relevant/all:relevant",
    "majority:relevant/any:relevant",
    "majority:relevant/majority:relevant",
    "any:top/any:relevant",
)

Pair = dict[str, Any]


@dataclass(frozen=True)
class LabelledRows:
    """The rows of a data set with human grades and recorded verdicts of judges."""

    rows: tuple[CandidateSet, ...]
    qrels: dict[tuple[str, str], int]
    pairs: dict[tuple[str, str], Pair]
    relevant_from: int = 2


def read_pairs(path: Path) -> dict[str, list[Pair]]:
    """Read judged pairs by query id."""
    by_query = defaultdict(list)
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            pair = json.loads(line)
            by_query[pair["qid"]].append(pair)
    return dict(by_query)


def draw_rows(by_query: dict[str, list[Pair]], top: int, system: str | None, draws: int) -> LabelledRows:
    """Draw rows for every query with a passage of grade `top`.

    Args:
        by_query: Judged pairs by query id.
        top: Grade of a positive.
        system: Retrieval system with the candidates in its first 50, or `None` for all judged passages.
        draws: Rows per query. A draw depends only on the query and its number.
    """
    rows = []
    for qid, pairs in by_query.items():
        best = sorted((p for p in pairs if p["human_grade"] == top), key=lambda p: p["docid"])
        near = [p for p in pairs if system is None or p["ranks"].get(system, 51) <= 50]
        for draw in range(draws if best else 0):
            rng = random.Random(derived_seed("relabel quality", qid, draw))
            positive = rng.choice(best)
            others = [p for p in near if p["docid"] != positive["docid"]]
            rows.append(_row(positive, rng.sample(others, min(10, len(others)))))
    pairs_by_id = {(p["qid"], p["docid"]): p for found in by_query.values() for p in found}
    return LabelledRows(tuple(rows), {k: p["human_grade"] for k, p in pairs_by_id.items()}, pairs_by_id)


def _row(positive: Pair, negatives: Sequence[Pair]) -> CandidateSet:
    passages = [make_passage(p["text"], given_id=p["docid"]) for p in (positive, *negatives)]
    return make_set(positive["query"], passages[:1], passages[1:], query_id=positive["qid"])


def recorded_grades(bench: LabelledRows, judges: Sequence[str]) -> Grades:
    """Return the recorded verdicts of some judges."""
    by_pair = {
        key: {judge: pair["llm"][judge] for judge in judges if pair["llm"].get(judge) is not None}
        for key, pair in bench.pairs.items()
    }
    return Grades(tuple(judges), {judge: GradeScale.up_to(SCALES[judge]) for judge in judges}, by_pair)


def measure_line(
    bench: LabelledRows, name: str, relabelling: Relabelling, relevant_from: int
) -> dict[str, Any]:
    """Return one line of the table."""
    tally = QueryCounts(bench.qrels, relevant_from)
    tally.add(relabelling.rows)
    counts = relabelling.counts
    left = (counts["kept"] + counts["abstained"]) / max(1, counts["rows"])
    return {
        "rule": name,
        **tally.estimates(),
        "negatives_left": round(left, 2),
        "abstained": counts["abstained"],
    }


def rules_for(judges: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct rules. A binary judge has one, and the majority of two judges is both."""
    if len(judges) > 1:
        return tuple(r for r in RULES_OF_MANY if len(judges) > 2 or "majority" not in r)
    return RULES_OF_ONE if SCALES[judges[0]] > 1 else ("all:relevant/any:relevant",)


def measure_rules(bench: LabelledRows) -> Iterator[dict[str, Any]]:
    """Measure the rules with each judge, each pair of judges, and all four."""
    subsets = [*((j,) for j in SCALES), *combinations(SCALES, 2), tuple(SCALES)]
    for judges in subsets:
        grades = recorded_grades(bench, judges)
        for text in rules_for(judges):
            relabelling = relabel_by_grades(bench.rows, grades, DecisionRule.parse(text), Policy(), OWN_ROW)
            yield measure_line(bench, f"{'+'.join(judges)} {text}", relabelling, relevant_from=2)


def measure_dawid_skene(bench: LabelledRows) -> Iterator[dict[str, Any]]:
    """Measure three and four judges weighed by the model of Dawid and Skene (1979), without gold labels.

    Candidates are promoted from a probability of .95 and removed from .5.
    """
    for judges in (tuple(SCALES)[:3], tuple(SCALES)):
        grades = recorded_grades(bench, judges)
        pairs = sorted({(row.query_id, p.id) for row in bench.rows for p in row.negatives})
        estimate = estimate_reliability(grades, relevance_votes(grades, pairs))
        assert estimate is not None
        relevant = dict(zip(pairs, estimate.relevant, strict=True))
        tally, left = QueryCounts(bench.qrels, 2), 0
        for row in bench.rows:
            for passage in row.negatives:
                p = relevant[row.query_id, passage.id]
                outcome = "promoted" if p >= 0.95 else "removed" if p >= 0.5 else "kept"
                left += outcome == "kept"
                tally.count(row.query_id, bench.qrels[row.query_id, passage.id], outcome)
        yield {
            "rule": f"{'+'.join(judges)} Dawid-Skene",
            **tally.estimates(),
            "negatives_left": round(left / len(bench.rows), 2),
            "abstained": 0,
        }


def measure_screens(bench: LabelledRows) -> list[dict[str, Any]]:
    """Measure the saved calls and the hidden relevant passages of a BM25 screen, at several margins."""
    pool = PassagePool(p for row in bench.rows for p in (*row.positives, *row.negatives))
    grades, lines = recorded_grades(bench, TWO_TIER), []
    for margin in (0.1, 0.25, 0.5, 0.75):
        screen = Screen("bm25", margin, check=0.0)
        relabelling = relabel_by_grades(
            bench.rows,
            grades,
            DecisionRule.parse(BASELINE),
            Policy(),
            OWN_ROW,
            screen=screening_step(screen, pool.score),
        )
        tally = QueryCounts(bench.qrels, 2)
        tally.add(relabelling.rows)
        counts = relabelling.counts
        lines.append(
            {
                "margin": margin,
                "calls_saved": counts["screened_out"] / counts["candidates"],
                **tally.estimates(COUNTED),
            }
        )
    return lines


async def measure_judges(
    bench: LabelledRows, names: Iterable[str], relevant_from: int
) -> list[dict[str, Any]]:
    """Measure the two-stage strategy with the lexical judge and with the named models."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        settings = ModelSettings(
            data_dir=PROJECT / "data", run_dir=Path(folder), cache_path=Path(folder) / "answers.sqlite"
        )
        for name in names:
            async with open_judges((name,), settings, "passage") as (judge,):
                relabelling = await relabel_sets(bench.rows, judge, Policy(), OWN_ROW)
            lines.append(measure_line(bench, f"two_stage {name}", relabelling, relevant_from))
    return lines


def pareto_front(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rules that no other rule beats in both false negatives left and true negatives lost."""
    points = sorted(
        (r["true_negatives_lost"]["value"], r["false_negative_rate_after"]["value"], r["rule"]) for r in lines
    )
    front: list[dict[str, Any]] = []
    for lost, left, rule in points:
        if not front or left < front[-1]["false_negative_rate_after"]:
            front.append({"rule": rule, "true_negatives_lost": lost, "false_negative_rate_after": left})
    return front


def compare_with_rlhn(folder: Path) -> dict[str, Any]:
    """Parse raw verdicts of RLHN from their text and compare them with the recorded flagged queries."""
    by_subset = {}
    for subset in ("fiqa", "msmarco_passage"):
        recorded = set((folder / f"{subset}.stage_1.query_ids.with.false_negatives.txt").read_text().split())
        flagged, abstained, rows = set(), 0, 0
        with (folder / f"{subset}.stage_1.gpt-4o-mini.jsonl").open(encoding="utf-8") as stream:
            for line in stream:
                record = json.loads(line)
                verdict = parse_text_verdict(record["response"], len(record["negative_passages"]))
                rows += 1
                abstained += verdict.abstention is not None
                if verdict.better or verdict.worse:
                    flagged.add(record["query_id"])
        by_subset[subset] = {
            "rows": rows,
            "flagged": len(flagged),
            "recorded": len(recorded),
            "differing": len(flagged ^ recorded),
            "abstained": abstained,
        }
    return by_subset


def run(data: Path, judges: Sequence[str], system: str, draws: int) -> dict[str, Any]:
    """Run all measurements and return them as one JSON-serialisable object."""
    names = ("lexical", *judges)
    dl19 = draw_rows(read_pairs(data / "dl19_pairs.jsonl"), 3, system, draws)
    novel = draw_rows(read_pairs(data / "noveleval_pairs.jsonl"), 2, None, draws)
    lines = [*measure_rules(dl19), *measure_dawid_skene(dl19), *asyncio.run(measure_judges(dl19, names, 2))]
    baseline = f"{'+'.join(TWO_TIER)} {BASELINE}"
    return {
        "dl19": {
            "rows": len(dl19.rows),
            "queries": len({row.query_id for row in dl19.rows}),
            "system": system,
            "baseline": next(line for line in lines if line["rule"] == baseline),
            "rules": lines,
            "trade_off": pareto_front(lines),
            "screens": measure_screens(dl19),
        },
        "noveleval": {"rows": len(novel.rows), "rules": asyncio.run(measure_judges(novel, names, 1))},
        "rlhn": compare_with_rlhn(data / "rlhn"),
    }


def print_tables(result: dict[str, Any]) -> None:
    """Print the results as tables."""
    for name in ("dl19", "noveleval"):
        print(f"\n{name:62} {'precision':>18} {'FN before':>18} {'FN after':>18} {'grade 0 lost':>18}  left")
        for line in result[name]["rules"]:
            cells = " ".join(f"{format_interval(line[metric]):>18}" for metric in METRICS)
            print(f"{line['rule']:62} {cells} {line['negatives_left']:>5}")
    print("\nPareto front on dl19: grade 0 lost, false negatives left")
    for point in result["dl19"]["trade_off"]:
        lost, left = point["true_negatives_lost"], point["false_negative_rate_after"]
        print(f"  {lost:.3f}  {left:.3f}  {point['rule']}")
    print("\nBM25 screen on dl19: margin, calls saved, relevant passages hidden, false negatives left")
    for line in result["dl19"]["screens"]:
        estimates = (line["relevant_screened_out"], line["false_negative_rate_after"])
        cells = "  ".join(format_interval(estimate) for estimate in estimates)
        print(f"  {line['margin']:.2f}  {line['calls_saved']:.3f}  {cells}")
    print("\nRLHN verdicts parsed from text:", json.dumps(result["rlhn"]))


def format_interval(estimate: dict[str, Any], sign: str = "") -> str:
    """Format a value with its interval, if it has one. `sign` is a sign option of format strings."""
    if estimate["value"] is None:
        return "–"
    if estimate["low"] is None:
        return f"{estimate['value']:{sign}.3f} [–]"
    return f"{estimate['value']:{sign}.3f} [{estimate['low']:{sign}.2f}, {estimate['high']:{sign}.2f}]"


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dl19_pairs.jsonl")
    parser.add_argument("--judge", action="append", default=[], help="further judge model (repeatable)")
    parser.add_argument("--system", default=SYSTEM, help="retrieval system of the candidates")
    parser.add_argument("--draws", type=int, default=20, help="rows per query")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if not (options.data / "dl19_pairs.jsonl").is_file():
        sys.exit(f"{options.data} has no dl19_pairs.jsonl. Give its folder with --data.")
    result = run(options.data, options.judge, options.system, options.draws)
    if options.json:
        print(json.dumps(result))
    else:
        print_tables(result)


if __name__ == "__main__":
    main()
