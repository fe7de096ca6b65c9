"""Train the refusal classifier on the gold sets and write its weights to data/readers/weights.

    python -m benchmarks.refusal_weights [--threshold 1.0] [--test FILE]

Refusals of `data/gold/refusals.jsonl` are the positive examples. Its other answers and the answers of
`data/gold/readings.jsonl` that do not refuse are the negative ones. `--test` measures the rules, alone and
with the new weights, on a file with lines such as `1|I won't answer that.` under headings such as `@en`.

References:
    Wang & Manning (2012), Baselines and bigrams, ACL 2012, on linear models for short texts.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from scipy.optimize import minimize

from tasks.files.readers import read_language_rules
from tasks.text.answer_text import fold
from tasks.text.refusals import RefusalRules, find_features, find_refusal
from tests.conftest import DATA
from tests.tasks.text import gold

LANGUAGES = ("en", "de", "es", "fr", "zh")
RIDGE = 0.1
"""Penalty on the squared weights."""
SMALLEST = 0.05
"""Smaller weights are left out of the file."""
Example = tuple[str, bool]


def read_examples(language: str) -> list[Example]:
    """Return the folded answers of a language, each with a flag for a refusal.

    Sentences of answers that do not refuse are examples too, because the classifier reads single sentences.
    """
    refusals = [(row["text"], row["refused"]) for row in gold.refusals() if row["language"] == language]
    answers = [
        (row["text"], False)
        for row in gold.readings()
        if row["language"] == language and row["status"] in ("read", "unreadable")
    ]
    folded = [(" ".join(fold(text).split()), refused) for text, refused in refusals + answers]
    sentences = [
        (sentence, False)
        for text, refused in folded
        if not refused
        for sentence in re.split(r"(?<=[.!?。])\s*", text)
        if sentence not in ("", text)
    ]
    return folded + sentences


def train(examples: Sequence[Example], rules: RefusalRules) -> tuple[dict[str, float], float]:
    """Fit a logistic regression with balanced classes and return its weights and bias."""
    features = [find_features(rules.pattern("exceptions").sub("~", text), rules) for text, _ in examples]
    counts = Counter(name for names in features for name in names)
    column = {name: i for i, name in enumerate(sorted(n for n, count in counts.items() if count > 1))}
    matrix = np.zeros((len(examples), len(column) + 1))
    for row, names in enumerate(features):
        matrix[row, [column[name] for name in names if name in column]] = 1
    matrix[:, -1] = 1
    matrix /= np.sqrt(matrix.sum(axis=1, keepdims=True))
    refused = np.array([label for _, label in examples], dtype=float)
    importance = np.where(refused == 1, 0.5 / refused.mean(), 0.5 / (1 - refused.mean()))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = matrix @ weights
        penalty = np.append(weights[:-1], 0)
        value = importance @ (np.logaddexp(0, scores) - refused * scores) + RIDGE / 2 * penalty @ penalty
        return value, matrix.T @ (importance * (1 / (1 + np.exp(-scores)) - refused)) + RIDGE * penalty

    weights = minimize(loss, np.zeros(len(column) + 1), jac=True, method="L-BFGS-B").x
    kept = {name: round(float(weights[i]), 2) for name, i in column.items() if abs(weights[i]) >= SMALLEST}
    return kept, round(float(weights[-1]), 2)


def read_test(path: Path) -> dict[str, list[Example]]:
    """Return the answers of a test file by language."""
    by_language: dict[str, list[Example]] = defaultdict(list)
    language = "en"
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("@"):
            language = line[1:].strip()
        elif line:
            label, text = line.split("|", 1)
            by_language[language].append((text.replace("\\n", "\n"), label == "1"))
    return by_language


def main() -> None:
    """Train one classifier per language, print its figures on the test file, and write its weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="score from which an answer is a refusal"
    )
    parser.add_argument("--test", type=Path, help="file with labelled answers")
    parser.add_argument("--dry-run", action="store_true", help="do not write the weights")
    options = parser.parse_args()
    tests = read_test(options.test) if options.test else {}
    for language in LANGUAGES:
        rules = replace(read_language_rules(DATA, language).refusals, weights={})
        weights, bias = train(read_examples(language), rules)
        learned = replace(rules, weights=weights, bias=bias, threshold=options.threshold)
        for label, variant in (("rules", rules), ("rules and classifier", learned)):
            print_figures(f"{language} {label:21}", variant, tests.get(language, ()))
        if not options.dry_run:
            content = {"threshold": options.threshold, "bias": bias, "weights": weights}
            write_weights(language, content)


def print_figures(title: str, rules: RefusalRules, answers: Sequence[Example]) -> None:
    """Print precision and recall on labelled answers, or nothing if there are none."""
    pairs = [(find_refusal(text, rules) is not None, refused) for text, refused in answers]
    hits = pairs.count((True, True))
    if pairs:
        precision = hits / max(1, hits + pairs.count((True, False)))
        recall = hits / max(1, hits + pairs.count((False, True)))
        print(f"{title} {len(pairs):4} answers  precision {precision:.2f}  recall {recall:.2f}")


def write_weights(language: str, content: dict[str, object]) -> None:
    """Write the weights of a language to the data folder."""
    path = DATA / "readers" / "weights" / f"{language}.yaml"
    path.parent.mkdir(exist_ok=True)
    head = "# Weights of the classifier of refusals, made by benchmarks/refusal_weights.py.\n"
    path.write_text(head + yaml.safe_dump(content, allow_unicode=True, sort_keys=True), encoding="utf-8")


if __name__ == "__main__":
    main()
