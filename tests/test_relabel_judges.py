"""The benchmark of judges runs on any year, and every benchmark can be imported."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.relabel.quality import METRICS
from tests.conftest import PROJECT

WORDS = ("river", "stone", "bread", "cloud", "music", "paper", "glass", "horse")


def test_benchmarks_can_be_imported() -> None:
    names = [f"benchmarks.{path.stem}" for path in sorted((PROJECT / "benchmarks").glob("*.py"))]
    script = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(names) > 30


def write_year(path: Path, judges: dict[str, float], top: int = 3, queries: int = 8) -> Path:
    """Write pairs of another year. A judge is right with its probability."""
    draw = random.Random(5)
    lines = []
    for query in range(queries):
        for number in range(12):
            grade = (0, 0, top, 1, 2, 0)[number % 6] if top > 1 else number % 2
            words = draw.choices(WORDS, k=12)
            given = {
                name: int((grade >= top / 2) == (draw.random() < right)) for name, right in judges.items()
            }
            record = {
                "qid": f"q{query}",
                "query": f"{WORDS[query]} of {words[0]}",
                "docid": f"d{query}.{number}",
            }
            lines.append(record | {"text": " ".join(words), "human_grade": grade, "llm": given, "ranks": {}})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def compare_judges(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark as a command."""
    command = [sys.executable, "benchmarks/relabel_judges.py", "--pairs", str(path), "--draws", "2", *options]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)


def test_a_year_with_four_judges_has_every_line(tmp_path: Path) -> None:
    path = write_year(tmp_path / "year.jsonl", {"a": 0.95, "b": 0.9, "c": 0.7, "d": 0.5})
    done = compare_judges(path, "--json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["files"]
    table: dict[str, dict[str, Any]] = {line["method"]: line for line in result["methods"]}
    assert (result["queries"], result["rows"], result["system"]) == (8, 16, "all judged passages")
    assert {"a alone", "pair a + b", "any of all judges", "majority of all judges"} <= table.keys()
    assert {"lexical, two stages", "bm25, TopK-PercPos 0.05", "default (weighted)"} <= table.keys()
    assert any(name.startswith("bm25, TopK-PercPos, limit chosen (0.") for name in table)
    screened = table["default after the screen bm25:0.1"]
    assert 0 < screened["calls_saved"] < 1
    assert screened["relevant_screened_out"]["n"] > 0
    assert all(line[metric]["n"] >= 0 for line in table.values() for metric in METRICS)
    assert result["auroc"][0]["score"] == "bm25"
    assert result["default_minus_best_pair"].keys() == {"true_negatives_lost", "false_negative_rate_after"}


def test_a_year_with_one_judge_and_binary_grades(tmp_path: Path) -> None:
    path = write_year(tmp_path / "year.jsonl", {"a": 0.9}, top=1)
    refused = compare_judges(path)
    assert refused.returncode == 1
    assert "no passage has grade 2 or more; set --relevant-from" in refused.stderr
    done = compare_judges(path, "--relevant-from", "1")
    assert done.returncode == 0, done.stderr
    assert "a alone" in done.stdout
    assert "default (weighted)" not in done.stdout
    assert "AUROC within queries, bm25: 0." in done.stdout
