"""Compare the throughput of relabelling with a bare client, and measure its memory by number of rows.

    python benchmarks/relabel_throughput.py [--rows 300] [--memory 1000 10000 100000] [--json]

A server on the loopback interface, in its own process, answers after 50 ms. Relabelling (two stages, one
model, 64 in flight, an empty answer cache) reads rows of one positive and ten negatives from a file and
writes the result. The bare client (benchmarks/bare_client.py) sends the same number of similar requests and
discards the answers. Memory is measured with the lexical judge. Every measurement runs in a separate process,
and CPU seconds are those of that process.
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

LATENCY_S, IN_FLIGHT, NEGATIVES = 0.05, 64, 10
WORDS = [f"{a}{b}{c}" for a in ("ba", "ke", "li", "mo", "ru") for b in ("na", "te", "si") for c in "dlmnrst"]


def write_rows(path: Path, count: int) -> None:
    """Write rows of random words. Some passages of a row share words with its query."""
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            rng = random.Random(number)
            query = " ".join(rng.choices(WORDS, k=4))
            texts = [" ".join(rng.choices(WORDS, k=36)) + f" {number} {i}." for i in range(NEGATIVES + 1)]
            texts = [f"{text} {query}." if i % 4 == 0 else text for i, text in enumerate(texts)]
            record = {"query": query, "pos": texts[:1], "neg": texts[1:]}
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


def measure_relabel(source: str, judge: str) -> dict[str, Any]:
    """Relabel a file in this process."""
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
        result = relabel_file(Path(source), settings=settings, judges=(judge,), out=home / "out.jsonl")
        wall, spent = time.perf_counter() - start, time.process_time() - cpu
    calls = sum(cost["calls"] for cost in result["report"]["cost"].values())
    return {"rows": result["rows"], "calls": int(calls), "seconds": wall, "cpu_s": spent}


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
    else:
        source, judge, calls = arguments
        result = measure_bare(source, judge, int(calls))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result | {"peak_mb": round(peak)}))


def run(rows: int, memory: list[int]) -> dict[str, Any]:
    """Run all measurements."""
    with tempfile.TemporaryDirectory() as folder:
        source, port_file = Path(folder) / "in.jsonl", Path(folder) / "port"
        write_rows(source, rows)
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
        memory_rows = []
        for count in memory:
            write_rows(source, count)
            memory_rows.append(run_in_process("relabel", source, "lexical"))
    rates = {"relabel": _with_rates(relabel), "bare_client": _with_rates(bare)}
    share = rates["relabel"]["calls_per_s"] / rates["bare_client"]["calls_per_s"]
    return {**rates, "share_of_bare_rate": share, "memory": memory_rows}


def _with_rates(found: dict[str, Any]) -> dict[str, Any]:
    per = {
        "calls_per_s": found["calls"] / found["seconds"],
        "cpu_ms_per_call": 1000 * found["cpu_s"] / found["calls"],
    }
    return found | per | ({"rows_per_s": found["rows"] / found["seconds"]} if "rows" in found else {})


def print_results(result: dict[str, Any]) -> None:
    """Print the results as text."""
    for name in ("relabel", "bare_client"):
        line = result[name]
        rows = f"{line['rows_per_s']:.1f} rows/s, " if "rows_per_s" in line else ""
        print(
            f"{name:12} {rows}{line['calls_per_s']:.0f} calls/s, "
            f"{line['cpu_ms_per_call']:.2f} CPU ms per call,"
            f" peak {line['peak_mb']} MB ({line['calls']} calls)"
        )
    print(f"rate relative to the bare client: {result['share_of_bare_rate']:.2f}")
    for line in result["memory"]:
        print(f"{line['rows']:>8} rows: peak {line['peak_mb']} MB, {line['cpu_s']:.1f} CPU s, lexical judge")


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
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    result = run(options.rows, options.memory)
    print(json.dumps(result)) if options.json else print_results(result)


if __name__ == "__main__":
    main()
