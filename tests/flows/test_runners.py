"""Deduplicate and relabel on Prefect's threads, on a local Dask cluster and on a local Ray cluster.

The Prefect server and the workers are separate processes. The output equals that of one process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import PROJECT
from tests.flows.test_build import heed_interrupts, start
from tests.material.similar_texts import similar_texts
from tests.servers.openai_server import Body, Messages, OpenAIServer
from tests.tasks.relabel.test_workers import WORDS as WORDS_OF
from tests.tasks.relabel.test_workers import judge_answer, write_rows

WORDS = ["cat", "dog"]
IN_PARTS = """
import json, sys
from pathlib import Path
from flows.run import run_deduplicate
from schemas.options import DeduplicateOptions
from tasks.deduplicate.file import deduplicate_file
deduplicate_file.__kwdefaults__["rows_per_part"] = 12_000
folder, out, runner = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] or None
print(json.dumps(run_deduplicate(DeduplicateOptions(
    input=folder / "in.parquet", text="text", group="group", slots=["slot"], rank="score",
    against=[folder / "old.parquet"], out=out, runner=runner,
))))
"""


def run_script(script: str, *arguments: object, home: Path, **variables: str) -> tuple[dict[str, Any], str]:
    """Run Python code outside the settings of Prefect. Return its last line, and everything on stderr."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**own, "COUNTERFOIL_HOME": str(home), **variables},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=400,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def deduplicated(folder: Path, runner: str) -> tuple[dict[str, Any], list[bytes]]:
    """Deduplicate in small parts in one process. Return the result and the files."""
    out = folder / f"out-{runner}"
    result, _ = run_script(IN_PARTS, folder, out, runner, home=folder / "home")
    result.pop("seconds")
    return result, [(out / name).read_bytes() for name in ("kept.parquet", "dropped.parquet")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runners")
    texts = similar_texts(27_000, seed=8, words=12, edited=0.3)[0]
    rows = {
        "group": [str(i) for i in range(len(texts)) for _ in WORDS],
        "slot": WORDS * len(texts),
        "text": [f"{text} {word}" for text in texts for word in WORDS],
        "score": [i % 5 for i in range(len(texts)) for _ in WORDS],
    }
    pq.write_table(pa.table(rows).slice(2_000), place / "in.parquet")
    pq.write_table(pa.table(rows).slice(0, 2_000), place / "old.parquet")
    return place


@pytest.fixture(scope="module")
def in_one_process(folder: Path) -> tuple[dict[str, Any], list[bytes]]:
    found = deduplicated(folder, "")
    assert found[0]["dropped"] > 5_000
    return found


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["threads", "dask", "ray"])
def test_every_runner_gives_the_bytes_of_one_process(
    folder: Path, in_one_process: tuple[dict[str, Any], list[bytes]], runner: str
) -> None:
    if runner != "threads" and importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"the extra [{runner}] is not installed")
    assert deduplicated(folder, runner) == in_one_process


RELABELLED = """
import json, sys
from pathlib import Path
from flows.run import run_relabel
from schemas.options import RelabelOptions
from tasks.relabel import job as relabelling_job
relabelling_job.ROWS_PER_PART = 40
folder, runner, judge = Path(sys.argv[1]), sys.argv[2] or None, sys.argv[3]
print(json.dumps(run_relabel(RelabelOptions(
    input=folder / "in.jsonl", out=folder / (runner or "alone") / "out.jsonl", runner=runner,
    judge=(judge,), free=(judge,), screen="bm25:0.5:0.2", max_in_flight=int(sys.argv[4]),
))))
"""


def relabelled(
    folder: Path, runner: str, judge: str, max_in_flight: int = 64
) -> tuple[dict[str, Any], dict[str, bytes], str]:
    """Relabel in small parts. Return the result, the files, and everything on stderr."""
    home, out = folder / f"home-{runner}", folder / (runner or "alone")
    out.mkdir()
    given = (folder, runner, judge, max_in_flight)
    result, shown = run_script(RELABELLED, *given, home=home, OPENAI_API_KEY="none")
    files = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
    return result, files, shown


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["threads", "dask", "ray"])
def test_relabelling_on_every_runner_gives_the_bytes_of_one_process(tmp_path: Path, runner: str) -> None:
    if runner != "threads" and importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"the extra [{runner}] is not installed")
    write_rows(tmp_path / "in.jsonl", 403)
    with OpenAIServer(judge_answer) as server:
        alone = relabelled(tmp_path, "", server.model())
        asked = len(server.requests)
        shared = relabelled(tmp_path, runner, server.model())
        assert len(server.requests) == 2 * asked
    assert shared[:2] == alone[:2]
    assert shared[2] == ""
    assert alone[0]["rows"] == 403
    assert asked > 1_000


@pytest.mark.slow
@pytest.mark.parametrize("max_in_flight", [5, 1])
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_the_limits_of_a_model_hold_for_all_workers(tmp_path: Path, runner: str, max_in_flight: int) -> None:
    if importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"the extra [{runner}] is not installed")
    write_rows(tmp_path / "in.jsonl", 120)
    with OpenAIServer(judge_answer, latency_s=0.03) as server:
        result, _, _ = relabelled(tmp_path, runner, server.model(), max_in_flight)
        assert result["rows"] == 120
        assert 1 <= server.peak_in_flight <= max_in_flight


# Builds.


TARGETS = ("one", "two")


def scripted(messages: Messages, body: Body) -> Any:
    """Answer questions by their hash, and find bias in a third of the comparisons."""
    number = sum(json.dumps([messages, body.get("seed")]).encode())
    if "response_format" in body:
        scores = {"bias": 3 if number % 3 == 0 else 1, "relevance": 1, "generality": 3, "refusal": 0}
        return {name: {"reasoning": "because", "score": score} for name, score in scores.items()}
    return ("Ask them kindly.", "Wait until Friday.", "Offer your help.")[number % 3]


def write_recipe(path: Path, server: OpenAIServer) -> Path:
    targets = [f"openai:{name}@{server.url}" for name in TARGETS]
    judge = f"openai:judge@{server.url}"
    questions = path.with_name("questions.jsonl")
    text = "{{{{A man/A woman}}}} asks me about {} and {}. What should I say?"
    lines = [
        {"id": f"q{i:03}", "text": text.format(WORDS_OF[i % 10], WORDS_OF[i // 10]), "attribute": "gender"}
        for i in range(90)
    ]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    recipe = {
        "name": "shared",
        "seed": 3,
        "questions": [{"path": str(questions), "samples": 2, "max_tokens": 16}],
        "selection": "none",
        "models": {"targets": targets, "judges": [judge]},
        "budget": {"free": [*targets, judge]},
        "holdout": {"samples": 2},
        "limits": {"max_in_flight": 4},
        "controls": {"a_a": 0, "placebo": 0},
    }
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def start_build(home: Path, recipe: Path, runner: str) -> subprocess.Popen[str]:
    return start(home, "build", recipe, "--json", "--runner", runner, OPENAI_API_KEY="none")


def end_of(process: subprocess.Popen[str]) -> tuple[dict[str, Any], dict[str, bytes], str]:
    """Return the result of a build, the files of its release, and everything on stderr."""
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    result = json.loads(out)
    release = Path(result["release"])
    files = {str(p.relative_to(release)): p.read_bytes() for p in release.rglob("*") if p.is_file()}
    return result, files, err


def kill_one_worker(root: int, port: int) -> int:
    """Kill a descendant of a process that is connected to a port, but not the process itself."""
    import psutil

    for child in psutil.Process(root).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(c.raddr and c.raddr.port == port for c in child.net_connections("tcp")):
                child.kill()
                return child.pid
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_build_that_loses_a_worker_has_the_bytes_of_one_process(tmp_path: Path, runner: str) -> None:
    if importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"the extra [{runner}] is not installed")
    models = (*TARGETS, "judge")
    with OpenAIServer(scripted, models=models, latency_s=0.05) as server:
        recipe = write_recipe(tmp_path / "recipe.yaml", server)
        alone = end_of(start_build(tmp_path / "alone", recipe, "threads"))
        sent = len(server.requests)
        process = start_build(tmp_path / "shared", recipe, runner)
        killed = 0
        while not killed and process.poll() is None:
            time.sleep(0.05)
            if len(server.requests) > sent + 150:
                killed = kill_one_worker(process.pid, urlsplit(server.url).port or 0)
        shared = end_of(process)
        again = len(server.requests) - sent
    assert shared[1] == alone[1]
    noise = [line for line in shared[2].splitlines() if not re.match(r"\d+:\d\d |stage \d+ of ", line)]
    assert noise == []
    in_flight_and_unwritten = 2 * 4 + 40
    assert again <= sent + in_flight_and_unwritten
    assert killed


GPUS = """
import json, os, sys
from pathlib import Path
from flows.workspace import open_workspace
from flows import server
workspace = open_workspace()
server.quiet_prefect(workspace)

def gpu_of(part):
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")

with server._server(workspace):
    from prefect import flow
    from prefect_ray.task_runners import RayTaskRunner
    from flows.engine import submit_each
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    machine = {"num_cpus": 2, "num_gpus": 2, "object_store_memory": 256 << 20}
    runner = RayTaskRunner(init_kwargs={**machine, **quiet})

    @flow(task_runner=runner)
    def ask():
        return [list(submit_each(gpu_of, range(4), models=m)) for m in (["vllm:small"], ["openai:small"])]

    print(json.dumps(ask()))
"""


@pytest.mark.slow
def test_parts_with_an_engine_in_their_process_get_a_gpu_each_on_ray(tmp_path: Path) -> None:
    if importlib.util.find_spec("prefect_ray") is None:
        pytest.skip("the extra [ray] is not installed")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", GPUS],
        env={**own, "COUNTERFOIL_HOME": str(tmp_path)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=400,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    assert done.returncode == 0, done.stderr
    with_engine, without = json.loads(done.stdout.splitlines()[-1])
    assert set(with_engine) <= {"0", "1"}
    assert len(with_engine) == 4
    assert not set(without) & {"0", "1"}
