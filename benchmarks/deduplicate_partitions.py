"""Measure partitioned deduplication at ten million rows, process by process.

    python -m benchmarks.deduplicate_partitions --folder DIR [--rows N] [--runner dask|ray|threads|alone]

The texts (invented words by Zipf's law, a fifth of them edits) are generated into the folder, unless they
exist. Then `counterfoil deduplicate` reads them in a separate process. Twice a second, the memory of that
process and of all its descendants and the disk space of the output are measured. Prints one JSON object.
Needs Linux, because it reads /proc. Ten million rows take about ten minutes on two idle cores and about 14 GB
of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.text.similarity import paired_ratios
from tests.material.similar_texts import similar_texts, vocabulary

BLOCK = 250_000
THRESHOLD = 90.0
TEXTS = pa.schema([("id", pa.string()), ("text", pa.string())])
PLANTED = pa.schema([("original", pa.string()), ("edit", pa.string())])


def generate_texts(folder: Path, rows: int) -> tuple[Path, Path]:
    """Write the texts, and the ids of the planted pairs with a `ratio` above the threshold."""
    texts, planted = folder / f"texts-{rows}.parquet", folder / f"planted-{rows}.parquet"
    if planted.exists():
        return texts, planted
    known = vocabulary(30_000, 0)
    with pq.ParquetWriter(texts, TEXTS, compression="zstd") as to, pq.ParquetWriter(planted, PLANTED) as of:
        for start in range(0, rows, BLOCK):
            block, pairs = similar_texts(min(BLOCK, rows - start), seed=start // BLOCK + 1, known=known)
            to.write_table(pa.table([[str(start + i) for i in range(len(block))], block], schema=TEXTS))
            scores = paired_ratios([block[a] for a, _ in pairs], [block[b] for _, b in pairs])
            duplicates = [p for p, score in zip(pairs, scores, strict=True) if score >= THRESHOLD]
            ends = [[str(start + i) for i in side] for side in zip(*duplicates, strict=True)]
            of.write_table(pa.table(ends, schema=PLANTED))
    return texts, planted


def run_watched(command: list[str], folder: Path) -> dict[str, Any]:
    """Run a command. Return its result, peak memory per process, CPU seconds, and peak disk of a folder."""
    started, disk = time.monotonic(), 0
    peaks: dict[int, dict[str, Any]] = {}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        for number, current in processes_below(process.pid).items():
            peak = peaks.setdefault(number, current)
            for name in ("rss_mb", "anonymous_mb", "cpu_seconds"):
                peak[name] = max(peak[name], current[name])
        disk = max(disk, disk_used(folder))
        time.sleep(0.5)
    assert process.stdout is not None
    result = json.loads(process.stdout.read()) if process.returncode == 0 else {}
    largest = sorted(peaks.values(), key=lambda peak: -int(peak["rss_mb"]))[:8]
    return {
        "exit": process.returncode,
        "seconds": round(time.monotonic() - started),
        "disk_gb": round(disk / 1e9, 2),
        "cpu_seconds": round(sum(peak["cpu_seconds"] for peak in peaks.values())),
        "processes": largest,
        **{name: result.get(name) for name in ("rows", "kept", "dropped", "pairs_verified")},
    }


def processes_below(root: int) -> dict[int, dict[str, Any]]:
    """Return memory and CPU time of a process and its descendants, by process id."""
    folders = {int(p.name): p for p in Path("/proc").iterdir() if p.name.isdigit()}
    processes = {number: read for number, p in folders.items() if (read := _read_process(p))}
    tree = {root}
    while children := {n for n, process in processes.items() if process["parent"] in tree} - tree:
        tree |= children
    return {n: processes[n] for n in tree if n in processes}


def _read_process(folder: Path) -> dict[str, Any] | None:
    try:
        lines = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        words = (folder / "cmdline").read_text().split("\0")
        ticks = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
    except (OSError, ValueError):
        return None
    if "VmRSS" not in lines:
        return None
    return {
        "command": " ".join(Path(word).name for word in words[:5]),
        "parent": int(lines["PPid"]),
        "rss_mb": int(lines["VmRSS"].split()[0]) // 1024,
        "anonymous_mb": int(lines["RssAnon"].split()[0]) // 1024,
        "cpu_seconds": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
    }


def disk_used(folder: Path) -> int:
    """Return the bytes on disk of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:  # removed in the meantime
            continue
    return total


def recall(planted: Path, kept: Path) -> float:
    """Return the share of the planted pairs that lost a text."""
    pairs = pq.read_table(planted)
    kept_ids = pq.read_table(kept, columns=["id"])["id"]
    both = pc.and_(pc.is_in(pairs["original"], kept_ids), pc.is_in(pairs["edit"], kept_ids))
    return 1 - float(pc.mean(both.cast(pa.float64())).as_py())


def main() -> None:
    """Generate the texts, deduplicate them, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the texts and the output")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runner", choices=("alone", "threads", "dask", "ray"), default="dask")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    texts, planted = generate_texts(options.folder, options.rows)
    out = options.folder / f"out-{options.rows}-{options.runner}"
    out.mkdir(exist_ok=True)
    counterfoil = str(Path(sys.executable).with_name("counterfoil"))
    command = [counterfoil, "deduplicate", str(texts), "--text", "text", "--json"]
    runner = [] if options.runner == "alone" else ["--runner", options.runner]
    result = run_watched([*command, "--out", str(out), *runner], out)
    if result["exit"] == 0:
        result["recall"] = round(recall(planted, out / "kept.parquet"), 6)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
