"""The world in which builds are disturbed: a model server on loopback, Prefect's server, a small recipe, and
one build that nothing disturbed."""

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

from benchmarks.chaos_nursery import PROJECT, Child, Ended, Job, Nursery
from tests.flows.test_build import bytes_of, scripted, write_recipe
from tests.servers.openai_server import OpenAIServer

IN_FLIGHT = 8
LATENCY_S = 0.005
PREFECT_STARTS_S = 180


@dataclass
class World:
    """What all cases share."""

    place: Path
    server: OpenAIServer
    nursery: Nursery
    recipe: Path
    release: dict[str, str] = field(default_factory=dict)
    """Path to sha256 of every file of the undisturbed release."""
    seconds: list[float] = field(default_factory=list)
    """How long each step of the undisturbed build took, its start before them and its end after them."""
    asking: list[int] = field(default_factory=list)
    """Which of these steps sent calls."""
    size: int = 0
    """Bytes that the undisturbed build left on disk."""
    sent: Counter[str] = field(default_factory=Counter)
    """What the undisturbed build asked, and how often."""
    homes: int = 0

    def home(self, *, like: Path | None = None) -> Path:
        """A new home, empty or a copy."""
        self.homes += 1
        home = self.place / f"home-{self.homes}"
        if like:
            shutil.copytree(like, home)
        home.mkdir(exist_ok=True)
        return home

    def start(self, home: Path, *options: str, **limits: Any) -> Child:
        """Begin a build in that home."""
        output = self.place / f"{home.name}.output"
        output.mkdir(exist_ok=True)
        arguments = ["build", str(self.recipe), "--json", *options]
        return self.nursery.start(Job(arguments, str(home), str(output), **limits))

    def build(self, home: Path, *options: str, **limits: Any) -> Ended:
        """Build to whatever end it comes to."""
        return self.start(home, *options, **limits).wait()

    @property
    def steps(self) -> int:
        """Where a build can be: before its first step, in each, and writing the release."""
        return len(self.seconds)

    def is_whole(self, ended: Ended) -> bool:
        """Whether it ended in the undisturbed release, to the byte."""
        return ended.code == 0 and bytes_of(json.loads(ended.out)["release"]) == self.release

    def asked(self) -> Counter[str]:
        """What the server has been asked so far, and how often."""
        return Counter(
            hashlib.sha256(json.dumps(r.body, sort_keys=True).encode()).hexdigest()
            for r in list(self.server.requests)
        )

    def sent_again(self, before: Counter[str]) -> int:
        """Calls since then that an undisturbed build does not send."""
        return ((self.asked() - before) - self.sent).total()


def steps_noted(home: Path) -> int:
    """Steps that the build in this home has taken so far."""
    journal = home / "runs" / "chaos" / "journal.jsonl"
    try:
        return journal.read_bytes().count(b'"kind":"step"')
    except OSError:
        return 0


@contextmanager
def open_world(seed: int) -> Iterator[World]:
    """Start the servers and build once, undisturbed. Everything is gone when the block ends."""
    place = Path(tempfile.mkdtemp(prefix="counterfoil-chaos-"))
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "OPENAI_"))}
    try:
        with (
            prefect_server(place, own) as api,
            Nursery({**own, "PREFECT_API_URL": api, "HF_HUB_OFFLINE": "1"}) as nursery,
        ):
            wait_until_ready(api)
            server = OpenAIServer(scripted, latency_s=LATENCY_S).__enter__()
            world = World(place, server, nursery, small_recipe(place, server, seed))
            try:
                build_undisturbed(world)
                yield world
            finally:
                world.server.__exit__(None, None, None)  # which may be another by now
    finally:
        shutil.rmtree(place, ignore_errors=True)


def small_recipe(place: Path, server: OpenAIServer, seed: int) -> Path:
    """Every stage has something to do, and little."""
    families = {
        "open": {"questions": 4, "samples": 2, "max_tokens": 30, "framings": ["explicit", "implicit"]},
        "decision": {"questions": 2, "samples": 2},
        "completion": {"questions": 2, "samples": 1, "attributes": ["beauty"]},
    }
    limits = {"max_in_flight": IN_FLIGHT}
    return write_recipe(
        place / "recipe.yaml", server, name="chaos", seed=seed, families=families, limits=limits
    )


def build_undisturbed(world: World) -> None:
    home = world.home()
    child = world.start(home)
    noted, moments = 0, [time.monotonic()]
    while child.running():
        now = steps_noted(home)
        moments += [time.monotonic()] * (now - noted)
        noted = now
        time.sleep(0.01)
    moments.append(time.monotonic())
    ended = child.wait()
    if ended.code:
        raise SystemExit(f"the undisturbed build failed:\n{ended.err}")
    world.release = bytes_of(json.loads(ended.out)["release"])
    world.seconds = [b - a for a, b in pairwise(moments)]
    world.sent = world.asked()
    journal = (home / "runs" / "chaos" / "journal.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in journal if '"kind":"step"' in line]
    world.asking = [number for number, entry in enumerate(entries) if entry["sent"]]
    world.size = sum(file.stat().st_size for file in home.rglob("*") if file.is_file())


def start_until(world: World, home: Path, step: int, chance: random.Random) -> Child:
    """Begin a build and return when it is somewhere within that step (0: before the first), or has ended."""
    child = world.start(home)
    while steps_noted(home) < step and child.running():
        time.sleep(0.005)
    time.sleep(world.seconds[step] * chance.random())
    return child


@contextmanager
def prefect_server(place: Path, own: dict[str, str]) -> Iterator[str]:
    """Prefect's own server, for all builds; yields its address before it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {
        "PREFECT_HOME": str(place / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    }
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("prefect")), "server", "start", "--port", str(port)],
        env={**own, **quiet},
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
    deadline = time.monotonic() + PREFECT_STARTS_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{api}/health", timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("Prefect's server did not start")
