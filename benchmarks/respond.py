"""How fast is the `respond` stage, compared with a bare loop over the same client and with its peers?

    python benchmarks/respond.py [--quick] [--peers] [--storm] [--prefect] [--memory 10000 100000] [--json]

A server on loopback (benchmarks/loopback.py, in its own process) answers after a fixed time. The stage reads
its questions from a Parquet file, asks with cache, budget, limits and retries, and writes its rows. The bare
loop is `openai` with `DefaultAioHttpClient` and integer limits, and discards the answers. Every measurement
is a process of its own. CPU seconds are those of that process, from the first request to the last written
row, without imports. `ratio_to_bare_client` is requests per CPU second divided by that of the bare loop, the
worst of the grid. Peers are installed once, each into its own environment under --environments, and then work
offline.

A cached re-run is a new process and a new run that finds all answers in the cache. The comparison with
curator measures wall-clock time with imports (`cached_process_s`). `finished_step_s` is the same stage in the
same run, whose step is already finished; curator does the same with an unchanged dataset.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

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


# what is measured; each in a process of its own


def write_questions(place: Path, count: int) -> None:
    """So many prompts as questions of two variants, in place/questions.parquet."""
    from schemas.question import QUESTIONS, Question, Variant
    from tasks.run.store import RowSpool

    rows = RowSpool(QUESTIONS, place)
    for number in range(count // len(VALUES)):
        text = prompt(number)
        variants = [Variant(index=i, value=v, text=f"{text} {v}", slots=(v,)) for i, v in enumerate(VALUES)]
        fields: dict[str, Any] = dict.fromkeys(Question.model_fields)
        fields |= {"id": f"q_{number:08d}", "family": "open", "attribute": "gender", "framing": "explicit"}
        fields |= {"control": "none", "superdomain": "work", "domain": "d", "topic": "t", "language": "en"}
        fields |= {"template": text, "values": VALUES, "variants": variants, "options": ()}
        fields |= {"origin": "template", "round": 0, "label": "unlabelled"}
        rows.append(Question.model_validate(fields))
    rows.save(place / "questions.parquet")


def recipe_for(url: str, in_flight: int, limits: dict[str, Any]) -> Any:
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


def stage_in(place: Path, url: str, in_flight: int, limits: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Context and inputs of the stage in a fresh run directory; the answer cache is the place's."""
    from schemas.tables import file_hash
    from tasks.run.store import RunContext, TableRef

    context = RunContext(
        recipe=recipe_for(url, in_flight, limits),
        run_dir=tempfile.mkdtemp(prefix="run-", dir=place),
        data_dir=str(PROJECT / "data"),
        cache_path=str(place / "cache.sqlite"),
        budget_usd=0.0,
    )
    path = place / "questions.parquet"
    questions = TableRef(table="questions", path=str(path), rows=0, sha256=file_hash(path))
    return context, {"questions": questions, "phase": "search"}


def warm_up(place: Path, url: str) -> None:
    """Ask two questions, so that what is imported late is imported."""
    from tasks.respond import STAGE
    from tasks.run.store import run_stage

    with tempfile.TemporaryDirectory(dir=place) as warm:
        write_questions(Path(warm), len(VALUES))
        context, inputs = stage_in(Path(warm), url, 1, {})
        run_stage(STAGE, context, **inputs)


def measure_stage(
    place: Path, url: str, in_flight: int, count: int, *, warm: bool = True, **limits: Any
) -> Result:
    """The stage, and then the same once more: it is found done."""
    from tasks.respond import STAGE
    from tasks.run.store import run_stage

    if warm:
        warm_up(place, url)
    context, inputs = stage_in(place, url, in_flight, limits)
    started = time.perf_counter(), cpu_s()
    step = run_stage(STAGE, context, **inputs)
    took = time.perf_counter() - started[0], cpu_s() - started[1]
    started_again = time.perf_counter()
    run_stage(STAGE, context, **inputs)
    again = time.perf_counter() - started_again
    (counts,) = step.counts
    counted = {"rows": counts.rows, "failed": counts.failed}
    return {"wall_s": took[0], "cpu_s": took[1], "again_s": round(again, 3), **counted}


def measure_cache_share(place: Path, url: str, in_flight: int, count: int) -> Result:
    """CPU seconds inside the cache, as a share of the stage's."""
    from tasks.models.cache import ResponseCache

    warm_up(place, url)
    spent, inside = [0.0], [0]

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **more: Any) -> Any:
            started = time.thread_time()
            inside[0] += 1
            try:
                return method(*args, **more)
            finally:
                inside[0] -= 1
                if not inside[0]:  # what the cache's methods call of each other counts once
                    spent[0] += time.thread_time() - started

        return call

    for name in ("get_or_claim", "put", "flush", "renew", "give_up"):
        if hasattr(ResponseCache, name):
            setattr(ResponseCache, name, timed(getattr(ResponseCache, name)))
    result = measure_stage(place, url, in_flight, count)
    return result | {"cache_s": spent[0]}


def measure_bare(place: Path, url: str, in_flight: int, count: int) -> Result:
    import httpx2
    import openai

    async def ask_all(count: int) -> int:
        limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        transport = openai.DefaultAioHttpClient(limits=limits, trust_env=False)
        client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=transport)
        texts, asked = [], iter(range(count))

        async def worker() -> None:
            for number in asked:
                answer = await client.chat.completions.create(
                    model="test-model",
                    messages=[{"role": "user", "content": prompt(number)}],
                    max_tokens=64,
                    temperature=1.0,
                    seed=number,
                )
                texts.append(answer.choices[0].message.content)

        await asyncio.gather(*(worker() for _ in range(in_flight)))
        await client.close()
        return len(texts)

    asyncio.run(ask_all(1))
    started = time.perf_counter(), cpu_s()
    rows = asyncio.run(ask_all(count))
    return {"wall_s": time.perf_counter() - started[0], "cpu_s": cpu_s() - started[1], "rows": rows}


def measure_prefect(place: Path, url: str, in_flight: int, count: int) -> Result:
    """The stage in a Prefect task of a flow, beside the stage by itself; Prefect's server is up already."""
    from flows.workspace import quiet_prefect

    quiet_prefect(SimpleNamespace(runs=place))  # type: ignore[arg-type]
    from prefect import flow

    from flows import engine as steps
    from tasks.respond import STAGE
    from tasks.run.store import Step, run_stage

    inner: dict[str, float] = {}

    def timed(*args: Any, **more: Any) -> Step:
        started = time.perf_counter(), cpu_s()
        step = run_stage(*args, **more)
        inner.update(wall=time.perf_counter() - started[0], cpu=cpu_s() - started[1])
        return step

    steps.run_stage = timed  # type: ignore[attr-defined]
    ask = steps.as_task(STAGE)
    context, inputs = stage_in(place, url, in_flight, {})

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


MEASURED: dict[str, Callable[..., Result]] = {
    "stage": measure_stage,
    "cold": lambda *args: measure_stage(*args, warm=False),
    "storm": lambda *args: measure_stage(*args, timeout_s=1.0, attempts=12),
    "slow_storm": lambda *args: measure_stage(*args, timeout_s=2.0, attempts=12),
    "cache_share": measure_cache_share,
    "bare": measure_bare,
    "prefect": measure_prefect,
}


def in_own_process(what: str, place: Path, url: str, in_flight: int, count: int) -> Result:
    command = [sys.executable, __file__, "--one", what, str(place), url, str(in_flight), str(count)]
    env = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-3000:]}")
    result: Result = json.loads(done.stdout.strip().splitlines()[-1])
    return result | {"process_s": round(time.perf_counter() - started, 2)}


def one(what: str, place: Path, url: str, in_flight: int, count: int) -> None:
    result = MEASURED[what](place, url, in_flight, count)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result | {"peak_mb": round(peak_mb, 1)}))


# what is compared


def questions_in(room: Path, count: int) -> Path:
    """A fresh place with the questions; they are written once for each count."""
    place, source = Path(tempfile.mkdtemp(dir=room)), room / f"questions-{count}.parquet"
    if not source.exists():
        command = [sys.executable, __file__, "--questions", str(room), str(count)]
        subprocess.run(command, check=True)
        (room / "questions.parquet").rename(source)
    shutil.copy(source, place / "questions.parquet")
    return place


def compare_with_bare(room: Path, latency_s: float, in_flight: int, count: int) -> Result:
    """The bare loop, the stage, and the stage once more with every answer in its cache."""
    with Loopback(latency_s=latency_s) as server:
        bare = in_own_process("bare", room, server.url, in_flight, count)
        place = questions_in(room, count)
        stage = in_own_process("stage", place, server.url, in_flight, count)
        before = server.counts()["requests"] + 2  # its own warming up
        cached = in_own_process("stage", place, server.url, in_flight, count)
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


def compare_memory(room: Path, counts: list[int]) -> Result:
    """Peak memory of the stage by number of requests."""
    peaks = {}
    with Loopback() as server:
        for count in counts:
            place = questions_in(room, count)
            peaks[count] = in_own_process("stage", place, server.url, 256, count)["peak_mb"]
            shutil.rmtree(place)
    return {"peak_mb": peaks, "rss_growth": round(max(peaks.values()) / peaks[min(peaks)], 3)}


def cost_of_cache(room: Path, count: int, bare_cpu_ms: float) -> Result:
    """CPU of the cache beside the stage's, and beside what a request costs the bare client."""
    with Loopback(latency_s=0.05) as server:
        found = in_own_process("cache_share", questions_in(room, count), server.url, 256, count)
    ms = 1000 * found["cache_s"] / count
    shares = {"of_stage": found["cache_s"] / found["cpu_s"], "of_bare_request": ms / bare_cpu_ms}
    return {"cpu_ms": round(ms, 3), **{name: round(share, 3) for name, share in shares.items()}}


def through_a_storm(room: Path, latency_s: float, count: int, says_when: bool) -> Result:
    """Beside the clean run. What hangs is given up after 1 s, or 2 s where an answer takes half a second. The
    waits that the server asks for are divided by the requests that are worked on at a time."""
    from tasks.models import CONCURRENCY_FACTOR

    with Loopback(latency_s=latency_s) as server:
        clean = in_own_process("stage", questions_in(room, count), server.url, 256, count)
    with Loopback(latency_s=latency_s, storm=STORM, says_when=says_when) as server:
        what = "storm" if latency_s < 0.1 else "slow_storm"
        storm = in_own_process(what, questions_in(room, count), server.url, 256, count)
        counts = server.counts()
    waits_s = WAIT_S * counts["429"] / (CONCURRENCY_FACTOR * 256) if says_when else 0.0
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


def through_prefect(room: Path, count: int) -> Result:
    with Loopback() as server:
        return in_own_process("prefect", questions_in(room, count), server.url, 256, count)


def against_peers(room: Path, environments: Path, count: int, in_flight: int) -> Result:
    found: Result = {}
    with Loopback(latency_s=0.05) as server:
        place = questions_in(room, count)
        ours = in_own_process("stage", place, server.url, in_flight, count)
        again = in_own_process("stage", place, server.url, in_flight, count)
        cold = in_own_process("cold", place, server.url, in_flight, count)
        found["counterfoil"] = {
            "cpu_s": round(ours["cpu_s"], 2),
            "wall_s": round(ours["wall_s"], 2),
            "cached_s": round(again["wall_s"], 2),
            "cached_process_s": cold["process_s"],
            "finished_step_s": again["again_s"],
        }
        for peer in PEERS:
            python, home = environment(environments, peer), Path(tempfile.mkdtemp(dir=room))
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


def environment(environments: Path, peer: str) -> Path:
    """The Python of the peer's own environment, installed on first use."""
    place = environments / "-".join([peer, *PEERS[peer][:1]]).replace("[", "-").replace("]", "")
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "-q", "--clear", "--python", "3.11", str(place)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *PEERS[peer]], check=True)
        (place / "ready").touch()
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one point of the grid, small memory check")
    parser.add_argument("--prompts", type=int, nargs="*", default=[5000])
    parser.add_argument("--in-flight", type=int, nargs="*", default=[64, 256, 1024])
    parser.add_argument("--latency", type=float, nargs="*", default=[0.05, 0.5])
    parser.add_argument("--memory", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--peers", type=int, nargs="?", const=5000, help="prompts, by default 5000")
    parser.add_argument("--storm", action="store_true")
    parser.add_argument("--prefect", action="store_true")
    parser.add_argument("--environments", type=Path, default=Path("~/.cache/counterfoil-benchmarks"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--questions", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, place, url, in_flight, count = options.one
        one(what, Path(place), url, int(in_flight), int(count))
    elif options.questions:
        write_questions(Path(options.questions[0]), int(options.questions[1]))
    else:
        report(options)


def report(options: argparse.Namespace) -> None:
    points = list(product(options.latency, options.in_flight, options.prompts))
    if options.quick:
        points, options.memory = [(0.05, 256, 2000)], [2000, 10_000]
    with tempfile.TemporaryDirectory(prefix="respond-") as folder:
        room = Path(folder)
        found: Result = {"grid": [compare_with_bare(room, *point) for point in points]}
        found["ratio_to_bare_client"] = min(p["ratio_cpu"] for p in found["grid"])
        found["ratio_to_bare_client_wall"] = min(p["ratio_wall"] for p in found["grid"])
        found["cached_requests"] = sum(p["cached_requests"] for p in found["grid"])
        found |= compare_memory(room, options.memory)
        cached, bare_ms = 2000 if options.quick else 20_000, min(p["bare_cpu_ms"] for p in found["grid"])
        found["cache_share"] = cost_of_cache(room, cached, bare_ms)
        if options.storm:
            storms = [(0.05, 5000)] if options.quick else [(0.05, 100_000), (0.5, 20_000)]
            found["storm"] = [
                through_a_storm(room, *s, says_when) for s in storms for says_when in (False, True)
            ]
        if options.prefect:
            found["prefect"] = through_prefect(room, 5000)
        if options.peers:
            found["peers"] = against_peers(room, options.environments.expanduser(), options.peers, 256)
    print(json.dumps(found) if options.json else json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
