"""Compare the throughput of relabelling with a bare client, and measure its memory by number of rows.

    python benchmarks/relabel_throughput.py [--rows N] [--memory N …] [--read N] [--negatives N]
        [--restart N] [--json]

A server on the loopback interface, in its own process, answers after 50 ms. Relabelling (two stages, one
model, 64 in flight, an empty answer cache) reads rows of one positive and ten negatives from a file and
writes the result. The bare client (benchmarks/bare_client.py) sends the same number of similar requests and
discards the answers. Memory is measured with the lexical judge; a row has ten candidates (`--negatives`).
`--read` measures the memory of a trial run over the first 1,000 rows of a file: all its rows are read, and
few are judged. Every measurement runs in a separate process, and CPU seconds are those of that process.

`--restart` kills a run with the lexical judge in the middle of its parts, starts it again, and measures the
time until the first part that was not finished is finished. The start of the process is part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from benchmarks.bare_client import send_all

LATENCY_S, IN_FLIGHT, NEGATIVES, TRIAL = 0.05, 64, 10, 1_000
WORDS = [f"{a}{b}{c}" for a in ("ba", "ke", "li", "mo", "ru") for b in ("na", "te", "si") for c in "dlmnrst"]


def write_rows(path: Path, count: int, negatives: int = NEGATIVES) -> None:
    """Write rows of random words, each with its own texts. Some passages share words with their query."""
    rng = random.Random(0)
    queries = [" ".join(rng.choices(WORDS, k=4)) for _ in range(997)]
    texts = [" ".join(rng.choices(WORDS, k=36)) for _ in range(4999)]
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            query, first = queries[number % len(queries)], number * (negatives + 1)
            passages = [
                f"{texts[(first + i) % len(texts)]} {number} {i}." + (f" {query}." if i % 4 == 0 else "")
                for i in range(negatives + 1)
            ]
            record = {"query": f"{query} {number}", "pos": passages[:1], "neg": passages[1:]}
            stream.write(json.dumps(record) + "\n")


def serve(port_file: str) -> None:
    """Serve a judge that quotes the first words of every third passage and ranks passages alphabetically."""
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(LATENCY_S)
        schema = body.get("response_format", {}).get("json_schema", {}).get("name", "")
        text = body["messages"][-1]["content"]
        if schema == "RankingAnswer":
            spans = re.findall(r"<evidence id=\w+>\n(.*?)\n</evidence", text, re.DOTALL)
            found: dict[str, Any] = {"ranking": sorted(range(1, len(spans) + 1), key=lambda i: spans[i - 1])}
        else:
            match = re.search(r"<passage id=\w+>\n(.*?)\n</passage", text, re.DOTALL)
            passage = match.group(1) if match else ""
            found = {"evidence": passage[:40] if sum(passage.encode()) % 3 == 0 else "NO_ANSWER"}
        message = {"role": "assistant", "content": json.dumps(found), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220}
        whole = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return web.json_response(whole | {"usage": usage})

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        app.router.add_get("/v1/models", models)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        Path(port_file).write_text(str(port))
        await asyncio.Event().wait()

    asyncio.run(run())


def measure_relabel(source: str, judge: str, limit: str = "") -> dict[str, Any]:
    """Relabel a file, or its first rows, in this process."""
    import openai  # noqa: F401  (imported early, because start-up is not measured)

    from schemas.recipe import Limits
    from tasks.models import ModelSettings
    from tasks.relabel.file import relabel_file

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = ModelSettings(
            data_dir=PROJECT / "data",
            run_dir=home / "run",
            cache_path=home / "answers.sqlite",
            limits=lambda name: Limits(max_in_flight=IN_FLIGHT),
        )
        settings = replace(settings, free=frozenset({judge}))
        start, cpu = time.perf_counter(), time.process_time()
        result = relabel_file(
            Path(source),
            settings=settings,
            judges=(judge,),
            out=home / "out.jsonl",
            limit=int(limit) if limit else None,
        )
        wall, spent = time.perf_counter() - start, time.process_time() - cpu
    calls = sum(cost["calls"] for cost in result["report"]["cost"].values())
    return {
        "rows": result["rows"],
        "rows_read": result["rows"] + result["rows_left_out"],
        "candidates": result["candidates"],
        "calls": int(calls),
        "seconds": wall,
        "cpu_s": spent,
    }


def relabel_into(source: str, out: str) -> dict[str, Any]:
    """Relabel a file with the lexical judge until the end, or until this process is killed."""
    from tasks.models import ModelSettings
    from tasks.relabel.file import relabel_file

    home = Path(out).parent
    settings = ModelSettings(
        data_dir=PROJECT / "data", run_dir=home / "run", cache_path=home / "answers.sqlite"
    )
    result = relabel_file(Path(source), settings=settings, judges=("lexical",), out=Path(out))
    return {"rows": result["rows"]}


def measure_restart(source: Path, rows: int) -> dict[str, Any]:
    """Kill a run after half of its parts, and measure how long the next one needs to go on."""
    from tasks.relabel.job import ROWS_PER_PART

    out = source.with_name("out.jsonl")
    command = [sys.executable, __file__, "--child", "into", str(source), str(out)]
    parts = -(-rows // ROWS_PER_PART)

    def wait_for(finished: int) -> float:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while count_parts(out) < finished:
                if process.poll() is not None:
                    raise RuntimeError(f"the run ended after {count_parts(out)} of {parts} parts")
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        return time.perf_counter() - started

    until_half = wait_for(max(1, parts // 2))
    finished = count_parts(out)
    return {
        "rows": rows,
        "parts": parts,
        "seconds_until_the_kill": until_half,
        "parts_finished": finished,
        "seconds_until_the_next_part": wait_for(finished + 1),
    }


def count_parts(out: Path) -> int:
    """Return the number of finished parts of a run."""
    return len(list(out.with_name(f".{out.name}.parts").glob("[0-9]*/summary.json")))


def measure_bare(source: str, judge: str, calls: int) -> dict[str, Any]:
    """Send similar requests with the bare client in this process."""
    from tasks.judges.relevance import read_query_criterion
    from tasks.models.prompts import fence

    prompt = read_query_criterion(PROJECT / "data").evidence
    rows = [json.loads(line) for line in Path(source).read_text().splitlines()]
    shape = {"type": "object", "properties": {"evidence": {"type": "string"}}, "required": ["evidence"]}
    shape |= {"additionalProperties": False}
    format_ = {
        "type": "json_schema",
        "json_schema": {"name": "EvidenceAnswer", "strict": True, "schema": shape},
    }
    decoding = {"response_format": format_, "temperature": 0.0, "max_tokens": 400, "seed": 0}
    requests = [
        {"model": "m", "messages": [{"role": m.role, "content": m.content} for m in messages], **decoding}
        for r in rows
        for t in (*r["pos"], *r["neg"])
        for messages in (prompt.fill(query=fence(r["query"], "query"), passage=fence(t, "passage")),)
    ]
    url = judge.partition("@")[2]
    send_all(url, requests[:1], 1)
    start, cpu = time.perf_counter(), time.process_time()
    send_all(url, itertools.islice(itertools.cycle(requests), calls), IN_FLIGHT)
    wall, spent = time.perf_counter() - start, time.process_time() - cpu
    return {"calls": calls, "seconds": wall, "cpu_s": spent}


def run_in_process(*arguments: object) -> dict[str, Any]:
    """Run a measurement in a new process and return its result with its peak memory."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_child(part: str, *arguments: str) -> None:
    """Run the server or a measurement in the process that `run_in_process` starts."""
    if part == "serve":
        serve(*arguments)
        return
    if part == "relabel":
        result = measure_relabel(*arguments)
    elif part == "into":
        result = relabel_into(*arguments)
    else:
        source, judge, calls = arguments
        result = measure_bare(source, judge, int(calls))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result | {"peak_mb": round(peak)}))


def run(
    rows: int, memory: list[int], restart: int = 0, read: int = 0, negatives: int = NEGATIVES
) -> dict[str, Any]:
    """Run all measurements. Without rows, a measurement is left out."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jsonl"
        if rows:
            write_rows(source, rows)
            result |= compare_rates(source)
        result["memory"] = []
        for count in memory:
            write_rows(source, count, negatives)
            result["memory"].append(run_in_process("relabel", source, "lexical"))
        if read:
            write_rows(source, read, negatives)
            result["memory"].append(run_in_process("relabel", source, "lexical", TRIAL))
        if restart:
            write_rows(source, restart)
            result["restart"] = measure_restart(source, restart)
    return result


def compare_rates(source: Path) -> dict[str, Any]:
    """Relabel a file, and send as many requests with the bare client."""
    port_file = source.with_name("port")
    server = subprocess.Popen([sys.executable, __file__, "--child", "serve", str(port_file)])
    try:
        while not port_file.is_file() or not port_file.read_text():
            time.sleep(0.05)
        judge = f"openai:m@http://127.0.0.1:{port_file.read_text()}/v1"
        relabel = run_in_process("relabel", source, judge)
        bare = run_in_process("bare", source, judge, relabel["calls"])
    finally:
        server.terminate()
        server.wait()
    rates = {"relabel": _with_rates(relabel), "bare_client": _with_rates(bare)}
    share = rates["relabel"]["calls_per_s"] / rates["bare_client"]["calls_per_s"]
    return {**rates, "share_of_bare_rate": share}


def _with_rates(found: dict[str, Any]) -> dict[str, Any]:
    per = {
        "calls_per_s": found["calls"] / found["seconds"],
        "cpu_ms_per_call": 1000 * found["cpu_s"] / found["calls"],
    }
    return found | per | ({"rows_per_s": found["rows"] / found["seconds"]} if "rows" in found else {})


def print_results(result: dict[str, Any]) -> None:
    """Print the results as text."""
    for name in ("relabel", "bare_client") if "relabel" in result else ():
        line = result[name]
        rows = f"{line['rows_per_s']:.1f} rows/s, " if "rows_per_s" in line else ""
        print(
            f"{name:12} {rows}{line['calls_per_s']:.0f} calls/s, "
            f"{line['cpu_ms_per_call']:.2f} CPU ms per call,"
            f" peak {line['peak_mb']} MB ({line['calls']} calls)"
        )
    if "share_of_bare_rate" in result:
        print(f"rate relative to the bare client: {result['share_of_bare_rate']:.2f}")
    for line in result["memory"]:
        print(
            f"{line['rows_read']:>8} rows read, {line['rows']} relabelled, {line['candidates']} candidates: "
            f"peak {line['peak_mb']} MB, {line['cpu_s']:.1f} CPU s, {line['seconds']:.1f} s, lexical judge"
        )
    if line := result.get("restart"):
        print(
            f"{line['rows']:>8} rows: killed after {line['parts_finished']} of {line['parts']} parts "
            f"({line['seconds_until_the_kill']:.1f} s); the next one was finished "
            f"{line['seconds_until_the_next_part']:.1f} s after the restart"
        )


def main() -> None:
    """Run the measurements and print them."""
    if sys.argv[1:2] == ["--child"]:
        run_child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300, help="rows of the comparison with the bare client")
    parser.add_argument(
        "--memory", type=int, nargs="*", default=[1_000, 10_000, 100_000], help="rows of the memory checks"
    )
    parser.add_argument("--read", type=int, default=0, help="rows of a file of which few are relabelled")
    parser.add_argument("--negatives", type=int, default=NEGATIVES, help="negatives per row for the memory")
    parser.add_argument("--restart", type=int, default=20_000, help="rows of the run that is killed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    result = run(options.rows, options.memory, options.restart, options.read, options.negatives)
    print(json.dumps(result)) if options.json else print_results(result)


if __name__ == "__main__":
    main()
