"""Servers, a small recipe, and a reference build without faults for `benchmarks/chaos.py`."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.chaos_processes import PROJECT, Command, CommandResult, CommandSpec, ForkServer
from tests.flows.test_build import bytes_of, scripted, write_recipe
from tests.servers.openai_server import OpenAIServer

IN_FLIGHT = 8
LATENCY_S = 0.005
PREFECT_TIMEOUT_S = 180


@dataclass
class ChaosWorld:
    """Resources that all cases share."""

    folder: Path
    server: OpenAIServer
    forks: ForkServer
    recipe: Path
    release: dict[str, str] = field(default_factory=dict)
    """SHA-256 by path of every file of the reference release."""
    seconds: list[float] = field(default_factory=list)
    """Duration of each phase of the reference build: its start, its steps, and writing the release."""
    calling_steps: list[int] = field(default_factory=list)
    """Indices of the steps that sent calls."""
    size: int = 0
    """Bytes on disk after the reference build."""
    sent: Counter[str] = field(default_factory=Counter)
    """Number of requests of the reference build by hash of the request."""
    homes: int = 0
    """Number of home directories so far."""

    def home(self, *, like: Path | None = None) -> Path:
        """Create a home directory, empty or as a copy of `like`."""
        self.homes += 1
        home = self.folder / f"home-{self.homes}"
        if like:
            shutil.copytree(like, home)
        home.mkdir(exist_ok=True)
        return home

    def start(self, home: Path, *options: str, **limits: Any) -> Command:
        """Start a build in a home directory."""
        output = self.folder / f"{home.name}.output"
        output.mkdir(exist_ok=True)
        arguments = ["build", str(self.recipe), "--json", *options]
        return self.forks.start(CommandSpec(arguments, str(home), str(output), **limits))

    def build(self, home: Path, *options: str, **limits: Any) -> CommandResult:
        """Build and return the result, failed or not."""
        return self.start(home, *options, **limits).wait()

    @property
    def steps(self) -> int:
        """Number of phases of a build: its start, its steps, and writing the release."""
        return len(self.seconds)

    def is_whole(self, ended: CommandResult) -> bool:
        """Check that a build produced the reference release, to the byte."""
        return ended.code == 0 and bytes_of(json.loads(ended.out)["release"]) == self.release

    def requests(self) -> Counter[str]:
        """Count the requests that the server has received so far, by hash of the request."""
        return Counter(
            hashlib.sha256(json.dumps(r.body, sort_keys=True).encode()).hexdigest()
            for r in list(self.server.requests)
        )

    def sent_again(self, before: Counter[str]) -> int:
        """Count the calls since `before` that the reference build does not send."""
        return ((self.requests() - before) - self.sent).total()


def count_steps(home: Path) -> int:
    """Count the finished steps of the build in a home directory."""
    journal = home / "runs" / "chaos" / "journal.jsonl"
    try:
        return journal.read_bytes().count(b'"kind":"step"')
    except OSError:
        return 0


@contextmanager
def start_world(seed: int) -> Iterator[ChaosWorld]:
    """Start the servers and build the reference release. Remove everything when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-chaos-"))
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "OPENAI_"))
    }
    try:
        with (
            run_prefect_server(folder, inherited) as api,
            ForkServer({**inherited, "PREFECT_API_URL": api, "HF_HUB_OFFLINE": "1"}) as forks,
        ):
            wait_until_ready(api)
            server = OpenAIServer(scripted, latency_s=LATENCY_S).__enter__()
            world = ChaosWorld(folder, server, forks, write_small_recipe(folder, server, seed))
            try:
                build_reference(world)
                yield world
            finally:
                world.server.__exit__(None, None, None)  # a case may have replaced the server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_small_recipe(folder: Path, server: OpenAIServer, seed: int) -> Path:
    """Write a recipe that gives every stage a little work."""
    families = {
        "open": {"questions": 4, "samples": 2, "max_tokens": 30, "framings": ["explicit", "implicit"]},
        "decision": {"questions": 2, "samples": 2},
        "completion": {"questions": 2, "samples": 1, "attributes": ["beauty"]},
    }
    limits = {"max_in_flight": IN_FLIGHT}
    return write_recipe(
        folder / "recipe.yaml", server, name="chaos", seed=seed, families=families, limits=limits
    )


def build_reference(world: ChaosWorld) -> None:
    """Build without faults, and record its release, its calls and the duration of its steps."""
    home = world.home()
    command = world.start(home)
    finished, moments = 0, [time.monotonic()]
    while command.running():
        now = count_steps(home)
        moments += [time.monotonic()] * (now - finished)
        finished = now
        time.sleep(0.01)
    moments.append(time.monotonic())
    result = command.wait()
    if result.code:
        raise SystemExit(f"the build without faults failed:\n{result.err}")
    world.release = bytes_of(json.loads(result.out)["release"])
    world.seconds = [b - a for a, b in pairwise(moments)]
    world.sent = world.requests()
    journal = (home / "runs" / "chaos" / "journal.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in journal if '"kind":"step"' in line]
    world.calling_steps = [number for number, entry in enumerate(entries) if entry["sent"]]
    world.size = sum(file.stat().st_size for file in home.rglob("*") if file.is_file())


def start_until_step(world: ChaosWorld, home: Path, step: int, chance: random.Random) -> Command:
    """Start a build and return at a random moment within a phase, or when the build has ended."""
    child = world.start(home)
    while count_steps(home) < step and child.running():
        time.sleep(0.005)
    time.sleep(world.seconds[step] * chance.random())
    return child


@contextmanager
def run_prefect_server(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a Prefect server for all builds. Yield its address before it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    }
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("prefect")), "server", "start", "--port", str(port)],
        env={**environment, **quiet},
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(api: str) -> None:
    """Wait until the Prefect server answers."""
    deadline = time.monotonic() + PREFECT_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{api}/health", timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"the Prefect server did not answer within {PREFECT_TIMEOUT_S} s")
