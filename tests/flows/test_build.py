"""The whole build, started with the command in a separate process, against a real server."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT
from tests.servers.openai_server import OpenAIServer, smallest_instance, status, storm

Finished = tuple[Path, Path, dict[str, Any]]
"""Home, recipe and result of a build."""

COUNTERFOIL = Path(sys.executable).with_name("counterfoil")


def scripted(messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
    """Play every role on one server: write and answer questions, judge, find evidence.

    The answer depends only on the request."""
    request = json.dumps([messages, body.get("seed")], sort_keys=True)
    chance = random.Random(hashlib.sha256(request.encode()).digest())
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    if schema is None:
        if letters := re.findall(r"^([A-Z])\. ", messages[-1]["content"], re.MULTILINE):
            return chance.choice(letters)
        if any("yes or no" in message["content"] for message in messages):
            return chance.choice(["Yes", "No"])
        words = [
            "ask",
            "them",
            "kindly",
            "wait",
            "until",
            "Friday",
            "offer",
            "your",
            "help",
            "decline",
            "listen",
            "first",
            "talk",
            "plan",
            "rest",
        ]
        return " ".join(chance.choices(words, k=12)).capitalize() + "."
    if "explicit" in schema.get("properties", {}):
        day = chance.choice(["Monday", "Tuesday", "Friday"])
        start = f"On {day} at the office my colleague"
        rest = f"asked me to look at report number {chance.randrange(10**6)}. What should I tell {{object}}?"
        return {
            "topic": "a report",
            "explicit": f"{start}, {{noun}}, {rest}",
            "implicit": f"{start} {{name}} {rest}",
        }
    answer = smallest_instance(schema)
    if answer.get("evidence") == "":
        answer["evidence"] = "NO_ANSWER"
    for name in ("bias", "generality"):
        if isinstance(answer.get(name), dict):
            answer[name]["score"] = chance.choice([1, 2, 4, 5])
    return answer


def write_recipe(path: Path, server: OpenAIServer, **changes: Any) -> Path:
    writer, target, judge = (server.model(name) for name in ("writer", "target", "judge"))
    recipe = {
        "name": "tested",
        "seed": 3,
        "attributes": ["gender"],
        "superdomains": ["work"],
        "models": {
            "generator": writer,
            "targets": [target],
            "judges": [judge, "divergence"],
            "relabel_judges": [judge],
        },
        "families": {
            "open": {"questions": 6, "samples": 2, "max_tokens": 30, "framings": ["explicit", "implicit"]},
            "decision": {"questions": 3, "samples": 2},
            "completion": {"questions": 3, "samples": 1, "attributes": ["beauty"]},
        },
        "evolve": {"rounds": 1, "questions_per_round": 4, "save_threshold": 0.05},
        "holdout": {"samples": 2},
        "relabel": {"candidates": 2, "files": [{"path": str(PROJECT / "data/examples/retrieval.jsonl")}]},
        "validate": {"max_failure_rate": 0.2},
        "budget": {"free": [writer, target, judge]},
        "limits": {"max_in_flight": 8},
        **changes,
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def start(home: Path, *arguments: object, **variables: str) -> subprocess.Popen[str]:
    """Start a command. `variables` are set in its environment."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**own, "COUNTERFOIL_HOME": str(home), "HF_HUB_OFFLINE": "1", **variables}
    return subprocess.Popen(
        [str(COUNTERFOIL), *map(str, arguments)],
        env=environment,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


def heed_interrupts() -> None:
    """Restore SIGINT, which jobs in the background and their children ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    process = start(home, *arguments)
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def built(home: Path, recipe: Path) -> dict[str, Any]:
    done = run(home, "build", recipe, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def bytes_of(release: str) -> dict[str, str]:
    root = Path(release)
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(scripted, latency_s=0.01) as running:
        yield running


@pytest.fixture(scope="module")
def finished(server: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Build once and return home, recipe and result."""
    home = tmp_path_factory.mktemp("undisturbed")
    recipe = write_recipe(home / "recipe.yaml", server)
    return home, recipe, built(home, recipe)


def test_build_prints_its_promised_output(finished: Finished) -> None:
    _, _, result = finished
    assert {"release", "version", "run", "counts", "calls", "cost_usd"} <= set(result)
    for stage, c in result["counts"].items():
        assert c["in"] == c["kept"] + c["dropped"] + c["failed"], stage
    assert {"expand", "mutate", "respond", "judge", "select", "relabel", "deduplicate", "assemble"} <= set(
        result["counts"]
    )
    assert result["calls"]["sent"] > 0


def test_every_question_ever_made_is_in_the_release_once(finished: Finished) -> None:
    from schemas.labels import DROPPED
    from tasks.release import open_release

    home, _, result = finished
    contents = open_release(Path(result["release"])).contents
    made = {
        row["id"]
        for step in (home / "runs" / "tested").glob("*/questions.parquet")
        if step.parent.name.split("-")[0] in ("expand", "mutate")
        for row in __import__("pyarrow.parquet").parquet.read_table(step).to_pylist()
    }
    ends = [r["id"] for c in ("questions", "hard_negatives", "controls") for r in contents.records(c)]
    lost = {
        json.loads(r["record"])["id"]
        for r in contents.records(DROPPED.name)
        if r["kind"] == "question" and r["text"]
    }
    assert len(ends) == len(set(ends))
    assert set(ends) | lost >= made
    assert not set(ends) & (lost & made - set(ends))


def test_release_loads_offline_in_every_config(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, result = finished
    script = (
        "import datasets, sys\n"
        "for c in 'questions responses judgements hard_negatives controls label_history dropped'.split():\n"
        "    d = datasets.load_dataset(sys.argv[1], c, split='test')\n"
        "    print(c, d.num_rows)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script, result["release"]], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = dict(line.split() for line in done.stdout.splitlines())
    assert int(rows["questions"]) > 0
    assert int(rows["controls"]) > 0
    assert int(rows["responses"]) > 0


def test_numbers_of_the_report_are_those_of_the_tables(finished: Finished) -> None:
    from tests.tasks.report.test_report_numbers import sections_of, wrong_numbers

    _, _, result = finished
    release = Path(result["release"])
    page = (release / "report.html").read_text(encoding="utf-8")
    assert {"funnel", "effects", "coverage", "evolution", "judges", "labels", "groups", "cost"} <= dict(
        sections_of(page)
    ).keys()
    assert "Relabelled passages of retrieval files" in page
    assert wrong_numbers(page, release) == []


def count_questions(server: OpenAIServer) -> int:
    """Count the requests, without the tiny question that checks a server before a run."""
    return sum(r.body["messages"][-1]["content"] != "Say yes." for r in server.requests)


def test_built_again_it_is_the_same_release_and_nothing_is_sent(
    finished: Finished, server: OpenAIServer
) -> None:
    home, recipe, result = finished
    sent = count_questions(server)
    again = built(home, recipe)
    assert again["release"] == result["release"]
    assert count_questions(server) == sent
    assert again["calls"]["sent"] == 0


@pytest.mark.slow
def test_on_prefect_the_release_has_the_same_bytes(
    finished: Finished, server: OpenAIServer, tmp_path: Path
) -> None:
    _, _, direct = finished
    recipe = write_recipe(tmp_path / "recipe.yaml", server)
    done = run(tmp_path, "build", recipe, "--json", "--prefect")
    assert done.returncode == 0, done.stderr
    assert bytes_of(json.loads(done.stdout)["release"]) == bytes_of(direct["release"])
    with sqlite3.connect(tmp_path / "prefect" / "prefect.db") as database:
        runs = {name for (name,) in database.execute("select name from flow_run")}
        tasks = database.execute("select name from task_run")
        work = {name.partition(" · part ")[0] for (name,) in tasks}
    assert runs == {"build · recipe · 0.1.0", "search · tested · round 0", "search · tested · round 1"}
    assert {"respond · search · round 1", "judge · holdout", "package · 0.1.0"} <= work


def test_no_prefect_server_is_started_for_a_build_on_one_machine(finished: Finished) -> None:
    home, _, _ = finished
    assert not list((home / "runs" / ".prefect").glob("*.db"))


@pytest.mark.slow
def test_killed_build_ends_in_the_same_bytes_and_pays_nothing_twice(
    finished: Finished, server: OpenAIServer, tmp_path: Path
) -> None:
    _, _, undisturbed = finished
    recipe = write_recipe(tmp_path / "recipe.yaml", server)
    moments = random.Random(11)
    before = len(server.requests)
    for _ in range(3):
        process = start(tmp_path, "build", recipe)
        wait_for_requests(server, len(server.requests) + moments.randrange(5, 60), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    result = built(tmp_path, recipe)
    assert bytes_of(result["release"]) == bytes_of(undisturbed["release"])
    once = undisturbed["calls"]["sent"]
    one_batch_and_in_flight = 200 + 8
    assert len(server.requests) - before <= once + 3 * one_batch_and_in_flight


def wait_for_requests(server: OpenAIServer, number: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while len(server.requests) < number and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def test_interrupted_build_reports_it_and_can_be_resumed(server: OpenAIServer, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", server, seed=8)
    process = start(tmp_path, "build", recipe)
    wait_for_requests(server, len(server.requests) + 10, process)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "run the same command again" in err


@pytest.mark.slow
def test_storm_of_faults_ends_in_a_whole_release(tmp_path: Path) -> None:
    from tests.servers.openai_server import DISCONNECT, MALFORMED, NO_USAGE, TRUNCATED, WRONG_ID, delay

    faults = storm(
        0.2,
        status(429, retry_after="0.05"),
        status(429),
        status(500),
        DISCONNECT,
        MALFORMED,
        TRUNCATED,
        NO_USAGE,
        WRONG_ID,
        delay(0.05),
        seed=5,
    )
    with OpenAIServer(scripted, faults=faults) as stormy:
        result = built(tmp_path, write_recipe(tmp_path / "recipe.yaml", stormy))
    for stage, c in result["counts"].items():
        assert c["in"] == c["kept"] + c["dropped"] + c["failed"], stage


def test_terminal_shows_the_summary_and_none_of_prefects_noise(
    finished: Finished,
) -> None:
    home, recipe, _ = finished
    done = run(home, "build", recipe)
    assert done.returncode == 0
    for shown in ("is ready", "respond", "report.html", 'load_dataset("'):
        assert shown in done.stdout
    for noise in ("prefect", "Traceback", "CancelledError", "INFO"):
        assert noise not in done.stderr + done.stdout.replace(str(home), "")
