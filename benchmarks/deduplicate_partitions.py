"""Deduplication in parts, on workers of their own: what it takes at ten million rows, process by process.

    python -m benchmarks.deduplicate_partitions --folder DIR [--rows N] [--runner dask|ray|threads|alone]

The texts (invented words by Zipf's law, a fifth of them edits) are generated into the folder block by block,
where they are not there yet. Then `counterfoil deduplicate` runs over them in a process of its own, while the
memory of it and of every process below it, and the disk that it takes, are looked at twice a second. Prints
one JSON object. Linux only (it reads /proc); ten million rows take some ten minutes of two idle cores and
about 14 GB of disk.
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


def generate(folder: Path, rows: int) -> tuple[Path, Path]:
    """The texts, and the planted pairs of which the `ratio` is high enough, by their ids."""
    texts, planted = folder / f"texts-{rows}.parquet", folder / f"planted-{rows}.parquet"
    if planted.exists():
        return texts, planted
    known = vocabulary(30_000, 0)
    with pq.ParquetWriter(texts, TEXTS, compression="zstd") as to, pq.ParquetWriter(planted, PLANTED) as of:
        for start in range(0, rows, BLOCK):
            block, pairs = similar_texts(min(BLOCK, rows - start), seed=start // BLOCK + 1, known=known)
            to.write_table(pa.table([[str(start + i) for i in range(len(block))], block], schema=TEXTS))
            scores = paired_ratios([block[a] for a, _ in pairs], [block[b] for _, b in pairs])
            alike = [p for p, score in zip(pairs, scores, strict=True) if score >= THRESHOLD]
            ends = [[str(start + i) for i in side] for side in zip(*alike, strict=True)]
            of.write_table(pa.table(ends, schema=PLANTED))
    return texts, planted


def watch(command: list[str], place: Path) -> dict[str, Any]:
    """Run a command; the peak memory of every process below it, CPU seconds, and peak disk in a folder."""
    started, disk = time.monotonic(), 0
    peaks: dict[int, dict[str, Any]] = {}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        for number, found in processes_below(process.pid).items():
            seen = peaks.setdefault(number, found)
            for name in ("rss_mb", "anonymous_mb", "cpu_seconds"):
                seen[name] = max(seen[name], found[name])
        disk = max(disk, disk_used(place))
        time.sleep(0.5)
    assert process.stdout is not None
    result = json.loads(process.stdout.read()) if process.returncode == 0 else {}
    heavy = sorted(peaks.values(), key=lambda peak: -int(peak["rss_mb"]))[:8]
    return {
        "exit": process.returncode,
        "seconds": round(time.monotonic() - started),
        "disk_gb": round(disk / 1e9, 2),
        "cpu_seconds": round(sum(peak["cpu_seconds"] for peak in peaks.values())),
        "processes": heavy,
        **{name: result.get(name) for name in ("rows", "kept", "dropped", "pairs_verified")},
    }


def processes_below(root: int) -> dict[int, dict[str, Any]]:
    """Memory and CPU of a process and all that descend from it."""
    everything = {int(p.name): p for p in Path("/proc").iterdir() if p.name.isdigit()}
    found = {number: look for number, p in everything.items() if (look := _look(p))}
    below = {root}
    while more := {n for n, look in found.items() if look["parent"] in below} - below:
        below |= more
    return {n: found[n] for n in below if n in found}


def _look(place: Path) -> dict[str, Any] | None:
    try:
        lines = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        words = (place / "cmdline").read_text().split("\0")
        ticks = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
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
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:  # it was removed meanwhile
            continue
    return total


def recall(planted: Path, kept: Path) -> float:
    """Of the planted pairs the share of which one goes."""
    pairs = pq.read_table(planted)
    stays = pq.read_table(kept, columns=["id"])["id"]
    both = pc.and_(pc.is_in(pairs["original"], stays), pc.is_in(pairs["edit"], stays))
    return 1 - float(pc.mean(both.cast(pa.float64())).as_py())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runner", choices=("alone", "threads", "dask", "ray"), default="dask")
    said = parser.parse_args()
    said.folder.mkdir(parents=True, exist_ok=True)
    texts, planted = generate(said.folder, said.rows)
    out = said.folder / f"out-{said.rows}-{said.runner}"
    out.mkdir(exist_ok=True)
    counterfoil = str(Path(sys.executable).with_name("counterfoil"))
    command = [counterfoil, "deduplicate", str(texts), "--text", "text", "--json"]
    runner = [] if said.runner == "alone" else ["--runner", said.runner]
    result = watch([*command, "--out", str(out), *runner], out)
    if result["exit"] == 0:
        result["recall"] = round(recall(planted, out / "kept.parquet"), 6)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
