"""Compare the speed of the stage `respond` with a bare loop over the same client and with other libraries.

    python benchmarks/respond.py [--quick] [--peers] [--storm] [--prefect] [--memory 10000 100000] [--json]

A server on the loopback interface (benchmarks/loopback.py) answers after a fixed time. The stage reads its
questions from a Parquet file, sends requests with cache, budget, limits and retries, and writes its rows. The
bare loop is benchmarks/bare_client.py. Every measurement runs in a separate process. CPU seconds are those of
that process, from the first request to the last written row, without imports. `ratio_to_bare_client` is
requests per CPU second divided by those of the bare loop, and the lowest ratio of the grid. Other libraries
are installed once, each into its own environment under --environments, and then work offline.

A cached re-run is a new process and a new run with all answers in the cache. The comparison with curator
measures wall-clock time with imports (`cached_process_s`). `finished_step_s` is the time of the stage in the
same run, with the step already finished. Curator does the same with an unchanged dataset.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from benchmarks.bare_client import send_all
from benchmarks.loopback import STORM, WAIT_S, Loopback
from benchmarks.respond_peers import cpu_s, prompt

PEERS = {
    "curator": ["bespokelabs-curator==0.1.31"],
    "distilabel": ["distilabel[openai]==1.5.3", "requests"],
    "inspect_ai": ["inspect-ai==0.3.285", "openai==3.54.0", "pyarrow"],
}
TARGETS = {"curator": 1.5, "distilabel": 3.0, "inspect_ai": 10.0}
VALUES = ("woman", "man")

Result = dict[str, Any]


# Measurements. Each runs in a separate process.


def write_questions(folder: Path, count: int) -> None:
    """Write prompts as questions of two variants to questions.parquet."""
    from schemas.question import QUESTIONS, Question, Variant
    from tasks.run.store import RowSpool

    rows = RowSpool(QUESTIONS, folder)
    for number in range(count // len(VALUES)):
        text = prompt(number)
        variants = [Variant(index=i, value=v, text=f"{text} {v}", slots=(v,)) for i, v in enumerate(VALUES)]
        fields: dict[str, Any] = dict.fromkeys(Question.model_fields)
        fields |= {"id": f"q_{number:08d}", "family": "open", "attribute": "gender", "framing": "explicit"}
        fields |= {"control": "none", "superdomain": "work", "domain": "d", "topic": "t", "language": "en"}
        fields |= {"template": text, "values": VALUES, "variants": variants, "options": ()}
        fields |= {"origin": "template", "round": 0, "label": "unlabelled", "anchor": False}
        rows.append(Question.model_validate(fields))
    rows.save(folder / "questions.parquet")


def make_recipe(url: str, in_flight: int, limits: dict[str, Any]) -> Any:
    """Return a recipe with the server as its only target."""
    from schemas.recipe import Recipe

    model = f"openai:test-model@{url}"
    return Recipe.model_validate(
        {
            "name": "benchmark",
            "attributes": ["gender"],
            "models": {"targets": [model]},
            "families": {"open": {"samples": 1, "max_tokens": 64}},
            "budget": {"free": [model]},
            "limits": {"max_in_flight": in_flight, **limits},
        }
    )


def prepare_stage(
    folder: Path, url: str, in_flight: int, limits: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return context and inputs of the stage in a new run directory, with the answer cache of the folder."""
    import pyarrow.parquet as pq

    from schemas.tables import file_hash
    from tasks.run.store import RunContext, TableRef

    context = RunContext(
        recipe=make_recipe(url, in_flight, limits),
        run_dir=tempfile.mkdtemp(prefix="run-", dir=folder),
        data_dir=str(PROJECT / "data"),
        cache_path=str(folder / "cache.sqlite"),
        budget_usd=0.0,
    )
    path = folder / "questions.parquet"
    rows = pq.read_metadata(path).num_rows
    questions = TableRef(table="questions", path=str(path), rows=rows, sha256=file_hash(path))
    return context, {"questions": questions, "phase": "search"}


def warm_up(folder: Path, url: str) -> None:
    """Send two questions, so that all late imports are done."""
    from tasks.respond import STAGE
    from tasks.run.store import run_stage

    with tempfile.TemporaryDirectory(dir=folder) as warm:
        write_questions(Path(warm), len(VALUES))
        context, inputs = prepare_stage(Path(warm), url, 1, {})
        run_stage(STAGE, context, **inputs)


def measure_stage(
    folder: Path, url: str, in_flight: int, count: int, *, warm: bool = True, **limits: Any
) -> Result:
    """Measure the stage, and then its finished step."""
    from tasks.respond import STAGE
    from tasks.run.store import run_stage

    if warm:
        warm_up(folder, url)
    context, inputs = prepare_stage(folder, url, in_flight, limits)
    started = time.perf_counter(), cpu_s()
    step = run_stage(STAGE, context, **inputs)
    took = time.perf_counter() - started[0], cpu_s() - started[1]
    started_again = time.perf_counter()
    run_stage(STAGE, context, **inputs)
    again = time.perf_counter() - started_again
    (counts,) = step.counts
    counted = {"rows": counts.rows, "failed": counts.failed}
    return {"wall_s": took[0], "cpu_s": took[1], "again_s": round(again, 3), **counted}


def measure_cache_share(folder: Path, url: str, in_flight: int, count: int) -> Result:
    """Measure the CPU seconds inside the cache during the stage."""
    from tasks.models.cache import ResponseCache

    warm_up(folder, url)
    spent, depth = [0.0], [0]

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **more: Any) -> Any:
            started = time.thread_time()
            depth[0] += 1
            try:
                return method(*args, **more)
            finally:
                depth[0] -= 1
                if not depth[0]:  # count calls between the cache's own methods only once
                    spent[0] += time.thread_time() - started

        return call

    for name in ("get_or_claim", "put", "flush", "renew", "give_up"):
        if hasattr(ResponseCache, name):
            setattr(ResponseCache, name, timed(getattr(ResponseCache, name)))
    result = measure_stage(folder, url, in_flight, count)
    return result | {"cache_s": spent[0]}


def measure_bare(folder: Path, url: str, in_flight: int, count: int) -> Result:
    """Measure the bare client on the same prompts."""

    def requests(count: int) -> Iterator[dict[str, Any]]:
        for number in range(count):
            messages = [{"role": "user", "content": prompt(number)}]
            decoding = {"max_tokens": 64, "temperature": 1.0, "seed": number}
            yield {"model": "test-model", "messages": messages, **decoding}

    send_all(url, requests(1), in_flight)
    started = time.perf_counter(), cpu_s()
    rows = send_all(url, requests(count), in_flight)
    return {"wall_s": time.perf_counter() - started[0], "cpu_s": cpu_s() - started[1], "rows": rows}


def measure_prefect(folder: Path, url: str, in_flight: int, count: int) -> Result:
    """Measure the extra time of a Prefect task around the stage, with a running Prefect server."""
    from flows.workspace import quiet_prefect

    quiet_prefect(SimpleNamespace(runs=folder))  # type: ignore[arg-type]
    from prefect import flow

    from flows import engine
    from tasks.respond import STAGE
    from tasks.run.store import Step, run_stage

    inner: dict[str, float] = {}

    def timed(*args: Any, **more: Any) -> Step:
        started = time.perf_counter(), cpu_s()
        step = run_stage(*args, **more)
        inner.update(wall=time.perf_counter() - started[0], cpu=cpu_s() - started[1])
        return step

    engine.run_stage = timed  # type: ignore[attr-defined]
    ask = engine.as_task(STAGE)
    context, inputs = prepare_stage(folder, url, in_flight, {})

    @flow(persist_result=False)
    def nothing() -> None:
        return None

    @flow(persist_result=False)
    def answers() -> None:
        ask(context, **inputs)

    nothing()
    started = time.perf_counter(), cpu_s()
    answers()
    wall, cpu = time.perf_counter() - started[0], cpu_s() - started[1]
    more = {"ms_a_row": wall - inner["wall"], "cpu_ms_a_row": cpu - inner["cpu"]}
    return {name: round(1000 * seconds / count, 3) for name, seconds in more.items()}


MEASUREMENTS: dict[str, Callable[..., Result]] = {
    "stage": measure_stage,
    "cold": lambda *args: measure_stage(*args, warm=False),
    "storm": lambda *args: measure_stage(*args, timeout_s=1.0, attempts=12),
    "slow_storm": lambda *args: measure_stage(*args, timeout_s=2.0, attempts=12),
    "cache_share": measure_cache_share,
    "bare": measure_bare,
    "prefect": measure_prefect,
}


def run_in_process(name: str, folder: Path, url: str, in_flight: int, count: int) -> Result:
    """Run a measurement in a new process and return its result with the time of the process."""
    command = [sys.executable, __file__, "--one", name, str(folder), url, str(in_flight), str(count)]
    env = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    result: Result = json.loads(done.stdout.strip().splitlines()[-1])
    return result | {"process_s": round(time.perf_counter() - started, 2)}


def run_measurement(name: str, folder: Path, url: str, in_flight: int, count: int) -> None:
    """Run a measurement in this process and print its result with the peak memory."""
    result = MEASUREMENTS[name](folder, url, in_flight, count)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result | {"peak_mb": round(peak_mb, 1)}))


# Comparisons


def prepare_questions(base: Path, count: int) -> Path:
    """Return a new folder with the questions, which are written once for each count."""
    folder, source = Path(tempfile.mkdtemp(dir=base)), base / f"questions-{count}.parquet"
    if not source.exists():
        command = [sys.executable, __file__, "--questions", str(base), str(count)]
        subprocess.run(command, check=True)
        (base / "questions.parquet").rename(source)
    shutil.copy(source, folder / "questions.parquet")
    return folder


def compare_with_bare(base: Path, latency_s: float, in_flight: int, count: int) -> Result:
    """Measure the bare loop, the stage, and the stage with all answers in its cache."""
    with Loopback(latency_s=latency_s) as server:
        bare = run_in_process("bare", base, server.url, in_flight, count)
        folder = prepare_questions(base, count)
        stage = run_in_process("stage", folder, server.url, in_flight, count)
        before = server.counts()["requests"] + 2  # the warm-up sends two requests
        cached = run_in_process("stage", folder, server.url, in_flight, count)
        sent = server.counts()["requests"] - before
    assert all(r["rows"] == count and not r["failed"] for r in (stage, cached))
    return {
        "latency_s": latency_s,
        "in_flight": in_flight,
        "prompts": count,
        "stage_cpu_ms": round(1000 * stage["cpu_s"] / count, 3),
        "bare_cpu_ms": round(1000 * bare["cpu_s"] / count, 3),
        "stage_per_s": round(count / stage["wall_s"]),
        "bare_per_s": round(count / bare["wall_s"]),
        "ratio_cpu": round(bare["cpu_s"] / stage["cpu_s"], 2),
        "ratio_wall": round(bare["wall_s"] / stage["wall_s"], 2),
        "cached_requests": sent,
        "cached_wall_s": round(cached["wall_s"], 2),
        "cached_cpu_s": round(cached["cpu_s"], 2),
    }


def compare_memory(base: Path, counts: list[int]) -> Result:
    """Measure the peak memory of the stage by number of requests."""
    peaks = {}
    with Loopback() as server:
        for count in counts:
            folder = prepare_questions(base, count)
            peaks[count] = run_in_process("stage", folder, server.url, 256, count)["peak_mb"]
            shutil.rmtree(folder)
    return {"peak_mb": peaks, "rss_growth": round(max(peaks.values()) / peaks[min(peaks)], 3)}


def measure_cache_cost(base: Path, count: int, bare_cpu_ms: float) -> Result:
    """Measure the CPU time of the cache per request, relative to the stage and to the bare client."""
    with Loopback(latency_s=0.05) as server:
        result = run_in_process("cache_share", prepare_questions(base, count), server.url, 256, count)
    ms = 1000 * result["cache_s"] / count
    shares = {"of_stage": result["cache_s"] / result["cpu_s"], "of_bare_request": ms / bare_cpu_ms}
    return {"cpu_ms": round(ms, 3), **{name: round(share, 3) for name, share in shares.items()}}


def compare_storm(base: Path, latency_s: float, count: int, retry_after: bool) -> Result:
    """Compare the stage on a failing server with the stage on a server without failures.

    Hanging requests time out after 1 s, or after 2 s if answers take half a second. The waits that the server
    requests are divided by the number of requests in progress.
    """
    from tasks.models import CONCURRENCY_FACTOR

    with Loopback(latency_s=latency_s) as server:
        clean = run_in_process("stage", prepare_questions(base, count), server.url, 256, count)
    with Loopback(latency_s=latency_s, storm=STORM, retry_after=retry_after) as server:
        name = "storm" if latency_s < 0.1 else "slow_storm"
        storm = run_in_process(name, prepare_questions(base, count), server.url, 256, count)
        counts = server.counts()
    waits_s = WAIT_S * counts["429"] / (CONCURRENCY_FACTOR * 256) if retry_after else 0.0
    return {
        "latency_s": latency_s,
        "prompts": count,
        "rows": storm["rows"],
        "failed": storm["failed"],
        "sent": dict(counts),
        "clean_wall_s": round(clean["wall_s"], 2),
        "storm_wall_s": round(storm["wall_s"], 2),
        "times_clean": round(storm["wall_s"] / clean["wall_s"], 2),
        "asked_to_wait_s": round(waits_s, 2),
        "times_clean_without_waits": round((storm["wall_s"] - waits_s) / clean["wall_s"], 2),
        "cpu_s": {"clean": round(clean["cpu_s"], 2), "storm": round(storm["cpu_s"], 2)},
    }


def measure_prefect_cost(base: Path, count: int) -> Result:
    """Measure the extra time of Prefect per row."""
    with Loopback() as server:
        return run_in_process("prefect", prepare_questions(base, count), server.url, 256, count)


def compare_peers(base: Path, environments: Path, count: int, in_flight: int) -> Result:
    """Compare the stage with other libraries, with an empty and a full cache."""
    found: Result = {}
    with Loopback(latency_s=0.05) as server:
        folder = prepare_questions(base, count)
        ours = run_in_process("stage", folder, server.url, in_flight, count)
        again = run_in_process("stage", folder, server.url, in_flight, count)
        cold = run_in_process("cold", folder, server.url, in_flight, count)
        found["counterfoil"] = {
            "cpu_s": round(ours["cpu_s"], 2),
            "wall_s": round(ours["wall_s"], 2),
            "cached_s": round(again["wall_s"], 2),
            "cached_process_s": cold["process_s"],
            "finished_step_s": again["again_s"],
        }
        for peer in PEERS:
            python, home = create_environment(environments, peer), Path(tempfile.mkdtemp(dir=base))
            first, second = (run_peer(python, peer, server.url, count, in_flight, home) for _ in range(2))
            found[peer] = {
                "cpu_s": first["cpu_s"],
                "wall_s": first["wall_s"],
                "cached_s": second["wall_s"],
                "cached_process_s": second["process_s"],
                "ratio_cpu": round(first["cpu_s"] / ours["cpu_s"], 2),
                "target": TARGETS[peer],
            }
            print(peer, found[peer], file=sys.stderr, flush=True)
    cached = found["counterfoil"]["cached_process_s"] / found["curator"]["cached_process_s"]
    return found | {"cached_share_of_curator": round(cached, 2)}


def create_environment(environments: Path, peer: str) -> Path:
    """Return the Python of a peer's environment. Install the environment on first use."""
    folder = environments / "-".join([peer, *PEERS[peer][:1]]).replace("[", "-").replace("]", "")
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "-q", "--clear", "--python", "3.11", str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *PEERS[peer]], check=True)
        (folder / "ready").touch()
    return python


def run_peer(python: Path, peer: str, url: str, count: int, in_flight: int, home: Path) -> Result:
    script = PROJECT / "benchmarks" / "respond_peers.py"
    command = [str(python), str(script), peer, url, str(count), str(in_flight), str(home / "out.parquet")]
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=home)
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-3000:]}")
    result: Result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["rows"] == count
    result["process_s"] = time.perf_counter() - started
    return {key: round(value, 2) for key, value in result.items()}


def main() -> None:
    """Run the chosen comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one point of the grid, small memory check")
    parser.add_argument("--prompts", type=int, nargs="*", default=[5000], help="numbers of prompts")
    parser.add_argument("--in-flight", type=int, nargs="*", default=[64, 256, 1024])
    parser.add_argument("--latency", type=float, nargs="*", default=[0.05, 0.5], help="seconds per answer")
    parser.add_argument("--memory", type=int, nargs="*", default=[10_000, 100_000], help="numbers of prompts")
    parser.add_argument(
        "--peers", type=int, nargs="?", const=5000, help="compare with other libraries (prompts: 5000)"
    )
    parser.add_argument("--storm", action="store_true", help="measure a failing server")
    parser.add_argument("--prefect", action="store_true", help="measure the cost of Prefect")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path("~/.cache/counterfoil-benchmarks"),
        help="folder of the environments of other libraries",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on one line")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--questions", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, folder, url, in_flight, count = options.one
        run_measurement(name, Path(folder), url, int(in_flight), int(count))
    elif options.questions:
        write_questions(Path(options.questions[0]), int(options.questions[1]))
    else:
        report(options)


def report(options: argparse.Namespace) -> None:
    """Run the comparisons that the options choose and print them as JSON."""
    points = list(product(options.latency, options.in_flight, options.prompts))
    if options.quick:
        points, options.memory = [(0.05, 256, 2000)], [2000, 10_000]
    with tempfile.TemporaryDirectory(prefix="respond-") as folder:
        base = Path(folder)
        results: Result = {"grid": [compare_with_bare(base, *point) for point in points]}
        results["ratio_to_bare_client"] = min(p["ratio_cpu"] for p in results["grid"])
        results["ratio_to_bare_client_wall"] = min(p["ratio_wall"] for p in results["grid"])
        results["cached_requests"] = sum(p["cached_requests"] for p in results["grid"])
        results |= compare_memory(base, options.memory)
        cached, bare_ms = 2000 if options.quick else 20_000, min(p["bare_cpu_ms"] for p in results["grid"])
        results["cache_share"] = measure_cache_cost(base, cached, bare_ms)
        if options.storm:
            storms = [(0.05, 5000)] if options.quick else [(0.05, 100_000), (0.5, 20_000)]
            results["storm"] = [
                compare_storm(base, *s, retry_after) for s in storms for retry_after in (False, True)
            ]
        if options.prefect:
            results["prefect"] = measure_prefect_cost(base, 5000)
        if options.peers:
            results["peers"] = compare_peers(base, options.environments.expanduser(), options.peers, 256)
    print(json.dumps(results) if options.json else json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
