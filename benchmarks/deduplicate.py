"""Measure recall, cost and growth of near-duplicate detection, compared with all pairs and other libraries.

    python -m benchmarks.deduplicate [--quick | --full] [--json] [--peers PYTHON]

- `recall`: share of the pairs with `ratio` ≥ 90 that lose a text. The pairs come from brute force (with
  --quick, those of 500 texts), at larger sizes from planting. For peers: the share among their candidates.
- `cpu_seconds`: CPU time from input file to output files without imports (best of three). For peers: their
  own calls and the verification of their candidates. `ratio`: CPU time of `cdist` over all pairs, divided by
  this time.
- `exponent`: growth of CPU time with size, between the smallest and the largest size.
- `frames`: texts that share 10, 30 or 60 % of their words with all others, like filled templates.
- `merges_across_slots` and `merges_within_groups`: dropped texts among filled templates, which are similar
  but are not duplicates.

The texts are of two kinds: `words` (invented words by Zipf's law, with edits of words and letters) and
`questions` (English questions that share sentences, with paraphrases and typos).

Sizes: 10 k and 100 k texts, with --quick 10 k and 30 k, with --full up to 1 M. `--peers` names the Python of
an environment that contains the peers. By default they are imported from this environment, and skipped with a
reason if they are missing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.deduplicate_peers import PEERS
from benchmarks.paraphrased_questions import paraphrased_questions
from tasks.deduplicate.file import deduplicate_file
from tasks.text.normalize import normalise_for_match
from tasks.text.similarity import paired_ratios
from tests.material.similar_texts import THRESHOLD, compare_all, families, framed_texts, similar_texts

PEERS_FILE = Path(__file__).with_name("deduplicate_peers.py")
TARGETS: dict[str, tuple[str, float]] = {
    "recall_words": ("at least", 1.0),
    "recall_questions": ("at least", 1.0),
    "recall_at_greater_sizes": ("at least", 0.999),
    "cpu_ratio": ("at least", 40.0),
    "exponent": ("at most", 1.3),
    "frame_exponent": ("at most", 1.2),
    "frame_cdist_share": ("at most", 1.2),
    "frame_recall": ("at least", 0.999),
    "merges_across_slots": ("at most", 0),
    "merges_within_groups": ("at most", 0),
    "seconds_at_1m": ("at most", 120),
    "gb_at_1m": ("at most", 4),
}


def run_deduplication(path: Path) -> dict[str, Any]:
    """Deduplicate in a separate process, so that memory and imports are not shared."""
    command = [sys.executable, "-m", "benchmarks.deduplicate", "--one", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def deduplicate_here(path: Path, *, by_slot: bool = False, by_group: bool = False) -> dict[str, Any]:
    """Deduplicate in this process and return counts, CPU seconds without imports, and peak memory."""
    for name in ("pandas", "pyarrow.dataset", "rapidfuzz.process"):
        importlib.import_module(name)
    started = time.process_time()
    result = deduplicate_file(
        path,
        text="text",
        slots=["slot"] if by_slot else [],
        group="group" if by_group else None,
        threshold=THRESHOLD,
        out=path.with_suffix(""),
    )
    fields = ("rows", "kept", "dropped", "pairs_verified", "seconds")
    return {
        **{name: result[name] for name in fields},
        "cpu_seconds": round(time.process_time() - started, 2),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def measure_project(texts: Sequence[str], folder: Path, *, runs: int) -> tuple[dict[str, Any], list[bool]]:
    """Return the fastest of some runs over the texts, and a flag for each text that is kept."""
    path = folder / "texts.parquet"
    pq.write_table(pa.table({"id": [str(i) for i in range(len(texts))], "text": texts}), path)
    results = [run_deduplication(path) for _ in range(runs)]
    kept = set(pq.read_table(folder / "texts" / "kept.parquet")["id"].to_pylist())
    best = min(results, key=lambda run: float(run["cpu_seconds"]))
    return best, [str(i) in kept for i in range(len(texts))]


def measure_size(count: int, folder: Path) -> dict[str, Any]:
    """Measure cost and the recall of planted pairs at one size."""
    texts, planted = similar_texts(count, seed=count)
    scores = paired_ratios([texts[a] for a, _ in planted], [texts[b] for _, b in planted])
    pairs = {pair for pair, score in zip(planted, scores, strict=True) if score >= THRESHOLD}
    result, kept = measure_project(texts, folder, runs=1)
    return result | measure_recall(pairs, kept)


def measure_recall(pairs: set[tuple[int, int]], kept: Sequence[bool]) -> dict[str, Any]:
    """Return the number of pairs and the share that lost a text."""
    missed = sum(kept[a] and kept[b] for a, b in pairs)
    return {"pairs": len(pairs), "recall": round(1 - missed / max(1, len(pairs)), 6)}


def measure_side_by_side(
    texts: Sequence[str], folder: Path, *, peers: str, sampled: int, runs: int
) -> dict[str, dict[str, Any]]:
    """Measure every method on the same texts: recall against brute force, CPU seconds, ratio to cdist."""
    normalised = [normalise_for_match(text) for text in texts]
    pairs, all_pairs = compare_all(normalised, range(0, len(normalised), max(1, len(normalised) // sampled)))
    result, kept = measure_project(texts, folder, runs=runs)
    methods = {
        "cdist": {"recall": 1.0, "cpu_seconds": round(all_pairs, 2)},
        "counterfoil": result | measure_recall(pairs, kept),
    }
    path = folder / "texts.json"
    path.write_text(json.dumps(normalised), encoding="utf-8")
    for name in PEERS:
        methods[name] = measure_peer(name, path, normalised, pairs, peers)
    for row in methods.values():
        if "cpu_seconds" in row:
            row["ratio"] = round(all_pairs / float(row["cpu_seconds"]), 1)
    return methods


def measure_peer(
    name: str, path: Path, texts: Sequence[str], pairs: set[tuple[int, int]], python: str
) -> dict[str, Any]:
    """Measure a peer and verify its candidates, or return the reason for skipping it."""
    command = [python, str(PEERS_FILE), name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    result = json.loads(done.stdout.splitlines()[-1])
    if "skipped" in result:
        return dict(result)
    started = time.process_time()
    candidates = [(a, b) for a, b in result["pairs"]]
    paired_ratios([texts[a] for a, _ in candidates], [texts[b] for _, b in candidates], cutoff=THRESHOLD)
    seconds = result["cpu_seconds"] + time.process_time() - started
    return {
        "recall": round(len(pairs & set(candidates)) / max(1, len(pairs)), 6),
        "cpu_seconds": round(seconds, 2),
    }


def measure_frames(sizes: Sequence[int], folder: Path) -> dict[str, Any]:
    """Measure texts that share 10, 30 and 60 % of their words with all others.

    Returns:
        By share of words: `exponent` (growth of CPU time with size), `cdist_share` (largest ratio to the CPU
        time of `cdist`), the lowest recall, and the figures of every size.
    """
    frames: dict[str, Any] = {}
    for share in (0.1, 0.3, 0.6):
        rows = {}
        for count in sizes:
            texts, planted = framed_texts(count, share, seed=count)
            normalised = [normalise_for_match(text) for text in texts]
            scores = paired_ratios([normalised[a] for a, _ in planted], [normalised[b] for _, b in planted])
            pairs = {pair for pair, score in zip(planted, scores, strict=True) if score >= THRESHOLD}
            result, kept = measure_project(texts, folder, runs=1)
            _, all_pairs = compare_all(normalised, range(0, count, max(1, count // 200)))
            rows[count] = result | measure_recall(pairs, kept) | {"cdist_seconds": round(all_pairs, 2)}
        seconds = [rows[count]["cpu_seconds"] for count in sizes]
        frames[f"{share:.0%}"] = {
            "sizes": rows,
            "exponent": round(math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0]), 2),
            "cdist_share": round(max(row["cpu_seconds"] / row["cdist_seconds"] for row in rows.values()), 2),
            "recall": min(row["recall"] for row in rows.values()),
        }
    return frames


def measure_guards(folder: Path) -> dict[str, Any]:
    """Measure merges of filled templates, which must not happen if slots or groups are given."""
    texts, slots = families(500, 20)
    groups = [str(i // 20) for i in range(len(texts))]
    path = folder / "families.parquet"
    pq.write_table(pa.table({"text": texts, "slot": slots, "group": groups}), path)
    unguarded = deduplicate_here(path)
    by_slot = deduplicate_here(path, by_slot=True)
    by_group = deduplicate_here(path, by_slot=True, by_group=True)
    return {
        "rows": len(texts),
        "kept_without_guard": unguarded["kept"],
        "merges_across_slots": by_slot["dropped"],
        "merges_within_groups": by_group["dropped"],
    }


def run(peers: str, *, quick: bool, full: bool) -> dict[str, Any]:
    """Run all measurements and compare them with the targets.

    Args:
        peers: Python with the other libraries.
        quick: Measure small sizes only.
        full: Measure up to a million texts.
    """
    sizes = [30_000] if quick else [100_000, 1_000_000] if full else [100_000]
    settings: dict[str, Any] = {
        "peers": peers,
        "sampled": 500 if quick else 10_000,
        "runs": 2 if quick else 3,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words, _ = similar_texts(10_000, seed=10_000)
        questions, _ = paraphrased_questions(2_000 if quick else 10_000, seed=1)
        sets = {
            "words": measure_side_by_side(words, folder, **settings),
            "questions": measure_side_by_side(questions, folder, **settings),
        }
        by_size = {10_000: sets["words"]["counterfoil"]} | {n: measure_size(n, folder) for n in sizes}
        guards = measure_guards(folder)
        frames = measure_frames([2_000, 8_000] if quick else [4_000, 16_000, 64_000], folder)
    least, most = by_size[10_000], by_size[sizes[-1]]
    growth = math.log(most["cpu_seconds"] / least["cpu_seconds"]) / math.log(sizes[-1] / 10_000)
    measured: dict[str, float] = {
        "recall_words": least["recall"],
        "recall_questions": sets["questions"]["counterfoil"]["recall"],
        "recall_at_greater_sizes": min(by_size[n]["recall"] for n in sizes),
        "cpu_ratio": least["ratio"],
        "exponent": round(growth, 2),
        "frame_exponent": max(row["exponent"] for row in frames.values()),
        "frame_cdist_share": max(row["cdist_share"] for row in frames.values()),
        "frame_recall": min(row["recall"] for row in frames.values()),
        "merges_across_slots": guards["merges_across_slots"],
        "merges_within_groups": guards["merges_within_groups"],
    }
    if 1_000_000 in by_size:
        measured |= {"seconds_at_1m": most["seconds"], "gb_at_1m": most["peak_gb"]}
    return {
        "side_by_side": sets,
        "sizes": by_size,
        "guards": guards,
        "frames": frames,
        "targets": compare_with_targets(measured),
    }


def compare_with_targets(measured: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Return each figure with its target, and a flag if it is met."""
    rows = {}
    for name, value in measured.items():
        relation, target = TARGETS[name]
        met = value >= target if relation == "at least" else value <= target
        rows[name] = {"value": value, "target": f"{relation} {target:g}", "met": met}
    return rows


def print_tables(result: dict[str, Any]) -> None:
    """Print the tables of docs/methods.md."""
    print("| texts | method | recall | CPU s | × less than cdist |\n|---|---|---|---|---|")
    for kind, methods in result["side_by_side"].items():
        for name, row in methods.items():
            if "skipped" in row:
                print(f"| {kind} | {name} | skipped: {row['skipped']} | | |")
            else:
                print(
                    f"| {kind} | {name} | {row['recall']:.4f} | {row['cpu_seconds']:.2f} | {row['ratio']} |"
                )
    print("\n| rows | recall | CPU s | seconds | peak GB |\n|---|---|---|---|---|")
    for count, row in result["sizes"].items():
        figures = f"{row['recall']:.5f} | {row['cpu_seconds']} | {row['seconds']} | {row['peak_gb']}"
        print(f"| {count:,} | {figures} |")
    print("\n| frame | rows | recall | pairs verified | CPU s | CPU s of cdist |\n|---|---|---|---|---|---|")
    for share, frame in result["frames"].items():
        for count, row in frame["sizes"].items():
            figures = f"{row['pairs_verified']:,} | {row['cpu_seconds']} | {row['cdist_seconds']}"
            print(f"| {share} | {count:,} | {row['recall']:.4f} | {figures} |")
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    for name, row in result["targets"].items():
        met = "met" if row["met"] else "MISSED"
        print(f"| {name.replace('_', ' ')} | {row['value']} | {row['target']} | {met} |")


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="10,000 and 30,000 texts")
    size.add_argument("--full", action="store_true", help="up to 1,000,000 texts")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="Python with the peers")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(deduplicate_here(options.one)))
        return
    result = run(options.peers, quick=options.quick, full=options.full)
    if options.json:
        print(json.dumps(result))
    else:
        print_tables(result)


if __name__ == "__main__":
    main()
