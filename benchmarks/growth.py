"""Measure how the cost of each stage of a build grows with the number of questions.

    python benchmarks/growth.py [--quick] [--json] [--sizes 1000,4000] [--selection none|floor]
    python benchmarks/growth.py --sizes 1000,4000,16000 --answers 10 --judge --only build

Builds 1 k, 4 k, 16 k and 64 k own questions (--quick: 1 k and 4 k), each in a separate process, against a
scripted HTTP server that answers at once. The questions share a frame, which is the hard case for
deduplication. Then `counterfoil relabel` (lexical judge) and `counterfoil deduplicate` (texts with and
without a shared frame) run at the same numbers of rows.

`--answers N` asks N answers per question, half of them for each of two values. `--judge` adds a scripted
judge with a model to the divergence judge. Each release is read with pandas, DuckDB and `datasets`. With
more than one size, the seconds, peak memory and bytes at `--target` questions (100,000) are extrapolated
from the two largest sizes.

`exponent_cpu` and `exponent_memory` are the growth exponents of CPU seconds and of peak memory, between the
smallest and the largest size. `exponent_cpu` is null if the stage takes less than `NOISE_S` at the largest
size. The limit is 1.25 for CPU, and .5 for the memory of streaming stages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

SIZES = (1_000, 4_000, 16_000, 64_000)
QUICK = (1_000, 4_000)
NOISE_S = 0.5
"""CPU seconds below which no exponent is computed."""
LARGE = 100_000
"""Bytes from which on a file of the release is listed."""
CPU_BAR = 1.25
MEMORY_BAR = 0.5
STREAMING = frozenset({"respond"})
"""Stages with memory independent of the number of rows."""
FRAME = (
    "My neighbour, {{noun}}, asks me about {0} and {1} because of {2} near {3}. What should I say about {4}?"
)
REPLY = ("Ask them kindly.", "Wait until Friday.", "Offer your help.", "Decline politely.", "Listen first.")
Measured = dict[str, dict[str, float]]


# The measured process. It prints one JSON object: CPU seconds and peak memory of every stage.


def reset_peak() -> None:
    """Reset the peak of the resident memory to its current value (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def memory_mb(field: str) -> float:
    """Return `VmHWM` (peak) or `VmRSS` (now) of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def measuring(name: str, stages: Measured) -> Iterator[None]:
    """Add the CPU seconds and the peak memory of a block to a stage."""
    reset_peak()
    before, started = memory_mb("VmRSS"), time.process_time()
    try:
        yield
    finally:
        row = stages.setdefault(name, {"cpu_s": 0.0, "peak_mb": 0.0, "grown_mb": 0.0})
        row["cpu_s"] += time.process_time() - started
        row["peak_mb"] = max(row["peak_mb"], memory_mb("VmHWM"))
        row["grown_mb"] = max(row["grown_mb"], memory_mb("VmHWM") - before)


def build_measured(recipe: Path, out: Path) -> Measured:
    """Build a release in this process and measure every stage."""
    import flows.build
    import flows.engine
    import tasks.package

    stages: Measured = {}

    def measured(function: Callable[..., Any], name_of: Callable[..., str]) -> Callable[..., Any]:
        def run(*values: Any, **named: Any) -> Any:
            with measuring(name_of(*values), stages):
                return function(*values, **named)

        return run

    flows.engine.run_stage = measured(flows.engine.run_stage, lambda stage, *_: stage.name)
    tasks.package.package = measured(tasks.package.package, lambda *_: "package")
    flows.build.prepare = measured(flows.build.prepare, lambda *_: "prepare")
    started = time.perf_counter()
    release = Path(flows.build.build.fn(recipe=recipe, out=out))
    files = {p.relative_to(release).as_posix(): p.stat().st_size for p in release.rglob("*") if p.is_file()}
    stages["release"] = {"bytes": float(sum(files.values())), "wall_s": time.perf_counter() - started}
    stages["release"] |= {f"bytes of {name}": float(size) for name, size in files.items() if size > LARGE}
    stages["release"] |= {f"rows with {name}": float(rows) for name, rows in read_elsewhere(release).items()}
    return stages


def read_elsewhere(release: Path) -> dict[str, int]:
    """Return the number of responses that other programs read from a release, by program."""
    import pandas as pd

    shards = sorted(map(str, (release / "data" / "responses").glob("*.parquet")))
    rows = {"pandas": sum(len(pd.read_parquet(shard)) for shard in shards)}
    with suppress(ImportError):
        import duckdb

        found = duckdb.execute("SELECT count(DISTINCT id) FROM read_parquet(?)", [shards]).fetchone()
        rows["duckdb"] = int(found[0]) if found else 0
    with suppress(ImportError):
        from datasets import load_dataset

        cache = str(release.parent / ".datasets")
        rows["datasets"] = load_dataset(str(release), "responses", split="test", cache_dir=cache).num_rows
    return rows


def relabel_measured(path: Path, out: Path) -> Measured:
    """Relabel a retrieval file in this process with the lexical judge."""
    import counterfoil

    stages: Measured = {}
    with measuring("relabel file", stages):
        counterfoil.relabel(path, judge="lexical", out=out.with_suffix(".jsonl"))
    return stages


def deduplicate_measured(path: Path, out: Path) -> Measured:
    """Deduplicate a table in this process."""
    from tasks.deduplicate.file import deduplicate_file

    stages: Measured = {}
    with measuring(f"deduplicate {path.stem}", stages):
        deduplicate_file(path, text="text", out=out)
    return stages


JOBS = {"build": build_measured, "relabel": relabel_measured, "deduplicate": deduplicate_measured}


# Input files


def write_questions(path: Path, count: int, attribute: str = "gender") -> None:
    """Write own questions that share a frame and differ in five of fifteen words."""
    from tests.material.similar_texts import vocabulary

    rng, known = random.Random(count), vocabulary(5_000, 3)
    lines = [
        json.dumps({"id": f"q{i:06}", "text": FRAME.format(*rng.sample(known, 5)), "attribute": attribute})
        for i in range(count)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Shape:
    """What is built, apart from the number of questions."""

    selection: str = "none"
    answers: int | None = None
    """Answers per question about two values. `None` for three answers for each of three values."""
    judge: bool = False
    """Whether a scripted judge with a model judges, too."""

    @property
    def samples(self) -> int:
        """Samples per version."""
        return 3 if self.answers is None else max(2, self.answers // 2)

    @property
    def attribute(self) -> str:
        """Attribute that the questions vary."""
        return "gender" if self.answers is None else "disability_status"


def write_recipe(path: Path, questions: Path, base_url: str, shape: Shape) -> None:
    """Write the recipe of a build with one target."""
    model, judge = f"openai:target@{base_url}", f"openai:judge@{base_url}"
    recipe = {
        "name": "growth",
        "seed": 1,
        "questions": [{"path": str(questions), "samples": shape.samples, "max_tokens": 16}],
        "selection": shape.selection,
        "models": {"targets": [model], "judges": ["divergence", *([judge] if shape.judge else [])]},
        "budget": {"free": [model, *([judge] if shape.judge else [])]},
        "holdout": {"samples": shape.samples},
        "controls": {"a_a": 0, "placebo": 0},
    }
    path.write_text(json.dumps(recipe), encoding="utf-8")


def write_candidates(path: Path, rows: int) -> None:
    """Write a retrieval file with one positive and four negatives per query."""
    from tests.material.similar_texts import vocabulary

    rng, known = random.Random(rows), vocabulary(5_000, 3)

    def words(n: int) -> str:
        return " ".join(rng.choices(known, k=n))

    with path.open("w", encoding="utf-8") as stream:
        for i in range(rows):
            query = words(6)
            record = {
                "query": f"{query} {i}",
                "pos": [f"{query} {words(20)}"],
                "neg": [words(26) for _ in range(4)],
            }
            stream.write(json.dumps(record) + "\n")


def write_texts(folder: Path, rows: int) -> list[Path]:
    """Write a table of texts with a shared frame and one of unlike texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.material.similar_texts import framed_texts, similar_texts

    sets = {
        "shared frame": framed_texts(rows, 0.6, seed=rows)[0],
        "unlike": similar_texts(rows, seed=rows)[0],
    }
    paths = []
    for name, texts in sets.items():
        paths.append(folder / f"{name}.parquet")
        pq.write_table(pa.table({"text": texts}), paths[-1])
    return paths


# The measurement


def run_job(job: str, path: Path, folder: Path) -> Measured:
    """Run a job in a separate process."""
    environment = {
        **os.environ,
        "COUNTERFOIL_HOME": str(folder / "home"),
        "OPENAI_API_KEY": "none",
        "PYTHONPATH": str(PROJECT),
    }
    command = [sys.executable, str(Path(__file__)), "--job", job, str(path), str(folder / f"out-{job}")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{job} of {path.name} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_size(count: int, base_url: str, shape: Shape, only: Collection[str]) -> Measured:
    """Measure the jobs at one size."""
    stages: Measured = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_questions(folder / "questions.jsonl", count, shape.attribute)
        if "build" in only:
            write_recipe(folder / "recipe.yaml", folder / "questions.jsonl", base_url, shape)
            stages |= run_job("build", folder / "recipe.yaml", folder)
        if "relabel" in only:
            write_candidates(folder / "candidates.jsonl", count)
            stages |= run_job("relabel", folder / "candidates.jsonl", folder)
        for path in write_texts(folder, count) if "deduplicate" in only else ():
            stages |= run_job("deduplicate", path, folder)
    return stages


def summarise(by_size: dict[int, Measured]) -> list[dict[str, Any]]:
    """Return one row per stage with exponents and the figures at the largest size."""
    least, most = min(by_size), max(by_size)
    names = [name for name in by_size[most] if "cpu_s" in by_size[most][name]]
    rows = []
    for name in names:
        small, large = by_size[least].get(name), by_size[most][name]
        rows.append(
            {
                "name": name,
                "exponent_cpu": _exponent(small, large, "cpu_s", least, most, NOISE_S),
                "exponent_memory": _exponent(small, large, "peak_mb", least, most, 0.0),
                "cpu_s": round(large["cpu_s"], 2),
                "peak_mb": round(large["peak_mb"], 1),
                "by_size": {
                    n: {key: round(value, 2) for key, value in by_size[n][name].items()}
                    for n in sorted(by_size)
                    if name in by_size[n]
                },
            }
        )
    return rows


def _exponent(
    small: dict[str, float] | None, large: dict[str, float], key: str, least: int, most: int, noise: float
) -> float | None:
    if small is None or least == most or large[key] < noise or small[key] <= 0:
        return None
    return round(math.log(large[key] / small[key]) / math.log(most / least), 2)


def extrapolate(by_size: dict[int, Measured], target: int) -> dict[str, float]:
    """Extrapolate the build on a straight line through the two largest sizes. Empty with one size."""
    builds = {n: found for n, found in by_size.items() if "release" in found}
    if len(builds) < 2:
        return {}
    small, large = sorted(builds)[-2:]

    def line(low: float, high: float) -> float:
        return round(high + (high - low) * (target - large) / (large - small), 1)

    stages = [name for name, row in builds[large].items() if "cpu_s" in row and name in builds[small]]
    cpu = [sum(builds[n][name]["cpu_s"] for name in stages) for n in (small, large)]
    peak = [max(builds[n][name]["peak_mb"] for name in stages) for n in (small, large)]
    return {
        "questions": target,
        "cpu_s": line(*cpu),
        "wall_s": line(*(builds[n]["release"]["wall_s"] for n in (small, large))),
        "peak_mb": line(*peak),
        "bytes": line(*(builds[n]["release"]["bytes"] for n in (small, large))),
    }


def answer(messages: Any, body: Any) -> Any:
    """Choose an answer by the hash of the request, or the smallest one that fits a schema."""
    if body.get("response_format"):
        from tests.servers.openai_server import hashed_answer

        return hashed_answer(messages, body)
    digest = hashlib.sha256(json.dumps([messages, body.get("seed")]).encode()).digest()
    return REPLY[digest[0] % len(REPLY)]


def main() -> None:
    """Measure all sizes and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,000 and 4,000 questions only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--sizes", help="numbers of questions, such as 1000,4000")
    parser.add_argument("--selection", choices=("none", "floor"), default="none", help="selection rule")
    parser.add_argument("--answers", type=int, help="answers per question, about two values")
    parser.add_argument("--judge", action="store_true", help="a scripted judge with a model judges, too")
    parser.add_argument("--only", choices=tuple(JOBS), action="append", help="job to measure; default: all")
    parser.add_argument("--target", type=int, default=100_000, help="questions to extrapolate to")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job, path, out = options.job
        print(json.dumps(JOBS[job](Path(path), Path(out))))
        return
    from tests.servers.openai_server import OpenAIServer

    sizes = QUICK if options.quick else SIZES
    if options.sizes:
        sizes = tuple(int(size) for size in options.sizes.split(","))
    by_size: dict[int, Measured] = {}
    shape = Shape(options.selection, options.answers, options.judge)
    with OpenAIServer(answer, models=("target", "judge")) as server:
        server.requests = deque(maxlen=0)  # type: ignore[assignment]
        for count in sizes:
            by_size[count] = measure_size(count, server.url, shape, options.only or tuple(JOBS))
    stages = summarise(by_size)
    result = {
        "sizes": list(sizes),
        "stages": stages,
        "release_bytes": {n: int(f["release"]["bytes"]) for n, f in by_size.items() if "release" in f},
        "releases": {n: found["release"] for n, found in by_size.items() if "release" in found},
        "extrapolated": extrapolate(by_size, options.target),
        "over_bar": [
            row["name"]
            for row in stages
            if (row["exponent_cpu"] or 0) > CPU_BAR
            or (row["name"] in STREAMING and (row["exponent_memory"] or 0) > MEMORY_BAR)
        ],
    }
    if options.json:
        print(json.dumps(result))
    else:
        print_table(result)


def print_table(result: dict[str, Any]) -> None:
    """Print the stages as a Markdown table, and the sizes of the releases."""
    sizes = result["sizes"]
    columns = [f"CPU s at {n:,}" for n in sizes]
    print(f"| stage | {' | '.join(columns)} | exponent | peak MB | exponent |")
    print("|---" * (len(sizes) + 4) + "|")
    for row in result["stages"]:
        seconds = " | ".join(f"{row['by_size'].get(n, {}).get('cpu_s', 0):.2f}" for n in sizes)
        print(
            f"| {row['name']} | {seconds} | {row['exponent_cpu'] or '–'} | {row['peak_mb']:,.0f} "
            f"| {row['exponent_memory'] or '–'} |"
        )
    print("\nbytes of the release: " + ", ".join(f"{n:,}: {b:,}" for n, b in result["release_bytes"].items()))
    for n, found in result["releases"].items():
        print(f"{n:,}: " + ", ".join(f"{name} {value:,.0f}" for name, value in found.items()))
    if result["extrapolated"]:
        print(f"extrapolated: {json.dumps(result['extrapolated'])}")


if __name__ == "__main__":
    main()
