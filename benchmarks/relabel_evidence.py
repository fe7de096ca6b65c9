"""Measure if further evidence improves a relabelling rule, on queries outside the training folds.

    python benchmarks/relabel_evidence.py [--data FOLDER] [--draws 20] [--rule RULE] [--json]

The rows are those of `relabel_quality.py` (TREC DL 2019). A logistic model (ridge 1) predicts "grade 2 or
more" from groups of evidence: the verdicts of two or four judges, the retrieval ranks of the candidate, the
overlap of its text with the positive and the query, its grades relative to those of the positive, and the
strictness of the judges on the query. Queries are split into 5 folds. Model and thresholds come from the
other folds. The thresholds remove the same share of grade 0 and promote the same share of candidates as the
rule. `chosen` selects the group by an inner cross-validation. Differences are to the rule on the same
queries, with 95 % intervals over queries.
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
    DATA,
    SYSTEM,
    TWO_TIER,
    LabelledRows,
    Pair,
    draw_rows,
    format_interval,
    read_pairs,
    recorded_grades,
)
from schemas.tables import derived_seed
from tasks.relabel.graded import DecisionRule
from tasks.relabel.rule_judges import split_words, stem
from tasks.stats.intervals import statistic_interval

FOLDS, RIDGE = 5, 1.0
FOUR_JUDGES = ("umb_gpt4", "bin_gpt4o", "bin_gpt4", "bin_llama32")
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Candidates:
    """Candidates of all rows."""

    evidence: Mapping[str, Floats]
    """Shape (n, features) by group of evidence."""
    grade: Floats
    """Human grade per candidate."""
    query: Floats
    """Index of the query per candidate."""
    rule: Sequence[str]
    """Outcome of the rule per candidate."""


def grade_features(pair: Pair, judges: Sequence[str]) -> list[float]:
    """Return grades as one indicator per step, so that scales need not be linear. A missing grade is 0."""
    grades = pair["llm"]
    scale = [float((grades.get("umb_gpt4") or 0) >= step) for step in (1, 2, 3)]
    return scale + [float(grades.get(j) or 0) for j in judges if j != "umb_gpt4"]


def rank_features(pair: Pair, others: Sequence[Pair]) -> list[float]:
    """Return the number of systems with the passage in their first 50, and reciprocal and SPLADE ranks."""
    ranks = list(pair["ranks"].values())
    own = pair["ranks"].get(SYSTEM, 100)
    reciprocal = [1 / r for r in ranks] or [0.0]
    return [sum(r <= 50 for r in ranks), max(reciprocal), float(np.mean(reciprocal)), 1 / own, np.log(own)]


def overlap_features(pair: Pair, positive: Pair) -> list[float]:
    """Return word overlaps with the positive (Jaccard, containment) and with the query, and lengths."""
    mine, theirs, query = (
        {stem(w) for w in split_words(text)} for text in (pair["text"], positive["text"], pair["query"])
    )
    both = len(mine & theirs)
    shares = [both / max(1, len(mine | theirs)), both / max(1, min(len(mine), len(theirs)))]
    covered = [len(query & side) / max(1, len(query)) for side in (mine, theirs)]
    return [*shares, covered[0], covered[0] - covered[1], np.log(1 + len(mine)), np.log(1 + len(theirs))]


def relative_features(pair: Pair, positive: Pair) -> list[float]:
    """Return the grades minus those of the positive, and the grades of the positive."""
    mine, theirs = (np.array(grade_features(p, FOUR_JUDGES)) for p in (pair, positive))
    return [*(mine - theirs), mine.sum() - theirs.sum(), *theirs]


def calibration_features(pair: Pair, others: Sequence[Pair]) -> list[float]:
    """Return the mean grades of the row's candidates, and the difference of this candidate."""
    row = np.array([grade_features(p, FOUR_JUDGES) for p in others]).mean(axis=0)
    return [*row, float(np.sum(grade_features(pair, FOUR_JUDGES)) - row.sum())]


def gather_candidates(bench: LabelledRows, text: str) -> Candidates:
    """Return every candidate of every row with its evidence and the outcome of the rule."""
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
            lines["two"].append(grade_features(pair, TWO_TIER))
            lines["four"].append(grade_features(pair, FOUR_JUDGES))
            lines["rank"].append(rank_features(pair, pairs))
            lines["overlap"].append(overlap_features(pair, positive))
            lines["relative"].append(relative_features(pair, positive))
            lines["query"].append(calibration_features(pair, pairs))
            grade.append(pair["human_grade"])
            query.append(numbers[row.query_id])
            outcomes.append(rule.outcome(grades.of(row.query_id, pair["docid"]), grades.scales))
    evidence = {name: np.array(rows, dtype=float) for name, rows in lines.items()}
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


def fit_logistic(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """Fit a ridge logistic regression by Newton's method, on standardised columns."""
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


def assign_folds(query: Floats, name: str) -> Floats:
    """Return the fold of every candidate. All candidates of a query are in one fold."""
    numbers = sorted(set(query.tolist()), key=lambda q: derived_seed(name, int(q)))
    fold = {q: i % FOLDS for i, q in enumerate(numbers)}
    return np.array([fold[q] for q in query.tolist()])


def predict_held_out(x: Floats, y: Floats, query: Floats, name: str) -> Floats:
    """Return a probability for every candidate from a model that was not trained on its query."""
    folds, p = assign_folds(query, name), np.zeros(len(y))
    for fold in range(FOLDS):
        p[folds == fold] = fit_logistic(x[folds != fold], y[folds != fold])(x[folds == fold])
    return p


def log_loss(p: Floats, y: Floats) -> float:
    """Return the mean negative log likelihood."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))


def decide_held_out(
    candidates: Candidates, groups: Callable[[Floats], Sequence[str]]
) -> tuple[Floats, Floats, Floats]:
    """Decide every candidate with model and thresholds from the other folds.

    Returns:
        Three arrays of shape (n,): promoted, removed or promoted, and probability.
    """
    y = (candidates.grade >= 2).astype(float)
    touched = np.array([outcome != "kept" for outcome in candidates.rule])
    promoted = np.array([outcome == "promoted" for outcome in candidates.rule])
    folds, up, out, p = assign_folds(candidates.query, "outer"), *(np.zeros(len(y)) for _ in range(3))
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        x = np.hstack([candidates.evidence[name] for name in groups(train)])
        inner = predict_held_out(x[train], y[train], candidates.query[train], "inner")
        p[test] = fit_logistic(x[train], y[train])(x[test])
        zero = candidates.grade[train] == 0
        out[test] = p[test] >= score_threshold(inner[zero], touched[train][zero].mean())
        up[test] = p[test] >= score_threshold(inner, promoted[train].mean())
    return up, np.maximum(out, up), p


def score_threshold(values: Floats, share: float) -> float:
    """Return the value that a share of the scores reaches."""
    return float(np.quantile(values, 1 - share)) if len(values) else 1.0


def nested_choice(candidates: Candidates) -> Callable[[Floats], Sequence[str]]:
    """Choose the groups with the lowest log loss in a cross-validation within the training queries."""
    y = (candidates.grade >= 2).astype(float)

    def chosen(train: Floats) -> Sequence[str]:
        losses = {}
        for name, groups in MODELS.items():
            x = np.hstack([candidates.evidence[g] for g in groups])[train]
            losses[name] = log_loss(
                predict_held_out(x, y[train], candidates.query[train], "choice"), y[train]
            )
        return MODELS[min(losses, key=lambda name: losses[name])]

    return chosen


def count_by_query(candidates: Candidates, up: Floats, out: Floats) -> Floats:
    """Count by query, as pairs of numerator and denominator.

    Returns:
        Shape (queries, 6): relevant among promoted, relevant among kept, and lost among grade 0.
    """
    relevant, zero = candidates.grade >= 2, candidates.grade == 0
    columns = [relevant * up, up, relevant * (1 - out), 1 - out, zero * out, zero]
    return np.array(
        [
            [float(c[candidates.query == q].sum()) for c in columns]
            for q in range(int(candidates.query.max()) + 1)
        ]
    )


def describe(mine: Floats, base: Floats) -> dict[str, Any]:
    """Return three shares with intervals, and their differences from those of the rule."""
    result = {}
    both = np.hstack([mine, base])
    for i, name in enumerate(("relabel_precision", "false_negative_rate_after", "true_negatives_lost")):
        at = 2 * i

        def share(t: Floats, at: int = at) -> Floats:
            return np.asarray(t[..., at] / np.maximum(t[..., at + 1], 1e-9))

        def gap(t: Floats, at: int = at) -> Floats:
            return share(t, at) - share(t, at + 6)

        for label, statistic in ((name, share), (f"{name}_difference", gap)):
            found = statistic_interval(both, statistic)
            result[label] = {"value": found.value, "low": found.low, "high": found.high}
    return result


def run(data: Path, draws: int, rule: str = BASELINE) -> dict[str, Any]:
    """Compare every group of evidence with the rule over two judges."""
    candidates = gather_candidates(draw_rows(read_pairs(data / "dl19_pairs.jsonl"), 3, SYSTEM, draws), rule)
    y = (candidates.grade >= 2).astype(float)
    up = np.array([o == "promoted" for o in candidates.rule], dtype=float)
    out = np.array([o != "kept" for o in candidates.rule], dtype=float)
    base = count_by_query(candidates, up, out)
    lines = {rule: describe(base, base)}
    models: dict[str, Callable[[Floats], Sequence[str]]] = {
        name: (lambda train, groups=groups: groups) for name, groups in MODELS.items()
    }
    for name, groups in {**models, "chosen": nested_choice(candidates)}.items():
        up, out, p = decide_held_out(candidates, groups)
        lines[name] = describe(count_by_query(candidates, up, out), base) | {"log_loss": log_loss(p, y)}
    return {"candidates": len(y), "queries": len(base), "models": lines}


def print_table(result: dict[str, Any]) -> None:
    """Print the results as a table."""
    print(f"{result['queries']} queries, {result['candidates']} candidates, differences from the first line")
    names = ("relabel_precision", "false_negative_rate_after", "true_negatives_lost")
    print(f"{'':34}{'log loss':>9}" + "".join(f"{n:>44}" for n in names))
    for model, line in result["models"].items():
        loss = f"{line['log_loss']:.3f}" if "log_loss" in line else "–"
        shares = "".join(
            f"{format_interval(line[n]):>20}{format_interval(line[n + '_difference'], '+'):>24}"
            for n in names
        )
        print(f"{model:34}{loss:>9}{shares}")


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dl19_pairs.jsonl")
    parser.add_argument("--draws", type=int, default=20, help="rows per query")
    parser.add_argument("--rule", default=BASELINE, help="rule to compare with")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if not (options.data / "dl19_pairs.jsonl").is_file():
        sys.exit(f"{options.data} has no dl19_pairs.jsonl. Give its folder with --data.")
    result = run(options.data, options.draws, options.rule)
    print(json.dumps(result)) if options.json else print_table(result)


if __name__ == "__main__":
    main()
