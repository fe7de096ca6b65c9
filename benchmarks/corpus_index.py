"""Measure the BM25 index of a corpus: in files, and in memory with bm25s as the peer.

    python -m benchmarks.corpus_index [--sizes 40000,160000] [--queries 50] [--json]

Each index is built in a process of its own over passages of 30 to 80 random words, half of which are among
the 2,000 most frequent. It prints CPU seconds for the index, milliseconds per query (nearest 30), the peak of
anonymous memory (without the pages of mapped files, which the system may drop), and whether both find the
same passages. From the two largest sizes, the memory at 8.8 million passages is extrapolated. Both must be
larger than the 20,000 passages that are indexed at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

KINDS = ("files", "memory")
TARGET = 8_800_000
WORDS, FREQUENT = 200_000, 2_000


def words() -> tuple[list[str], list[str]]:
    """Return all words, and the frequent ones."""
    rng = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    known = ["".join(rng.choices(letters, k=rng.randint(3, 9))) for _ in range(WORDS)]
    return known, known[:FREQUENT]


def passages(count: int) -> Iterator[Any]:
    """Yield passages. Half of their words are frequent."""
    from schemas.labels import Passage

    known, frequent = words()
    rng = random.Random(2)
    for i in range(count):
        half = rng.randint(15, 40)
        yield Passage(id=str(i), text=" ".join([*rng.choices(frequent, k=half), *rng.choices(known, k=half)]))


class PeakMemory:
    """Samples the anonymous memory of this process."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(0.05):
            self.peak_mb = max(self.peak_mb, self._now())

    @staticmethod
    def _now() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

    def stop(self) -> float:
        """Return the peak in MB."""
        self._stopped.set()
        return max(self.peak_mb, self._now())


def measure(kind: str, count: int, queries: int) -> dict[str, Any]:
    """Index passages in this process and search them."""
    from schemas.labels import CandidateSet
    from tasks.relabel.corpus_pool import CorpusPool
    from tasks.relabel.mining import PassagePool

    memory, started = PeakMemory(), time.process_time()
    pool = (CorpusPool if kind == "files" else PassagePool)(passages(count))
    indexed = time.process_time() - started
    rng, known = random.Random(3), words()[1]
    found, began = hashlib.sha256(), time.process_time()
    for i in range(queries):
        query = " ".join(rng.choices(known, k=6))
        row = CandidateSet(id=str(i), query_id=str(i), query=query, positives=(), negatives=())
        found.update(json.dumps([p.id for p in pool.nearest(row, 30)]).encode())
    return {
        "index": kind,
        "passages": count,
        "cpu_s": round(indexed, 2),
        "ms_per_query": round(1000 * (time.process_time() - began) / max(1, queries), 2),
        "peak_mb": round(memory.stop(), 1),
        "found": found.hexdigest(),
    }


def main() -> None:
    """Measure all sizes and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="40000,160000", help="numbers of passages")
    parser.add_argument("--queries", type=int, default=50, help="queries per index")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", choices=KINDS, help="measure one index")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, count, queries = options.one
        print(json.dumps(measure(kind, int(count), int(queries))))
        return
    rows = []
    for count in options.sizes.split(","):
        for kind in (options.only,) if options.only else KINDS:
            command = [sys.executable, __file__, "--one", kind, count, str(options.queries)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    found = {count: {row["found"] for row in rows if row["passages"] == count} for count in _sizes(rows)}
    result = {
        "rows": rows,
        "same_passages": all(len(hashes) == 1 for hashes in found.values()),
        "extrapolated_mb": {kind: extrapolate([r for r in rows if r["index"] == kind]) for kind in KINDS},
    }
    if options.json:
        print(json.dumps(result))
        return
    print("| index | passages | CPU s | ms per query | peak MB |\n|---|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['index']} | {row['passages']:,} | {row['cpu_s']} | {row['ms_per_query']} "
            f"| {row['peak_mb']:,.0f} |"
        )
    print(f"\nsame passages: {result['same_passages']}, MB at {TARGET:,}: {result['extrapolated_mb']}")


def _sizes(rows: list[dict[str, Any]]) -> list[int]:
    return sorted({row["passages"] for row in rows})


def extrapolate(rows: list[dict[str, Any]]) -> float | None:
    """Return the memory at `TARGET` passages, on a straight line through the two largest sizes."""
    if len(rows) < 2:
        return None
    small, large = sorted(rows, key=lambda row: row["passages"])[-2:]
    slope = (large["peak_mb"] - small["peak_mb"]) / (large["passages"] - small["passages"])
    return round(large["peak_mb"] + slope * (TARGET - large["passages"]))


if __name__ == "__main__":
    main()
