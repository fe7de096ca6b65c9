"""Send the prompts of `benchmarks/respond.py` with another library, in its own environment.

    <environment>/bin/python benchmarks/respond_peers.py PEER URL PROMPTS IN_FLIGHT OUT

Every library gets the same model, endpoint, number of requests in flight, and limit of 64 tokens. The output
is one line of JSON with CPU and wall-clock seconds from the prompts to a Parquet file. The times exclude
imports and include child processes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def prompt(number: int) -> str:
    """Return one prompt."""
    return f"question {number}: " + "what would you do about it? " * 6


def prompts(count: int) -> list[str]:
    """Return the first prompts."""
    return [prompt(number) for number in range(count)]


def curator(url: str, count: int, in_flight: int, out: Path) -> Callable[[], int]:
    """Prepare a run of bespokelabs-curator."""
    import tiktoken
    from bespokelabs import curator
    from datasets import Dataset

    # Curator's token counts need a vocabulary from the network. This replacement costs it no time.
    encoding = type("FourCharacters", (), {"encode": lambda self, text, **_: range(len(text) // 4)})()
    tiktoken.encoding_for_model = tiktoken.get_encoding = lambda name: encoding

    class Ask(curator.LLM):  # type: ignore[misc]
        def prompt(self, row: dict[str, Any]) -> str:
            return str(row["prompt"])

        def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
            return {"prompt": row["prompt"], "text": response}

    ask = Ask(
        model_name="test-model",
        backend="openai",
        generation_params={"max_tokens": 64},
        backend_params={
            "base_url": url,
            "api_key": "none",
            "max_concurrent_requests": in_flight,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "request_timeout": 60,
        },
    )
    rows = Dataset.from_dict({"prompt": prompts(count)})

    def run() -> int:
        answers = ask(rows, working_dir=str(out.parent / "curator"))
        table = getattr(answers, "dataset", answers)
        table.to_parquet(str(out))
        return len(table)

    return run


def distilabel(url: str, count: int, in_flight: int, out: Path) -> Callable[[], int]:
    """Prepare a run of distilabel."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    with Pipeline(name="peer", cache_dir=str(out.parent / "distilabel")) as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": p} for p in prompts(count)], batch_size=in_flight)
        llm = OpenAILLM(
            model="test-model", base_url=url, api_key="none", generation_kwargs={"max_new_tokens": 64}
        )
        load >> TextGeneration(llm=llm, input_batch_size=in_flight)

    def run() -> int:
        table = pipeline.run()["default"]["train"]
        table.to_parquet(str(out))
        return len(table)

    return run


def inspect_ai(url: str, count: int, in_flight: int, out: Path) -> Callable[[], int]:
    """Prepare a run of Inspect."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import GenerateConfig, get_model
    from inspect_ai.solver import generate

    model = get_model(
        "openai-api/peer/test-model",
        base_url=url,
        api_key="none",
        config=GenerateConfig(max_tokens=64, max_connections=in_flight),
    )
    task = Task(dataset=MemoryDataset([Sample(input=p) for p in prompts(count)]), solver=generate())

    def run() -> int:
        (log,) = eval(
            task,
            model=model,
            log_dir=str(out.parent / "inspect"),
            display="none",
            max_samples=in_flight,
            cache=True,
        )
        texts = [s.output.completion for s in log.samples or ()]
        pq.write_table(pa.table({"text": texts}), out)
        return len(texts)

    return run


def cpu_s() -> float:
    """Return the CPU seconds of this process and its ended children."""
    uses = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in uses)


def main() -> None:
    """Run one library and print its times."""
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    peer, url, count, in_flight, out = sys.argv[1:6]
    os.environ |= {"HF_HUB_OFFLINE": "1", "TELEMETRY_ENABLED": "false", "CURATOR_DISABLE_RICH_DISPLAY": "1"}
    prepare = {"curator": curator, "distilabel": distilabel, "inspect_ai": inspect_ai}[peer]
    run = prepare(url, int(count), int(in_flight), Path(out))
    cpu, wall = cpu_s(), time.perf_counter()
    rows = run()
    result = {"rows": rows, "cpu_s": cpu_s() - cpu, "wall_s": time.perf_counter() - wall}
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
