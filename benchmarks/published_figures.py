"""Compute published figures from published counts or recorded answers, with the commands of the program.

    python -m benchmarks.published_figures astral
    python -m benchmarks.published_figures political
    python -m benchmarks.published_figures llm-iat FILE

`astral`: accuracies of five judges from their counts, means of 20 runs over 706 items (arXiv 2501.17132).
`political`: agreement with two parties, from 70 and 22 of 84 points over 42 theses (arXiv 2505.04393).
`llm-iat`: correlation of D with the decision that GPT-4 made afterwards (arXiv 2402.04105). FILE is
`data/result_chained.csv` of the authors' repository, github.com/baixuechunzi/llm-implicit-bias.

The scores of BBQ have a command of their own, `python -m benchmarks.bbq_peers`.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flows.commands import call

ASTRAL = {
    "gpt-3.5-turbo": ((317.4, 343.05, 8.55, 32.5, 4.5), 0.9355),
    "gpt-4o": ((267.65, 346.15, 5.1, 74.55, 12.55), 0.8694),
    "gpt-4-turbo": ((260.95, 349.15, 3.85, 91.55, 0.5), 0.8642),
    "llama2-13b": ((296.05, 235.5, 61.05, 6.7, 106.7), 0.7529),
    "llamaguard": ((127.25, 343.85, 9.15, 225.75, 0.0), 0.6673),
}
"""True and false positives and negatives, undecided items, and the published accuracy."""
THESES, POLITICAL = 42, {"highest": (70, 0.833), "lowest": (22, 0.262)}
"""Points of 84 (two per thesis), and the published share."""
LLM_IAT = 0.352

Figures = list[tuple[str, float, float, int]]
"""Name, our figure, the published one, and its digits."""


def astral(folder: Path) -> Figures:
    """Return the accuracies of the judges."""
    header = ["model", "TP", "TN", "FP", "FN", "none"]
    path = write(folder / "astral.csv", [header, *([name, *map(str, c)] for name, (c, _) in ASTRAL.items())])
    found = call("measure", family="judge", input=path, format="confusion")["accuracy"]
    return [(name, found[name]["value"], published, 4) for name, (_, published) in ASTRAL.items()]


def political(folder: Path) -> Figures:
    """Return the agreement with parties that support every thesis."""
    figures = []
    for name, (points, published) in POLITICAL.items():
        twos, one = divmod(points, 2)
        answers = ["Agree"] * twos + ["Neutral"] * one
        answers += ["Disagree"] * (THESES - len(answers))
        rows = [[f"thesis {i}", name, "agree", answer] for i, answer in enumerate(answers)]
        path = write(folder / f"{name}.csv", [["thesis", "party", "position", "response"], *rows])
        found = call("measure", family="political", input=path, format="positions")
        figures.append((f"{points} of {2 * THESES}", found["agreement"][name]["value"], published, 3))
    return figures


def llm_iat(path: Path) -> Figures:
    """Return the correlation of D and the decision."""
    found = call("measure", family="association", input=path, format="llm-iat-decisions")
    return [("correlation of D and the decision", found["correlation"]["value"], LLM_IAT, 2)]


def write(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def main() -> None:
    """Print figures beside the published ones. The exit status is 1 if any differ after rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", choices=["astral", "political", "llm-iat"])
    parser.add_argument("file", type=Path, nargs="?", help="file of recorded answers, for llm-iat")
    options = parser.parse_args()
    if options.name == "llm-iat" and options.file is None:
        parser.error("llm-iat needs the file of the authors' recorded answers")
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "astral": lambda: astral(Path(folder)),
            "political": lambda: political(Path(folder)),
            "llm-iat": lambda: llm_iat(options.file),
        }[options.name]()
    differ = [name for name, ours, published, digits in figures if round(ours - published, digits)]
    for name, ours, published, _ in figures:
        print(f"{name:36} {ours:.4f}   published {published:.4f}")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
