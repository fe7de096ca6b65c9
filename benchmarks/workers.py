"""Measure how much faster relabelling is with two workers, and show the parts of each worker.

    python -m benchmarks.workers [--workers 1 2] [--runner dask|ray] [--judge model|lexical] [--json]

The judge is a server on the loopback interface, in its own process, that answers after 200 ms. Every worker
has `--in-flight` calls in flight. The same file is relabelled with every number of workers, each in a
separate process with an empty answer cache and after a warm-up, and the results must be equal. With
`--judge lexical` the work is CPU time only, and needs as many idle cores as workers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import relabel_throughput
from schemas.tables import file_hash

LATENCY_S = 0.2
ROWS_PER_PART = {"model": 5, "lexical": 500}
ROWS = {"model": 60, "lexical": 20_000}
WARM_UP_ROWS = 20


class Recorded:
    """A job that also returns the process that ran it, the time that it took, and the peak of its memory."""

    def __init__(self, job: Callable[[Any], Any]) -> None:
        self.job = job
        self.__name__ = job.__name__

    def __call__(self, part: Any) -> tuple[Any, int, float, float]:
        """Run the job."""
        started = time.monotonic()
        done = self.job(part)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return done, os.getpid(), time.monotonic() - started, peak_mb


@dataclass
class Worker:
    """Work of one process."""

    parts: int = 0
    rows: int = 0
    busy_s: float = 0.0
    peak_mb: float = 0.0


def relabel_on(workers: int, runner: str, judge: str, source: Path, in_flight: int) -> dict[str, Any]:
    """Relabel a file on a new cluster in this process, after a warm-up."""
    from flows import server
    from flows.workspace import open_workspace
    from schemas.recipe import Limits
    from tasks.models import ModelSettings
    from tasks.relabel import job as relabelling
    from tasks.relabel.file import relabel_file

    workspace = open_workspace()
    server._cores = lambda: workers
    done: dict[int, Worker] = {}

    def run_parts(job: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
        from flows.engine import submit_each

        for result, process, seconds, peak_mb in submit_each(Recorded(job), parts):
            worker = done.setdefault(process, Worker())
            worker.parts += 1
            worker.rows += result[1].counts["rows"]
            worker.busy_s += seconds
            worker.peak_mb = max(worker.peak_mb, peak_mb)
            yield result

    def relabel(path: Path, name: str) -> dict[str, Any]:
        settings = ModelSettings(
            data_dir=workspace.vocabulary,
            run_dir=workspace.runs / name,
            cache_path=workspace.cache,
            free=frozenset({judge}),
            limits=lambda _: Limits(max_in_flight=in_flight * workers),
        )
        out = workspace.home / f"{name}.jsonl"
        started = time.monotonic()
        result = relabel_file(path, settings=settings, judges=(judge,), out=out, run_parts=run_parts)
        calls = sum(cost["calls"] for cost in result["report"]["cost"].values())
        return {"seconds": time.monotonic() - started, "calls": int(calls), "sha256": file_hash(out)}

    def measure() -> dict[str, Any]:
        relabelling.ROWS_PER_PART = 1
        relabel(source.with_name("warm_up.jsonl"), "warm-up")
        relabelling.ROWS_PER_PART = ROWS_PER_PART["lexical" if judge == "lexical" else "model"]
        done.clear()
        return relabel(source, "measured")

    with server.task_runner(runner, workspace) as chosen:
        from prefect import flow  # reads its settings when it is imported

        found: dict[str, Any] = flow(task_runner=chosen)(measure)()
    by_worker = [vars(worker) for _, worker in sorted(done.items(), key=lambda item: -item[1].rows)]
    return found | {"workers": workers, "by_worker": by_worker}


def run_in_process(folder: Path, *arguments: object) -> dict[str, Any]:
    """Run a measurement in a new process with an empty home folder."""
    command = [sys.executable, "-m", "benchmarks.workers", "--child", *map(str, arguments)]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**own, "COUNTERFOIL_HOME": str(folder), "OPENAI_API_KEY": "none"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every number of workers, and compare with the first."""
    rows = options.rows or ROWS[options.judge]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        relabel_throughput.write_rows(folder / "in.jsonl", rows + WARM_UP_ROWS)
        lines = (folder / "in.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        # The rows of the warm-up are others, because their answers are in the cache afterwards.
        for file, chosen in (("warm_up.jsonl", lines[rows:]), ("in.jsonl", lines[:rows])):
            (folder / file).write_text("".join(chosen), encoding="utf-8")
        port_file = folder / "port"
        command = [sys.executable, "-m", "benchmarks.workers", "--serve", str(port_file)]
        server = subprocess.Popen(command)
        try:
            while not port_file.is_file() or not port_file.read_text():
                time.sleep(0.05)
            model = f"openai:m@http://127.0.0.1:{port_file.read_text()}/v1"
            judge = model if options.judge == "model" else "lexical"
            found = [
                run_in_process(
                    folder / f"home-{n}", n, options.runner, judge, folder / "in.jsonl", options.in_flight
                )
                for n in options.workers
            ]
        finally:
            server.terminate()
            server.wait()
    for line in found:
        line["speed_up"] = found[0]["seconds"] / line["seconds"]
    return {
        "runner": options.runner,
        "judge": options.judge,
        "rows": rows,
        "in_flight_per_worker": options.in_flight,
        "same_bytes": len({line["sha256"] for line in found}) == 1,
        "runs": found,
    }


def print_results(result: dict[str, Any]) -> None:
    """Print the runs, and the work of every worker, as Markdown tables."""
    print(f"{result['rows']:,} rows, {result['runner']}, judge: {result['judge']}, ", end="")
    print(
        f"{result['in_flight_per_worker']} calls in flight per worker; same bytes: {result['same_bytes']}\n"
    )
    print("| workers | seconds | calls per second | speed-up |\n|---|---|---|---|")
    for line in result["runs"]:
        rate = line["calls"] / line["seconds"]
        print(f"| {line['workers']} | {line['seconds']:.1f} | {rate:.1f} | {line['speed_up']:.2f} |")
    print("\n| run | worker | parts | rows | busy seconds | peak MB |\n|---|---|---|---|---|---|")
    for line in result["runs"]:
        for number, worker in enumerate(line["by_worker"], start=1):
            print(
                f"| {line['workers']} workers | {number} | {worker['parts']} | {worker['rows']} "
                f"| {worker['busy_s']:.1f} | {worker['peak_mb']:,.0f} |"
            )


def main() -> None:
    """Run the measurements and print them."""
    if sys.argv[1:2] == ["--serve"]:
        relabel_throughput.LATENCY_S = LATENCY_S
        relabel_throughput.serve(sys.argv[2])
        return
    if sys.argv[1:2] == ["--child"]:
        workers, runner, judge, source, in_flight = sys.argv[2:]
        print(json.dumps(relabel_on(int(workers), runner, judge, Path(source), int(in_flight))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers")
    parser.add_argument("--runner", choices=("dask", "ray"), default="dask", help="kind of cluster")
    parser.add_argument("--judge", choices=("model", "lexical"), default="model", help="what takes the time")
    parser.add_argument("--rows", type=int, help="rows of the file")
    parser.add_argument("--in-flight", type=int, default=4, help="calls in flight per worker")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    result = run(options)
    print(json.dumps(result)) if options.json else print_results(result)


if __name__ == "__main__":
    main()
