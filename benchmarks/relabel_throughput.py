"""How fast is relabelling beside the bare client, and does memory stay flat in the number of rows?

    python benchmarks/relabel_throughput.py [--rows 300] [--memory 1000 10000 100000] [--json]

A server on the loopback answers after 50 ms, in its own process. Relabelling (two stages, one model, 64 in
flight, a fresh answer cache) reads rows of one positive and ten negatives from a file and writes the result;
the bare client is `openai` on the same transport, which sends as many of the same kind of requests and drops
the answers. Memory is measured with the judge that needs no model. Every measurement is its own process;
CPU seconds are those of that process.
"""

from __future__ import annotations

import argparse
import asyncio
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

LATENCY_S, IN_FLIGHT, NEGATIVES = 0.05, 64, 10
WORDS = [f"{a}{b}{c}" for a in ("ba", "ke", "li", "mo", "ru") for b in ("na", "te", "si") for c in "dlmnrst"]


def write_rows(path: Path, count: int) -> None:
    """Rows of words in no order; a query shares words with some of its passages."""
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            rng = random.Random(number)
            query = " ".join(rng.choices(WORDS, k=4))
            texts = [" ".join(rng.choices(WORDS, k=36)) + f" {number} {i}." for i in range(NEGATIVES + 1)]
            texts = [f"{text} {query}." if i % 4 == 0 else text for i, text in enumerate(texts)]
            record = {"query": query, "pos": texts[:1], "neg": texts[1:]}
            stream.write(json.dumps(record) + "\n")


def serve(port_file: str) -> None:
    """A judge that copies the first words of every third passage, and ranks in the order of the alphabet."""
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(LATENCY_S)
        asked = body.get("response_format", {}).get("json_schema", {}).get("name", "")
        text = body["messages"][-1]["content"]
        if asked == "RankingAnswer":
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


def relabelled(source: str, judge: str) -> dict[str, Any]:
    """Relabel a file; called in a process of its own."""
    import openai  # noqa: F401  (start-up is not measured)

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


def bare(source: str, judge: str, calls: int) -> dict[str, Any]:
    """The same client without anything around it."""
    import httpx2
    import openai

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
    bodies = [
        [
            {"role": m.role, "content": m.content}
            for m in prompt.fill(query=fence(r["query"], "query"), passage=fence(t, "passage"))
        ]
        for r in rows
        for t in (*r["pos"], *r["neg"])
    ]

    async def run() -> tuple[float, float]:
        limits = httpx2.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        client = openai.AsyncOpenAI(
            api_key="none",
            base_url=judge.partition("@")[2],
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(limits=limits),
        )
        waiting = iter(range(calls))

        async def worker() -> None:
            for number in waiting:
                await client.chat.completions.create(
                    model="m",
                    messages=bodies[number % len(bodies)],  # type: ignore[arg-type]
                    response_format=format_,  # type: ignore[arg-type]
                    temperature=0.0,
                    max_tokens=400,
                    seed=0,
                )

        start, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
        wall, spent = time.perf_counter() - start, time.process_time() - cpu
        await client.close()
        return wall, spent

    wall, spent = asyncio.run(run())
    return {"calls": calls, "seconds": wall, "cpu_s": spent}


def measured(*arguments: object) -> dict[str, Any]:
    """One measurement in a fresh process, with its peak memory."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(what: str, *arguments: str) -> None:
    """What `measured` starts."""
    if what == "serve":
        serve(*arguments)
        return
    found = (
        relabelled(*arguments) if what == "relabel" else bare(arguments[0], arguments[1], int(arguments[2]))
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found | {"peak_mb": round(peak)}))


def run(rows: int, memory: list[int]) -> dict[str, Any]:
    """Both tables."""
    with tempfile.TemporaryDirectory() as folder:
        source, port_file = Path(folder) / "in.jsonl", Path(folder) / "port"
        write_rows(source, rows)
        server = subprocess.Popen([sys.executable, __file__, "--child", "serve", str(port_file)])
        try:
            while not port_file.is_file() or not port_file.read_text():
                time.sleep(0.05)
            judge = f"openai:m@http://127.0.0.1:{port_file.read_text()}/v1"
            ours = measured("relabel", source, judge)
            theirs = measured("bare", source, judge, ours["calls"])
        finally:
            server.terminate()
            server.wait()
        flat = []
        for count in memory:
            write_rows(source, count)
            flat.append(measured("relabel", source, "lexical"))
    return {
        "relabel": _rates(ours),
        "bare_client": _rates(theirs),
        "share_of_bare_rate": (ours["calls"] / ours["seconds"]) / (theirs["calls"] / theirs["seconds"]),
        "memory": flat,
    }


def _rates(found: dict[str, Any]) -> dict[str, Any]:
    per = {
        "calls_per_s": found["calls"] / found["seconds"],
        "cpu_ms_per_call": 1000 * found["cpu_s"] / found["calls"],
    }
    return found | per | ({"rows_per_s": found["rows"] / found["seconds"]} if "rows" in found else {})


def show(result: dict[str, Any]) -> None:
    """The tables, for people."""
    for name in ("relabel", "bare_client"):
        line = result[name]
        rows = f"{line['rows_per_s']:.1f} rows/s, " if "rows_per_s" in line else ""
        print(
            f"{name:12} {rows}{line['calls_per_s']:.0f} calls/s, {line['cpu_ms_per_call']:.2f} CPU ms a call,"
            f" peak {line['peak_mb']} MB ({line['calls']} calls)"
        )
    print(f"rate beside the bare client: {result['share_of_bare_rate']:.2f}")
    for line in result["memory"]:
        print(f"{line['rows']:>8} rows: peak {line['peak_mb']} MB, {line['cpu_s']:.1f} CPU s, lexical judge")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--memory", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = run(options.rows, options.memory)
    print(json.dumps(result)) if options.json else show(result)


if __name__ == "__main__":
    main()
