"""What can happen to a build, and how it ends: a function for each kind of disaster, a `Case` for each time.

Every case ends with a build that nothing disturbs any more, in the home that the disaster left.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks.chaos_nursery import PROJECT, Child, Ended
from benchmarks.chaos_world import IN_FLIGHT, LATENCY_S, World, start_until
from tasks.models.cache import BATCH
from tests.flows.test_build import scripted
from tests.servers.openai_server import OpenAIServer

MEMORY = Path("/sys/fs/cgroup/memory")
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One disaster."""

    fault: str
    moment: str
    ended: str
    """`whole`: in the undisturbed release at once. `stop`: with an error for a person. `killed`. Else what
    was wrong."""
    whole_after: bool
    """The next build ended in the undisturbed release, to the byte."""
    sent_again: int
    """Calls that were sent twice."""
    bound: int | None
    """How many may be; None where answers were lost on disk."""
    said: str = ""
    """The first line of the error."""

    def line(self) -> str:
        return f"{self.fault}, {self.moment}: {self.ended}, {self.sent_again} sent again"

    @property
    def holds(self) -> bool:
        within = self.bound is None or self.sent_again <= self.bound
        return self.whole_after and within and self.ended in ("whole", "stop", "killed")


class CannotHappenError(Exception):
    """This machine does not let the disaster be made; says why."""


def describe(world: World, ended: Ended) -> str:
    """How it ended, in one word where it ended well."""
    if ended.code == -signal.SIGKILL:
        return "killed"
    if ended.code == 0:
        return "whole" if world.is_whole(ended) else "another release"
    clear = ended.err.rfind("error: ")
    if clear < 0 or "Traceback" in ended.err or "next: " not in ended.err[clear:]:
        return f"code {ended.code}: {ended.err.strip()[-300:]}"
    return "stop"


def said(ended: Ended) -> str:
    return ended.err[ended.err.rfind("error: ") :].splitlines()[0] if "error: " in ended.err else ""


def settle(
    world: World, home: Path, fault: str, moment: str, first: Ended, before: Counter[str], bound: int | None
) -> Case:
    """Build once more, undisturbed, and write down what came of it."""
    ended = describe(world, first)
    whole = ended == "whole" or world.is_whole(world.build(home))
    return Case(fault, moment, ended, whole, world.sent_again(before), bound, said(first))


def kill(world: World, chance: random.Random, *, times: int) -> Iterator[Case]:
    """Killed over and over in one home, ever later, until it is through; then in another home."""
    left, offset, stride = times, 0, max(1, world.steps // 10)
    while left > 0:
        home, kills = world.home(), Kills(world)
        for step in range(offset % stride, world.steps, stride):
            child = start_until(world, home, step, chance)
            kill_now(child.pid)
            if child.wait().code == -signal.SIGKILL:
                kills.note(f"step {step}")
                left -= 1
            if not left:
                break
        yield from kills.cases("SIGKILL", whole=world.is_whole(world.build(home)))
        offset += 1


class Kills:
    """Kills in one home, and what had to be sent twice after each."""

    def __init__(self, world: World) -> None:
        self._world, self._before = world, world.asked()
        self._moments: list[str] = []
        self._sent_again: list[int] = []

    def note(self, moment: str) -> None:
        self._moments.append(moment)
        self._sent_again.append(self._world.sent_again(self._before))

    def cases(self, fault: str, *, whole: bool) -> Iterator[Case]:
        """When the build is through."""
        totals = [*self._sent_again, self._world.sent_again(self._before)]
        for moment, (then, later) in zip(self._moments, pairwise(totals), strict=True):
            yield Case(fault, moment, "killed", whole, later - then, BATCH + IN_FLIGHT)


def kill_now(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_command(world: World, chance: random.Random, *, times: int) -> Iterator[Case]:
    """The console command in a process of its own, with a Prefect server of its own."""
    home, kills = world.home(), Kills(world)
    for _ in range(times):
        process = start_command(world, home)
        calls = chance.randrange(5, world.sent.total() // times)
        wait_for_calls(world, calls, partial(is_running, process))
        kill_now(process.pid)
        process.communicate()
        kills.note(f"after {calls} calls")
    whole = world.is_whole(end_of(start_command(world, home)))
    yield from kills.cases("SIGKILL, whole command", whole=whole)


def is_running(process: subprocess.Popen[str]) -> bool:
    return process.poll() is None


def wait_for_calls(world: World, calls: int, running: Callable[[], bool]) -> None:
    """Until so many more have come, or it has ended."""
    wanted = len(world.server.requests) + calls
    while len(world.server.requests) < wanted and running():
        time.sleep(0.01)


def start_command(world: World, home: Path, **environment: str) -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", "build", str(world.recipe), "--json"],
        env={**own, "COUNTERFOIL_HOME": str(home), "HF_HUB_OFFLINE": "1", **environment},
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end_of(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=300)
    return Ended(process.returncode, out, err)


def run_out_of_memory(world: World, chance: random.Random, *, times: int) -> Iterator[Case]:
    """The kernel kills what a memory cgroup cannot hold."""
    with memory_cgroup() as group:
        for _ in range(times):
            limit = chance.randrange(24, 120) * MIB
            (group / "memory.limit_in_bytes").write_text(str(limit))
            home, before = world.home(), world.asked()
            first = world.build(home, cgroup=str(group))
            moment = f"{limit // MIB} MiB"
            yield settle(world, home, "out of memory, killed", moment, first, before, BATCH + IN_FLIGHT)


@contextmanager
def memory_cgroup() -> Iterator[Path]:
    group = MEMORY / f"counterfoil-chaos-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise CannotHappenError(f"no memory cgroup can be made ({error.strerror})") from None
    try:
        yield group
    finally:
        group.rmdir()


def limit_memory(world: World, chance: random.Random, *, times: int) -> Iterator[Case]:
    """Allocations fail (RLIMIT_AS)."""
    for _ in range(times):
        limit = chance.randrange(1200, 3000, 50) * MIB
        home, before = world.home(), world.asked()
        first = world.build(home, memory=limit)
        yield settle(
            world, home, "out of memory, refused", f"{limit // MIB} MiB", first, before, BATCH + IN_FLIGHT
        )


def fill_disk(world: World, chance: random.Random, *, times: int) -> Iterator[Case]:
    """The home is on a disk that is too small; then it is made larger."""
    for number in range(times):
        home, before = world.home(), world.asked()
        size = int(world.size * (number + chance.random()) / times)
        with mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(home)):
            first = world.build(home)
            run("mount", "-o", "remount,size=1g", str(home))
            moment = f"{size // 1024} KiB"
            yield settle(world, home, "disk full", moment, first, before, BATCH + IN_FLIGHT)


def lock_cache(world: World, chance: random.Random, *, times: int) -> Iterator[Case]:
    """The cache cannot be written; then it can."""
    for _ in range(times):
        step = chance.choice(world.asking)
        home, before = world.home(), world.asked()
        killed_in(world, home, step, chance)
        (home / "cache").mkdir(exist_ok=True)
        cache = str(home / "cache")
        with mounted("--bind", cache, cache):
            run("mount", "-o", "remount,bind,ro", cache)
            first = world.build(home)
        yield settle(world, home, "read-only cache", f"step {step}", first, before, 2 * (BATCH + IN_FLIGHT))


@contextmanager
def mounted(*arguments: str) -> Iterator[None]:
    run("mount", *arguments)
    try:
        yield
    finally:
        run("umount", "--lazy", arguments[-1])


def run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise CannotHappenError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise CannotHappenError(f"{' '.join(command[:2])}: {done.stderr.strip()}")


def killed_in(world: World, home: Path, step: int, chance: random.Random) -> None:
    """A home as a kill leaves it, with a write-ahead log."""
    child: Child = start_until(world, home, step, chance)
    kill_now(child.pid)
    child.wait()


Damage = Callable[[Path, random.Random], None]


def damage_header(cache: Path, chance: random.Random) -> None:
    overwrite(cache, 0, chance.randbytes(100))


def damage_pages(cache: Path, chance: random.Random) -> None:
    for _ in range(4):
        overwrite(cache, chance.randrange(100, max(101, cache.stat().st_size)), chance.randbytes(64))


def halve(cache: Path, chance: random.Random) -> None:
    os.truncate(cache, cache.stat().st_size // 2)


def empty(cache: Path, chance: random.Random) -> None:
    os.truncate(cache, 0)


def damage_log(cache: Path, chance: random.Random) -> None:
    log = cache.with_name(f"{cache.name}-wal")
    for _ in range(4):
        overwrite(log, chance.randrange(max(1, log.stat().st_size)), chance.randbytes(64))


def halve_log(cache: Path, chance: random.Random) -> None:
    log = cache.with_name(f"{cache.name}-wal")
    os.truncate(log, log.stat().st_size // 2)


def alter_answers(cache: Path, chance: random.Random) -> None:
    """The database is sound, and says other things."""
    with sqlite3.connect(cache) as database:
        database.execute("update answers set answer = cast(replace(answer, 'a', 'e') as blob)")
    database.close()


DAMAGES: dict[str, Damage] = {
    "header": damage_header,
    "pages": damage_pages,
    "half the file": halve,
    "empty file": empty,
    "log": damage_log,
    "half the log": halve_log,
    "altered answers": alter_answers,
}


def overwrite(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(content)


def damage_cache(world: World, chance: random.Random, *, times: int) -> Iterator[Case]:
    """The cache is damaged after a kill, and all of it is needed (`--fresh`); where the build then stops, the
    cache is moved away, as it says. The kill is in a step that asks, so that there is a write-ahead log."""
    killed = killed_with_log(world, chance)
    for number in range(times):
        kind = list(DAMAGES)[number % len(DAMAGES)]
        home, before = world.home(like=killed), world.asked()
        cache = home / "cache" / "answers.sqlite"
        DAMAGES[kind](cache, chance)
        first = world.build(home, "--fresh")
        if first.code:
            for part in cache.parent.glob(f"{cache.name}*"):
                part.rename(part.with_name(f"moved-{part.name}"))
        yield settle(world, home, "damaged cache", kind, first, before, None)


def killed_with_log(world: World, chance: random.Random, tries: int = 8) -> Path:
    """A home whose build was killed while its cache had a write-ahead log. A kill that comes too late leaves
    a build that is through, so every try is in a new home."""
    for _ in range(tries):
        home = world.home()
        killed_in(world, home, world.asking[-1], chance)
        if (home / "cache" / "answers.sqlite-wal").exists():
            return home
    raise CannotHappenError(f"{tries} kills left no write-ahead log")


def jump_clock(world: World, chance: random.Random, *, times: int) -> Iterator[Case]:
    """The clock jumps while the command works, for it and for the Prefect server that it starts."""
    shim = world.place / "clock_shift.so"
    run("cc", "-shared", "-fPIC", "-o", str(shim), str(PROJECT / "benchmarks" / "clock_shift.c"), "-ldl")
    for number in range(times):
        seconds = -3600 if number % 2 else 3600
        home, before = world.home(), world.asked()
        shift = home / "shift"
        shift.write_text("0")
        process = start_command(world, home, LD_PRELOAD=str(shim), CLOCK_SHIFT_FILE=str(shift))
        calls = chance.randrange(5, world.sent.total())
        wait_for_calls(world, calls, partial(is_running, process))
        shift.write_text(str(seconds))
        moment = f"{seconds:+} s after {calls} calls"
        yield settle(world, home, "clock jump", moment, end_of(process), before, 0)


def take_endpoint_away(world: World, chance: random.Random, *, times: int, seconds: float) -> Iterator[Case]:
    """The server stops in the middle and is back later."""
    for _ in range(times):
        home, before = world.home(), world.asked()
        child = world.start(home)
        calls = chance.randrange(5, world.sent.total())
        wait_for_calls(world, calls, child.running)
        stopped, port = world.server, world.server.port
        stopped.__exit__(None, None, None)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and child.running():
            time.sleep(0.05)
        world.server = OpenAIServer(scripted, latency_s=LATENCY_S, port=port)
        world.server.requests = stopped.requests
        world.server.__enter__()
        moment = f"{seconds:g} s after {calls} calls"
        yield settle(world, home, "endpoint gone", moment, child.wait(), before, IN_FLIGHT + BATCH)
