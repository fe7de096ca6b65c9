"""How good is relabelling? Every decision rule over recorded verdicts, and the lexical judge, against people.

    python benchmarks/relabel_quality.py [--data FOLDER] [--judge MODEL]… [--draws 20] [--json]

TREC DL 2019: one random passage of grade 3 is the positive, 10 random judged passages of a system's first 50
are the hard negatives; 20 draws; relevant from grade 2; intervals over queries. NovelEval the same way, out
of its 20 passages a query. The data is not part of the project: `--data` says where it is.
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
from tasks.relabel.file import screening_step
from tasks.relabel.graded import DecisionRule, Grades, GradeScale, estimate_reliability, relevance_votes
from tasks.relabel.judges import open_judges
from tasks.relabel.mining import PassagePool, Screen
from tasks.relabel.quality import COUNTED, METRICS, QueryCounts
from tasks.relabel.two_stage import relabel_by_grades, relabel_sets

SYSTEM = "SPLADE_P_P_ENSEMBLE_DISTIL"
SCALES = {"umb_gpt4": 3, "bin_gpt4o": 1, "bin_gpt4": 1, "bin_llama32": 1}
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
class Bench:
    """The rows of a data set, what people said, and what recorded judges said."""

    rows: tuple[CandidateSet, ...]
    qrels: dict[tuple[str, str], int]
    pairs: dict[tuple[str, str], Pair]


def read_pairs(path: Path) -> dict[str, list[Pair]]:
    """Judged pairs by query id."""
    by_query = defaultdict(list)
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            pair = json.loads(line)
            by_query[pair["qid"]].append(pair)
    return dict(by_query)


def draw_bench(by_query: dict[str, list[Pair]], top: int, system: str | None, draws: int) -> Bench:
    """`draws` rows a query that has a passage of grade `top`; a draw depends on query and number only."""
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
    return Bench(tuple(rows), {k: p["human_grade"] for k, p in pairs_by_id.items()}, pairs_by_id)


def _row(positive: Pair, negatives: Sequence[Pair]) -> CandidateSet:
    passages = [make_passage(p["text"], given_id=p["docid"]) for p in (positive, *negatives)]
    return make_set(positive["query"], passages[:1], passages[1:], query_id=positive["qid"])


def recorded_grades(bench: Bench, judges: Sequence[str]) -> Grades:
    """The recorded verdicts of some judges."""
    by_pair = {
        key: {judge: pair["llm"][judge] for judge in judges if pair["llm"].get(judge) is not None}
        for key, pair in bench.pairs.items()
    }
    return Grades(tuple(judges), {judge: GradeScale.up_to(SCALES[judge]) for judge in judges}, by_pair)


def measure(bench: Bench, name: str, relabelling: Relabelling, relevant_from: int) -> dict[str, Any]:
    """One line of the table."""
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
    """The rules that differ: a binary judge has one, and of two judges a majority is both."""
    if len(judges) > 1:
        return tuple(r for r in RULES_OF_MANY if len(judges) > 2 or "majority" not in r)
    return RULES_OF_ONE if SCALES[judges[0]] > 1 else ("all:relevant/any:relevant",)


def every_rule(bench: Bench) -> Iterator[dict[str, Any]]:
    """Each judge by itself, each pair, all four."""
    subsets = [*((j,) for j in SCALES), *combinations(SCALES, 2), tuple(SCALES)]
    for judges in subsets:
        grades = recorded_grades(bench, judges)
        for text in rules_for(judges):
            found = relabel_by_grades(bench.rows, grades, DecisionRule.parse(text), Policy())
            yield measure(bench, f"{'+'.join(judges)} {text}", found, relevant_from=2)


def by_reliability(bench: Bench) -> Iterator[dict[str, Any]]:
    """Three and four judges weighed by what the model of Dawid and Skene makes of them, without gold:
    promoted from a probability of .95, removed from .5."""
    for judges in (tuple(SCALES)[:3], tuple(SCALES)):
        grades = recorded_grades(bench, judges)
        pairs = sorted({(row.query_id, p.id) for row in bench.rows for p in row.negatives})
        found = estimate_reliability(grades, relevance_votes(grades, pairs))
        assert found is not None
        relevant = dict(zip(pairs, found.relevant, strict=True))
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


def screens(bench: Bench) -> list[dict[str, Any]]:
    """What a BM25 screen saves, and how many relevant ones it hides, at several margins."""
    pool = PassagePool(p for row in bench.rows for p in (*row.positives, *row.negatives))
    grades, lines = recorded_grades(bench, TWO_TIER), []
    for margin in (0.1, 0.25, 0.5, 0.75):
        screen = Screen("bm25", margin, check=0.0)
        found = relabel_by_grades(
            bench.rows,
            grades,
            DecisionRule.parse(BASELINE),
            Policy(),
            screen=screening_step(screen, pool),
        )
        tally = QueryCounts(bench.qrels, 2)
        tally.add(found.rows)
        counts = found.counts
        lines.append(
            {
                "margin": margin,
                "calls_saved": counts["screened_out"] / counts["candidates"],
                **tally.estimates(COUNTED),
            }
        )
    return lines


async def by_judges(bench: Bench, names: Iterable[str], relevant_from: int) -> list[dict[str, Any]]:
    """The two-stage strategy with the lexical judge and with models, where some are named."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        settings = ModelSettings(
            data_dir=PROJECT / "data", run_dir=Path(folder), cache_path=Path(folder) / "answers.sqlite"
        )
        for name in names:
            async with open_judges((name,), settings, "passage") as (judge,):
                found = await relabel_sets(bench.rows, judge, Policy())
            lines.append(measure(bench, f"two_stage {name}", found, relevant_from))
    return lines


def trade_off(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rules that no other beats in both: false negatives left and true negatives lost."""
    points = sorted(
        (r["true_negatives_lost"]["value"], r["false_negative_rate_after"]["value"], r["rule"]) for r in lines
    )
    front: list[dict[str, Any]] = []
    for lost, left, rule in points:
        if not front or left < front[-1]["false_negative_rate_after"]:
            front.append({"rule": rule, "true_negatives_lost": lost, "false_negative_rate_after": left})
    return front


def rlhn_agreement(folder: Path) -> dict[str, Any]:
    """Raw verdicts parsed again from their text, against the recorded list of flagged queries."""
    found = {}
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
        found[subset] = {
            "rows": rows,
            "flagged": len(flagged),
            "recorded": len(recorded),
            "differing": len(flagged ^ recorded),
            "abstained": abstained,
        }
    return found


def run(data: Path, judges: Sequence[str], system: str, draws: int) -> dict[str, Any]:
    """Everything, as one JSON-able object."""
    names = ("lexical", *judges)
    dl19 = draw_bench(read_pairs(data / "dl19_pairs.jsonl"), 3, system, draws)
    novel = draw_bench(read_pairs(data / "noveleval_pairs.jsonl"), 2, None, draws)
    lines = [*every_rule(dl19), *by_reliability(dl19), *asyncio.run(by_judges(dl19, names, 2))]
    baseline = f"{'+'.join(TWO_TIER)} {BASELINE}"
    return {
        "dl19": {
            "rows": len(dl19.rows),
            "queries": len({row.query_id for row in dl19.rows}),
            "system": system,
            "baseline": next(line for line in lines if line["rule"] == baseline),
            "rules": lines,
            "trade_off": trade_off(lines),
            "screens": screens(dl19),
        },
        "noveleval": {"rows": len(novel.rows), "rules": asyncio.run(by_judges(novel, names, 1))},
        "rlhn": rlhn_agreement(data / "rlhn"),
    }


def show(result: dict[str, Any]) -> None:
    """The tables, for people."""
    for name in ("dl19", "noveleval"):
        print(f"\n{name:62} {'precision':>18} {'FN before':>18} {'FN after':>18} {'grade 0 lost':>18}  left")
        for line in result[name]["rules"]:
            cells = " ".join(f"{_cell(line[metric]):>18}" for metric in METRICS)
            print(f"{line['rule']:62} {cells} {line['negatives_left']:>5}")
    print("\ntrade-off on dl19: grade 0 lost, false negatives left (nothing is better in both)")
    for point in result["dl19"]["trade_off"]:
        lost, left = point["true_negatives_lost"], point["false_negative_rate_after"]
        print(f"  {lost:.3f}  {left:.3f}  {point['rule']}")
    print("\nBM25 screen on dl19: margin, calls saved, relevant among them, false negatives left")
    for line in result["dl19"]["screens"]:
        hidden, left = line["relevant_screened_out"], line["false_negative_rate_after"]
        print(f"  {line['margin']:.2f}  {line['calls_saved']:.3f}  {_cell(hidden)}  {_cell(left)}")
    print("\nRLHN verdicts parsed from text:", json.dumps(result["rlhn"]))


def _cell(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "–"
    return f"{estimate['value']:.3f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data" / "retrieval")
    parser.add_argument("--judge", action="append", default=[], help="a model, beside the lexical judge")
    parser.add_argument("--system", default=SYSTEM, help="whose first 50 passages are the candidates")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.data / "dl19_pairs.jsonl").is_file():
        sys.exit(f"there is no data in {options.data}: name its folder with --data")
    result = run(options.data, options.judge, options.system, options.draws)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
