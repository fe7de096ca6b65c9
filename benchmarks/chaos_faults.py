"""The faults of `benchmarks/chaos.py`. Each function injects one kind of fault and yields one case per time.

Every case ends with a build without faults in the home directory that the fault left behind.
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

from benchmarks.chaos_processes import PROJECT, Command, CommandResult
from benchmarks.chaos_world import IN_FLIGHT, LATENCY_S, ChaosWorld, start_until_step
from tasks.models.cache import BATCH
from tests.flows.test_build import scripted
from tests.servers.openai_server import OpenAIServer

MEMORY = Path("/sys/fs/cgroup/memory")
MIB = 1 << 20


@dataclass(frozen=True)
class FaultCase:
    """The result of one injected fault."""

    fault: str
    moment: str
    ended: str
    """`whole` (the expected release at once), `stop` (a clear error), `killed`, or a description of the
    failure."""
    whole_after: bool
    """True if the next build produced the expected release, to the byte."""
    sent_again: int
    """Number of calls that were sent twice."""
    bound: int | None
    """Largest allowed `sent_again`. `None` if the fault destroys answers on disk."""
    error: str = ""
    """First line of the error message."""

    def line(self) -> str:
        """Return the case as one line of text."""
        return f"{self.fault}, {self.moment}: {self.ended}, {self.sent_again} sent again"

    @property
    def holds(self) -> bool:
        """True if the case ended as required."""
        within_bound = self.bound is None or self.sent_again <= self.bound
        return self.whole_after and within_bound and self.ended in ("whole", "stop", "killed")


class UnsupportedFaultError(Exception):
    """The fault cannot be injected on this machine. The message gives the reason."""


def classify_result(world: ChaosWorld, ended: CommandResult) -> str:
    """Return one word for a build that ended as allowed, or a description of the failure."""
    if ended.code == -signal.SIGKILL:
        return "killed"
    if ended.code == 0:
        return "whole" if world.is_whole(ended) else "another release"
    clear = ended.err.rfind("error: ")
    if clear < 0 or "Traceback" in ended.err or "next: " not in ended.err[clear:]:
        return f"code {ended.code}: {ended.err.strip()[-300:]}"
    return "stop"


def error_line(ended: CommandResult) -> str:
    """Return the first line of the error message, or an empty string."""
    return ended.err[ended.err.rfind("error: ") :].splitlines()[0] if "error: " in ended.err else ""


def rebuild(
    world: ChaosWorld,
    home: Path,
    fault: str,
    moment: str,
    first: CommandResult,
    before: Counter[str],
    bound: int | None,
) -> FaultCase:
    """Build once more without a fault and return the case.

    Args:
        world: The world of the case.
        home: Home directory that the fault left behind.
        fault: Name of the fault.
        moment: When or how strongly it was injected.
        first: Result of the build with the fault.
        before: Requests that the server had received before the case.
        bound: Largest allowed number of calls sent twice.
    """
    ended = classify_result(world, first)
    whole = ended == "whole" or world.is_whole(world.build(home))
    return FaultCase(fault, moment, ended, whole, world.sent_again(before), bound, error_line(first))


def kill(world: ChaosWorld, chance: random.Random, *, times: int) -> Iterator[FaultCase]:
    """Kill builds in one home at ever later steps until one completes, then continue in another home."""
    left, offset, stride = times, 0, max(1, world.steps // 10)
    while left > 0:
        home, kills = world.home(), KillLog(world)
        for step in range(offset % stride, world.steps, stride):
            child = start_until_step(world, home, step, chance)
            kill_now(child.pid)
            if child.wait().code == -signal.SIGKILL:
                kills.add(f"step {step}")
                left -= 1
            if not left:
                break
        yield from kills.cases("SIGKILL", whole=world.is_whole(world.build(home)))
        offset += 1


class KillLog:
    """The kills in one home, with the number of calls that were sent twice after each."""

    def __init__(self, world: ChaosWorld) -> None:
        self._world, self._before = world, world.requests()
        self._moments: list[str] = []
        self._sent_again: list[int] = []

    def add(self, moment: str) -> None:
        """Record a kill."""
        self._moments.append(moment)
        self._sent_again.append(self._world.sent_again(self._before))

    def cases(self, fault: str, *, whole: bool) -> Iterator[FaultCase]:
        """Yield one case per kill, after the last build has ended."""
        totals = [*self._sent_again, self._world.sent_again(self._before)]
        for moment, (then, later) in zip(self._moments, pairwise(totals), strict=True):
            yield FaultCase(fault, moment, "killed", whole, later - then, BATCH + IN_FLIGHT)


def kill_now(pid: int) -> None:
    """Kill a process group. Do nothing if it has ended."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_command(world: ChaosWorld, chance: random.Random, *, times: int) -> Iterator[FaultCase]:
    """Kill the console command together with its own Prefect server."""
    home, kills = world.home(), KillLog(world)
    for _ in range(times):
        process = start_command(world, home)
        calls = chance.randrange(5, world.sent.total() // times)
        wait_for_calls(world, calls, partial(is_running, process))
        kill_now(process.pid)
        process.communicate()
        kills.add(f"after {calls} calls")
    whole = world.is_whole(wait_for_result(start_command(world, home)))
    yield from kills.cases("SIGKILL, whole command", whole=whole)


def is_running(process: subprocess.Popen[str]) -> bool:
    """Check that a process has not ended."""
    return process.poll() is None


def wait_for_calls(world: ChaosWorld, calls: int, running: Callable[[], bool]) -> None:
    """Wait until the server has received `calls` further requests, or the build has ended."""
    total = len(world.server.requests) + calls
    while len(world.server.requests) < total and running():
        time.sleep(0.01)


def start_command(world: ChaosWorld, home: Path, **environment: str) -> subprocess.Popen[str]:
    """Start `counterfoil build` as a console command."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", "build", str(world.recipe), "--json"],
        env={**inherited, "COUNTERFOIL_HOME": str(home), "HF_HUB_OFFLINE": "1", **environment},
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_result(process: subprocess.Popen[str]) -> CommandResult:
    """Wait for the end of a command and return its result."""
    out, err = process.communicate(timeout=300)
    return CommandResult(process.returncode, out, err)


def run_out_of_memory(world: ChaosWorld, chance: random.Random, *, times: int) -> Iterator[FaultCase]:
    """Build in a memory cgroup that is too small, so that the kernel kills the process."""
    with memory_cgroup() as group:
        for _ in range(times):
            limit = chance.randrange(24, 120) * MIB
            (group / "memory.limit_in_bytes").write_text(str(limit))
            home, before = world.home(), world.requests()
            first = world.build(home, cgroup=str(group))
            moment = f"{limit // MIB} MiB"
            yield rebuild(world, home, "out of memory, killed", moment, first, before, BATCH + IN_FLIGHT)


@contextmanager
def memory_cgroup() -> Iterator[Path]:
    """Create a memory cgroup for the block."""
    group = MEMORY / f"counterfoil-chaos-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise UnsupportedFaultError(f"a memory cgroup cannot be created ({error.strerror})") from None
    try:
        yield group
    finally:
        group.rmdir()


def limit_memory(world: ChaosWorld, chance: random.Random, *, times: int) -> Iterator[FaultCase]:
    """Limit the address space (RLIMIT_AS), so that allocations fail."""
    for _ in range(times):
        limit = chance.randrange(1200, 3000, 50) * MIB
        home, before = world.home(), world.requests()
        first = world.build(home, memory=limit)
        yield rebuild(
            world, home, "out of memory, refused", f"{limit // MIB} MiB", first, before, BATCH + IN_FLIGHT
        )


def fill_disk(world: ChaosWorld, chance: random.Random, *, times: int) -> Iterator[FaultCase]:
    """Build on a disk that is too small, then enlarge it."""
    for number in range(times):
        home, before = world.home(), world.requests()
        size = int(world.size * (number + chance.random()) / times)
        with mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(home)):
            first = world.build(home)
            run_command("mount", "-o", "remount,size=1g", str(home))
            moment = f"{size // 1024} KiB"
            yield rebuild(world, home, "disk full", moment, first, before, BATCH + IN_FLIGHT)


def make_cache_read_only(world: ChaosWorld, chance: random.Random, *, times: int) -> Iterator[FaultCase]:
    """Make the cache read-only during a build, then writable again."""
    for _ in range(times):
        step = chance.choice(world.calling_steps)
        home, before = world.home(), world.requests()
        kill_in_step(world, home, step, chance)
        (home / "cache").mkdir(exist_ok=True)
        cache = str(home / "cache")
        with mount("--bind", cache, cache):
            run_command("mount", "-o", "remount,bind,ro", cache)
            first = world.build(home)
        yield rebuild(world, home, "read-only cache", f"step {step}", first, before, 2 * (BATCH + IN_FLIGHT))


@contextmanager
def mount(*arguments: str) -> Iterator[None]:
    """Mount a file system for the block."""
    run_command("mount", *arguments)
    try:
        yield
    finally:
        run_command("umount", "--lazy", arguments[-1])


def run_command(*command: str) -> None:
    """Run a system command.

    Raises:
        UnsupportedFaultError: If it is missing or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UnsupportedFaultError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise UnsupportedFaultError(f"{' '.join(command[:2])}: {done.stderr.strip()}")


def kill_in_step(world: ChaosWorld, home: Path, step: int, chance: random.Random) -> None:
    """Kill a build within a step."""
    child: Command = start_until_step(world, home, step, chance)
    kill_now(child.pid)
    child.wait()


Damage = Callable[[Path, random.Random], None]


def damage_header(cache: Path, chance: random.Random) -> None:
    """Overwrite the header of the database."""
    overwrite(cache, 0, chance.randbytes(100))


def damage_pages(cache: Path, chance: random.Random) -> None:
    """Overwrite parts of four pages."""
    for _ in range(4):
        overwrite(cache, chance.randrange(100, max(101, cache.stat().st_size)), chance.randbytes(64))


def truncate_half(cache: Path, chance: random.Random) -> None:
    """Cut the database in half."""
    os.truncate(cache, cache.stat().st_size // 2)


def truncate_all(cache: Path, chance: random.Random) -> None:
    """Empty the database file."""
    os.truncate(cache, 0)


def damage_log(cache: Path, chance: random.Random) -> None:
    """Overwrite parts of the write-ahead log."""
    log = cache.with_name(f"{cache.name}-wal")
    for _ in range(4):
        overwrite(log, chance.randrange(max(1, log.stat().st_size)), chance.randbytes(64))


def truncate_log_half(cache: Path, chance: random.Random) -> None:
    """Cut the write-ahead log in half."""
    log = cache.with_name(f"{cache.name}-wal")
    os.truncate(log, log.stat().st_size // 2)


def alter_answers(cache: Path, chance: random.Random) -> None:
    """Change the stored answers in a database that stays valid."""
    with sqlite3.connect(cache) as database:
        database.execute("update answers set answer = cast(replace(answer, 'a', 'e') as blob)")
    database.close()


DAMAGES: dict[str, Damage] = {
    "header": damage_header,
    "pages": damage_pages,
    "half the file": truncate_half,
    "empty file": truncate_all,
    "log": damage_log,
    "half the log": truncate_log_half,
    "altered answers": alter_answers,
}


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Replace bytes of a file."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)


def damage_cache(world: ChaosWorld, chance: random.Random, *, times: int) -> Iterator[FaultCase]:
    """Damage the cache after a kill, then build with `--fresh`, which reads the whole cache.

    If the build stops, move the cache away as its error suggests. The kill happens in a step that sends
    calls, so that a write-ahead log exists.
    """
    killed = kill_with_log(world, chance)
    for number in range(times):
        kind = list(DAMAGES)[number % len(DAMAGES)]
        home, before = world.home(like=killed), world.requests()
        cache = home / "cache" / "answers.sqlite"
        DAMAGES[kind](cache, chance)
        first = world.build(home, "--fresh")
        if first.code:
            for part in cache.parent.glob(f"{cache.name}*"):
                part.rename(part.with_name(f"moved-{part.name}"))
        yield rebuild(world, home, "damaged cache", kind, first, before, None)


def kill_with_log(world: ChaosWorld, chance: random.Random, tries: int = 8) -> Path:
    """Return a home directory with a killed build and a write-ahead log.

    A kill that comes too late leaves a finished build, so every try uses a new home.
    """
    for _ in range(tries):
        home = world.home()
        kill_in_step(world, home, world.calling_steps[-1], chance)
        if (home / "cache" / "answers.sqlite-wal").exists():
            return home
    raise UnsupportedFaultError(f"{tries} kills left no write-ahead log")


def jump_clock(world: ChaosWorld, chance: random.Random, *, times: int) -> Iterator[FaultCase]:
    """Set the clock of the command and of its Prefect server by an hour while they run."""
    shim = world.folder / "clock_shift.so"
    run_command(
        "cc", "-shared", "-fPIC", "-o", str(shim), str(PROJECT / "benchmarks" / "clock_shift.c"), "-ldl"
    )
    for number in range(times):
        seconds = -3600 if number % 2 else 3600
        home, before = world.home(), world.requests()
        shift = home / "shift"
        shift.write_text("0")
        process = start_command(world, home, LD_PRELOAD=str(shim), CLOCK_SHIFT_FILE=str(shift))
        calls = chance.randrange(5, world.sent.total())
        wait_for_calls(world, calls, partial(is_running, process))
        shift.write_text(str(seconds))
        moment = f"{seconds:+} s after {calls} calls"
        yield rebuild(world, home, "clock jump", moment, wait_for_result(process), before, 0)


def stop_endpoint(
    world: ChaosWorld, chance: random.Random, *, times: int, seconds: float
) -> Iterator[FaultCase]:
    """Stop the model server in the middle of a build and start it again later."""
    for _ in range(times):
        home, before = world.home(), world.requests()
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
        moment = f"for {seconds:g} s after {calls} calls"
        yield rebuild(world, home, "endpoint gone", moment, child.wait(), before, IN_FLIGHT + BATCH)
