"""Near-duplicates: what is found, what it costs, how it grows; against all pairs with rapidfuzz.

- recall: pairs with `ratio` ≥ 90 of which one goes, over all such pairs (the oracle compares every pair that
  lengths allow at 10 k; at other sizes the planted pairs are looked at);
- cpu_ratio: CPU seconds of `cdist` over all pairs, over ours (file to files, the best of three), at 10 k;
- exponent: of CPU time over size, between the least and the greatest size;
- merges across slots and across groups: templates filled with words, which are alike but no duplicates.

    python -m benchmarks.deduplicate [--quick | --full] [--json]

Sizes: 10 k and 100 k; --quick 10 k and 30 k with a sampled cdist; --full up to 1 M.
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.similar_texts import families, similar_texts
from tasks.deduplicate import deduplicate_file
from tasks.text.similarity import paired_ratios, ratio_matrix

THRESHOLD = 90.0
BLOCK = 500


def matching_pairs(texts: Sequence[str], threshold: float = THRESHOLD) -> set[tuple[int, int]]:
    """Every pair (i < j) with `ratio` ≥ threshold, by brute force. Only pairs are left out whose lengths
    alone forbid a match: ratio ≤ 200 · shorter / (shorter + longer)."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    lengths = np.array([len(texts[i]) for i in order])
    reach = lengths * (2 - threshold / 100) / (threshold / 100) + 1e-9
    until = np.searchsorted(lengths, reach, side="right")
    pairs = set()
    for start in range(0, len(order), BLOCK):
        stop = min(start + BLOCK, len(order))
        rows, window = order[start:stop], order[start : until[stop - 1]]
        scores = ratio_matrix([texts[i] for i in rows], [texts[i] for i in window], cutoff=threshold)
        for a, b in np.argwhere(scores).tolist():
            if b > a:
                pairs.add((min(rows[a], window[b]), max(rows[a], window[b])))
    return pairs


def cdist_seconds(texts: Sequence[str], rows: int) -> float:
    """CPU seconds of cdist over each pair once, from `rows` evenly spread rows with all texts."""
    some = texts[:: max(1, len(texts) // rows)]
    started = time.process_time()
    for start in range(0, len(some), BLOCK):
        ratio_matrix(some[start : start + BLOCK], texts, cutoff=THRESHOLD)
    return (time.process_time() - started) * len(texts) / len(some) / 2


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
    result["cpu_seconds"] = round(time.process_time() - started, 2)
    result["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return result


def measure_size(count: int, folder: Path, *, oracle: bool) -> dict[str, Any]:
    """Recall and cost at one size."""
    texts, planted = similar_texts(count, seed=count)
    path = folder / f"{count}.parquet"
    pq.write_table(pa.table({"id": [str(i) for i in range(count)], "text": texts}), path)
    runs = [run_deduplication(path) for _ in range(3 if oracle else 1)]
    result = min(runs, key=lambda run: float(run["cpu_seconds"]))
    stays = set(pq.read_table(folder / str(count) / "kept.parquet")["id"].to_pylist())
    if oracle:
        pairs = matching_pairs(texts)
    else:
        scores = paired_ratios([texts[a] for a, _ in planted], [texts[b] for _, b in planted])
        pairs = {pair for pair, score in zip(planted, scores, strict=True) if score >= THRESHOLD}
    missed = sum(str(a) in stays and str(b) in stays for a, b in pairs)
    return {
        **{
            key: result[key]
            for key in ("rows", "kept", "pairs_verified", "seconds", "cpu_seconds", "peak_gb")
        },
        "pairs": len(pairs),
        "recall": round(1 - missed / len(pairs), 6),
    }


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
    sizes = [10_000, 30_000] if "--quick" in flags else [10_000, 100_000]
    if "--full" in flags:
        sizes.append(1_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        by_size = {n: measure_size(n, folder, oracle=n == sizes[0]) for n in sizes}
        guards = measure_guards(folder)
    texts, _ = similar_texts(sizes[0], seed=sizes[0])
    all_pairs = cdist_seconds(texts, 1_000 if "--quick" in flags else len(texts))
    least, most = by_size[sizes[0]], by_size[sizes[-1]]
    return {
        "sizes": by_size,
        "cdist_cpu_seconds": round(all_pairs, 2),
        "cpu_ratio": round(all_pairs / least["cpu_seconds"], 1),
        "exponent": round(
            math.log(most["cpu_seconds"] / least["cpu_seconds"]) / math.log(sizes[-1] / sizes[0]), 2
        ),
        **guards,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one_run(Path(sys.argv[2]))))
    else:
        print(json.dumps(main(sys.argv[1:]), indent=None if "--json" in sys.argv else 2))
