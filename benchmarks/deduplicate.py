"""Near-duplicates: what is found, what it costs, how it grows; against all pairs, and beside other libraries.

- `recall`: of all pairs with `ratio` ≥ 90 (found by brute force; with --quick those of 500 texts), the share
  of which one goes; for peers, the share that is among their candidates. At the greater sizes the planted
  pairs are looked at.
- `cpu_seconds`: from file to files (the best of three), without the imports; for peers their own calls and
  the verification of their candidates. `ratio`: those of `cdist` over all pairs, over these.
- `exponent`: of CPU time over size, between the least and the greatest size.
- frames: texts that share 10, 30 or 60 % of their words with all others, as filled templates do.
- merges across slots and within groups: templates filled with words, which are alike but no duplicates.

Two kinds of text: `words` (invented ones by Zipf's law, edited by word and letter) and `questions` (English
ones that share sentences, said again with paraphrase-like edits and typos).

    python -m benchmarks.deduplicate [--quick | --full] [--json] [--peers PYTHON]

Sizes: 10 k and 100 k; --quick 10 k and 30 k; --full up to 1 M. `--peers` names the Python of an environment
that has the peers; without it they are looked for in this one, and skipped with a reason.
"""

from __future__ import annotations

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
    """Deduplicate in a process of its own, so that its memory and its imports are its own."""
    command = [sys.executable, "-m", "benchmarks.deduplicate", "--one", str(path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(answer.stdout))


def one_run(path: Path, flags: Sequence[str] = ()) -> dict[str, Any]:
    """One deduplication and its CPU seconds, without those of importing libraries (`cdist` imports none)."""
    for name in ("pandas", "pyarrow.dataset", "rapidfuzz.process"):
        importlib.import_module(name)
    started = time.process_time()
    result = deduplicate_file(
        path,
        text="text",
        slots=["slot"] if "slots" in flags else [],
        group="group" if "group" in flags else None,
        threshold=THRESHOLD,
        out=path.with_suffix(""),
    )
    shown = ("rows", "kept", "dropped", "pairs_verified", "seconds")
    return {
        **{name: result[name] for name in shown},
        "cpu_seconds": round(time.process_time() - started, 2),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def measure_ours(texts: Sequence[str], folder: Path, *, runs: int) -> tuple[dict[str, Any], list[bool]]:
    """The best of some runs over these texts, and which of them stay."""
    path = folder / "texts.parquet"
    pq.write_table(pa.table({"id": [str(i) for i in range(len(texts))], "text": texts}), path)
    results = [run_deduplication(path) for _ in range(runs)]
    stays = set(pq.read_table(folder / "texts" / "kept.parquet")["id"].to_pylist())
    best = min(results, key=lambda run: float(run["cpu_seconds"]))
    return best, [str(i) in stays for i in range(len(texts))]


def measure_size(count: int, folder: Path) -> dict[str, Any]:
    """Cost at one size, and the recall of planted pairs."""
    texts, planted = similar_texts(count, seed=count)
    scores = paired_ratios([texts[a] for a, _ in planted], [texts[b] for _, b in planted])
    pairs = {pair for pair, score in zip(planted, scores, strict=True) if score >= THRESHOLD}
    result, stays = measure_ours(texts, folder, runs=1)
    return result | recall_of(pairs, stays)


def recall_of(pairs: set[tuple[int, int]], stays: Sequence[bool]) -> dict[str, Any]:
    missed = sum(stays[a] and stays[b] for a, b in pairs)
    return {"pairs": len(pairs), "recall": round(1 - missed / max(1, len(pairs)), 6)}


def measure_side_by_side(
    texts: Sequence[str], folder: Path, *, peers: str, sampled: int, runs: int
) -> dict[str, dict[str, Any]]:
    """Every method over the same texts: recall against brute force, CPU seconds, ratio to cdist."""
    plain = [normalise_for_match(text) for text in texts]
    pairs, all_pairs = compare_all(plain, range(0, len(plain), max(1, len(plain) // sampled)))
    ours, stays = measure_ours(texts, folder, runs=runs)
    found = {
        "cdist": {"recall": 1.0, "cpu_seconds": round(all_pairs, 2)},
        "counterfoil": ours | recall_of(pairs, stays),
    }
    place = folder / "texts.json"
    place.write_text(json.dumps(plain), encoding="utf-8")
    for name in PEERS:
        found[name] = measure_peer(name, place, plain, pairs, peers)
    for row in found.values():
        if "cpu_seconds" in row:
            row["ratio"] = round(all_pairs / float(row["cpu_seconds"]), 1)
    return found


def measure_peer(
    name: str, place: Path, texts: Sequence[str], pairs: set[tuple[int, int]], python: str
) -> dict[str, Any]:
    """What a peer finds, its candidates verified as ours are; or why it was skipped."""
    command = [python, str(PEERS_FILE), name, str(place)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    answer = json.loads(said.stdout.splitlines()[-1])
    if "skipped" in answer:
        return dict(answer)
    started = time.process_time()
    candidates = [(a, b) for a, b in answer["pairs"]]
    paired_ratios([texts[a] for a, _ in candidates], [texts[b] for _, b in candidates], cutoff=THRESHOLD)
    seconds = answer["cpu_seconds"] + time.process_time() - started
    return {
        "recall": round(len(pairs & set(candidates)) / max(1, len(pairs)), 6),
        "cpu_seconds": round(seconds, 2),
    }


def measure_frames(sizes: Sequence[int], folder: Path) -> dict[str, Any]:
    """Measure texts that share a frame with all others: 10, 30 and 60 % of their words.

    `exponent` is that of CPU time over size, `cdist_share` the greatest share of the CPU time of `cdist`.
    """
    found: dict[str, Any] = {}
    for share in (0.1, 0.3, 0.6):
        rows = {}
        for count in sizes:
            texts, planted = framed_texts(count, share, seed=count)
            plain = [normalise_for_match(text) for text in texts]
            scores = paired_ratios([plain[a] for a, _ in planted], [plain[b] for _, b in planted])
            pairs = {pair for pair, score in zip(planted, scores, strict=True) if score >= THRESHOLD}
            result, stays = measure_ours(texts, folder, runs=1)
            _, all_pairs = compare_all(plain, range(0, count, max(1, count // 200)))
            rows[count] = result | recall_of(pairs, stays) | {"cdist_seconds": round(all_pairs, 2)}
        seconds = [rows[count]["cpu_seconds"] for count in sizes]
        found[f"{share:.0%}"] = {
            "sizes": rows,
            "exponent": round(math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0]), 2),
            "cdist_share": round(max(row["cpu_seconds"] / row["cdist_seconds"] for row in rows.values()), 2),
            "recall": min(row["recall"] for row in rows.values()),
        }
    return found


def measure_guards(folder: Path) -> dict[str, Any]:
    """Templates filled with words: no two are duplicates where the slot or the group is looked at."""
    texts, slots = families(500, 20)
    groups = [str(i // 20) for i in range(len(texts))]
    path = folder / "families.parquet"
    pq.write_table(pa.table({"text": texts, "slot": slots, "group": groups}), path)
    unguarded, by_slot, by_group = (one_run(path, f) for f in ((), ("slots",), ("slots", "group")))
    return {
        "rows": len(texts),
        "kept_without_guard": unguarded["kept"],
        "merges_across_slots": by_slot["dropped"],
        "merges_within_groups": by_group["dropped"],
    }


def main(flags: Sequence[str]) -> dict[str, Any]:
    quick = "--quick" in flags
    peers = flags[flags.index("--peers") + 1] if "--peers" in flags else sys.executable
    sizes = [30_000] if quick else [100_000, 1_000_000] if "--full" in flags else [100_000]
    how: dict[str, Any] = {"peers": peers, "sampled": 500 if quick else 10_000, "runs": 2 if quick else 3}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words, _ = similar_texts(10_000, seed=10_000)
        questions, _ = paraphrased_questions(2_000 if quick else 10_000, seed=1)
        sets = {
            "words": measure_side_by_side(words, folder, **how),
            "questions": measure_side_by_side(questions, folder, **how),
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
        "targets": judged(measured),
    }


def judged(measured: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Each figure with its target and whether it is met."""
    found = {}
    for name, value in measured.items():
        relation, target = TARGETS[name]
        met = value >= target if relation == "at least" else value <= target
        found[name] = {"value": value, "target": f"{relation} {target:g}", "met": met}
    return found


def show(result: dict[str, Any]) -> None:
    """The tables that docs/methods.md shows."""
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
    for share, found in result["frames"].items():
        for count, row in found["sizes"].items():
            figures = f"{row['pairs_verified']:,} | {row['cpu_seconds']} | {row['cdist_seconds']}"
            print(f"| {share} | {count:,} | {row['recall']:.4f} | {figures} |")
    print("\n| target | measured | asked | |\n|---|---|---|---|")
    for name, row in result["targets"].items():
        met = "met" if row["met"] else "MISSED"
        print(f"| {name.replace('_', ' ')} | {row['value']} | {row['target']} | {met} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one_run(Path(sys.argv[2]))))
    else:
        outcome = main(sys.argv[1:])
        if "--json" in sys.argv:
            print(json.dumps(outcome))
        else:
            show(outcome)
