"""Does other evidence help a rule over judges' verdicts? Tried on queries that had no say in the model.

    python benchmarks/relabel_evidence.py [--data FOLDER] [--draws 20] [--rule RULE] [--json]

Rows as in `relabel_quality.py` (TREC DL 2019). A logistic model (ridge 1) predicts "grade 2 or more" from
groups of evidence: the verdicts of two or of four judges, the retrieval ranks of the candidate, the overlap
of its text with the positive and the query, its grades relative to the positive's, and how strict the
judges are on this query. Queries are dealt into 5 folds; model and thresholds come from the other folds:
removal where the rule loses as many of grade 0, promotion where it promotes as many. `chosen` picks the
group by an inner cross-validation. Differences are against the rule on the same queries; 95 % intervals
over queries.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.relabel_quality import (
    BASELINE,
    PROJECT,
    SYSTEM,
    TWO_TIER,
    Bench,
    Pair,
    draw_bench,
    read_pairs,
    recorded_grades,
)
from schemas.tables import derived_seed
from tasks.relabel.graded import DecisionRule
from tasks.relabel.rule_judges import split_words, stem
from tasks.stats.resampling import cluster_bootstrap

FOLDS, RIDGE = 5, 1.0
FOUR = ("umb_gpt4", "bin_gpt4o", "bin_gpt4", "bin_llama32")
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Candidates:
    """Candidates of all rows: `evidence[group]` has one line for each."""

    evidence: Mapping[str, Floats]
    grade: Floats
    query: Floats
    """Number of the query."""
    rule: Sequence[str]
    """What the rule makes of each."""


def verdicts(pair: Pair, judges: Sequence[str]) -> list[float]:
    """Grades as indicators of each step, so that a scale need not be linear; a missing one is 0."""
    found = pair["llm"]
    scale = [float((found.get("umb_gpt4") or 0) >= step) for step in (1, 2, 3)]
    return scale + [float(found.get(j) or 0) for j in judges if j != "umb_gpt4"]


def ranks(pair: Pair, others: Sequence[Pair]) -> list[float]:
    """How many systems have it in their first 50, its best and mean reciprocal rank, and SPLADE's rank."""
    found = list(pair["ranks"].values())
    own = pair["ranks"].get(SYSTEM, 100)
    reciprocal = [1 / r for r in found] or [0.0]
    return [sum(r <= 50 for r in found), max(reciprocal), float(np.mean(reciprocal)), 1 / own, np.log(own)]


def overlap(pair: Pair, positive: Pair) -> list[float]:
    """Shares of words in common with the positive (Jaccard, containment) and with the query; lengths."""
    mine, theirs, asked = (
        {stem(w) for w in split_words(text)} for text in (pair["text"], positive["text"], pair["query"])
    )
    both = len(mine & theirs)
    shares = [both / max(1, len(mine | theirs)), both / max(1, min(len(mine), len(theirs)))]
    held = [len(asked & side) / max(1, len(asked)) for side in (mine, theirs)]
    return [*shares, held[0], held[0] - held[1], np.log(1 + len(mine)), np.log(1 + len(theirs))]


def relative(pair: Pair, positive: Pair) -> list[float]:
    """Grades less those of the positive, and the positive's own."""
    mine, theirs = (np.array(verdicts(p, FOUR)) for p in (pair, positive))
    return [*(mine - theirs), mine.sum() - theirs.sum(), *theirs]


def calibration(pair: Pair, others: Sequence[Pair]) -> list[float]:
    """What the judges say of the row's candidates on average, and how far this one is above it."""
    row = np.array([verdicts(p, FOUR) for p in others]).mean(axis=0)
    return [*row, float(np.sum(verdicts(pair, FOUR)) - row.sum())]


def gather_candidates(bench: Bench, text: str) -> Candidates:
    """Every candidate of every row with all its evidence, and what the rule makes of it."""
    rule, grades = DecisionRule.parse(text), recorded_grades(bench, TWO_TIER)
    lines: dict[str, list[list[float]]] = {
        name: [] for name in ("two", "four", "rank", "overlap", "relative", "query")
    }
    grade, query, outcomes = [], [], []
    numbers = {q: i for i, q in enumerate(sorted({row.query_id for row in bench.rows}))}
    for row in bench.rows:
        positive = bench.pairs[row.query_id, row.positives[0].id]
        pairs = [bench.pairs[row.query_id, passage.id] for passage in row.negatives]
        for pair in pairs:
            lines["two"].append(verdicts(pair, TWO_TIER))
            lines["four"].append(verdicts(pair, FOUR))
            lines["rank"].append(ranks(pair, pairs))
            lines["overlap"].append(overlap(pair, positive))
            lines["relative"].append(relative(pair, positive))
            lines["query"].append(calibration(pair, pairs))
            grade.append(pair["human_grade"])
            query.append(numbers[row.query_id])
            outcomes.append(rule.outcome(grades.of(row.query_id, pair["docid"]), grades.scales))
    evidence = {name: np.array(found, dtype=float) for name, found in lines.items()}
    return Candidates(evidence, np.array(grade), np.array(query), outcomes)


MODELS = {
    "two judges": ("two",),
    "four judges": ("four",),
    "two + retrieval rank": ("two", "rank"),
    "two + text overlap": ("two", "overlap"),
    "two + relative to the positive": ("two", "relative"),
    "two + per-query calibration": ("two", "query"),
    "everything": ("four", "rank", "overlap", "relative", "query"),
}


def fit(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """Ridge logistic regression by Newton's method, on standardised columns."""
    mean, spread = x.mean(axis=0), np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)

    def columns(values: Floats) -> Floats:
        return np.column_stack([np.ones(len(values)), (values - mean) / spread])

    a, weights = columns(x), np.zeros(x.shape[1] + 1)
    penalty = RIDGE * np.diag([0.0] + [1.0] * x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-a @ weights))
        step = np.linalg.solve(
            (a * (p * (1 - p))[:, None]).T @ a + penalty + 1e-9 * np.eye(len(weights)),
            a.T @ (y - p) - penalty @ weights,
        )
        weights = weights + step
        if np.abs(step).max() < 1e-8:
            break
    return lambda values: 1 / (1 + np.exp(-columns(values) @ weights))


def folds_of(query: Floats, name: str) -> Floats:
    """The fold of every candidate; a query is in one fold only."""
    numbers = sorted(set(query.tolist()), key=lambda q: derived_seed(name, int(q)))
    fold = {q: i % FOLDS for i, q in enumerate(numbers)}
    return np.array([fold[q] for q in query.tolist()])


def held_out(x: Floats, y: Floats, query: Floats, name: str) -> Floats:
    """Probabilities for every candidate, each from a model that has not seen its query."""
    folds, p = folds_of(query, name), np.zeros(len(y))
    for fold in range(FOLDS):
        p[folds == fold] = fit(x[folds != fold], y[folds != fold])(x[folds == fold])
    return p


def log_loss(p: Floats, y: Floats) -> float:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))


def decide(found: Candidates, groups: Callable[[Floats], Sequence[str]]) -> tuple[Floats, Floats, Floats]:
    """(promoted, removed or promoted, probability), everything held out."""
    y = (found.grade >= 2).astype(float)
    touched = np.array([outcome != "kept" for outcome in found.rule])
    promoted = np.array([outcome == "promoted" for outcome in found.rule])
    folds, up, out, p = folds_of(found.query, "outer"), *(np.zeros(len(y)) for _ in range(3))
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        x = np.hstack([found.evidence[name] for name in groups(train)])
        inner = held_out(x[train], y[train], found.query[train], "inner")
        p[test] = fit(x[train], y[train])(x[test])
        zero = found.grade[train] == 0
        out[test] = p[test] >= threshold(inner[zero], touched[train][zero].mean())
        up[test] = p[test] >= threshold(inner, promoted[train].mean())
    return up, np.maximum(out, up), p


def threshold(values: Floats, share: float) -> float:
    """The value that so large a share reaches."""
    return float(np.quantile(values, 1 - share)) if len(values) else 1.0


def choose(found: Candidates) -> Callable[[Floats], Sequence[str]]:
    """The groups with the lowest log loss in a cross-validation within the training queries."""
    y = (found.grade >= 2).astype(float)

    def chosen(train: Floats) -> Sequence[str]:
        losses = {}
        for name, groups in MODELS.items():
            x = np.hstack([found.evidence[g] for g in groups])[train]
            losses[name] = log_loss(held_out(x, y[train], found.query[train], "choice"), y[train])
        return MODELS[min(losses, key=lambda name: losses[name])]

    return chosen


def cells(found: Candidates, up: Floats, out: Floats) -> Floats:
    """By query: relevant and all promoted; relevant and all left; lost and all of grade 0."""
    relevant, zero = found.grade >= 2, found.grade == 0
    columns = [relevant * up, up, relevant * (1 - out), 1 - out, zero * out, zero]
    return np.array(
        [[float(c[found.query == q].sum()) for c in columns] for q in range(int(found.query.max()) + 1)]
    )


def describe(mine: Floats, base: Floats) -> dict[str, Any]:
    """Three shares with intervals, and how far each is from the two-tier rule's."""
    result = {}
    both = np.hstack([mine, base])
    for i, name in enumerate(("relabel_precision", "false_negative_rate_after", "true_negatives_lost")):
        at = 2 * i

        def share(t: Floats, at: int = at) -> Floats:
            return np.asarray(t[..., at] / np.maximum(t[..., at + 1], 1e-9))

        def gap(t: Floats, at: int = at) -> Floats:
            return share(t, at) - share(t, at + 6)

        for label, statistic in ((name, share), (f"{name}_difference", gap)):
            found = cluster_bootstrap(both, statistic, derived_seed("relabel evidence", name))
            result[label] = {"value": found.value, "low": found.low, "high": found.high}
    return result


def run(data: Path, draws: int, rule: str = BASELINE) -> dict[str, Any]:
    """Every group of evidence against the rule over the same two judges."""
    found = gather_candidates(draw_bench(read_pairs(data / "dl19_pairs.jsonl"), 3, SYSTEM, draws), rule)
    y = (found.grade >= 2).astype(float)
    up = np.array([o == "promoted" for o in found.rule], dtype=float)
    out = np.array([o != "kept" for o in found.rule], dtype=float)
    base = cells(found, up, out)
    lines = {rule: describe(base, base)}
    models: dict[str, Callable[[Floats], Sequence[str]]] = {
        name: (lambda train, groups=groups: groups) for name, groups in MODELS.items()
    }
    for name, groups in {**models, "chosen": choose(found)}.items():
        up, out, p = decide(found, groups)
        lines[name] = describe(cells(found, up, out), base) | {"log_loss": log_loss(p, y)}
    return {"candidates": len(y), "queries": len(base), "models": lines}


def show(result: dict[str, Any]) -> None:
    """The table, for people."""
    print(
        f"{result['queries']} queries, {result['candidates']} candidates; differences are to the first line"
    )
    names = ("relabel_precision", "false_negative_rate_after", "true_negatives_lost")
    print(f"{'':34}{'log loss':>9}" + "".join(f"{n:>44}" for n in names))
    for model, line in result["models"].items():
        loss = f"{line['log_loss']:.3f}" if "log_loss" in line else "–"
        shown = "".join(f"{_cell(line[n]):>20}{_cell(line[n + '_difference'], '+'):>24}" for n in names)
        print(f"{model:34}{loss:>9}{shown}")


def _cell(found: dict[str, float], sign: str = "") -> str:
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.2f}, {found['high']:{sign}.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data" / "retrieval")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--rule", default=BASELINE, help="the operating point to compare at")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.data / "dl19_pairs.jsonl").is_file():
        sys.exit(f"there is no data in {options.data}: name its folder with --data")
    result = run(options.data, options.draws, options.rule)
    print(json.dumps(result)) if options.json else show(result)


if __name__ == "__main__":
    main()
