"""Many processes of the command line, each begun in a moment: forks of one that has imported everything.

    with Nursery(environment) as nursery:
        child = nursery.start(Job(["build", "recipe.yaml"], home=...))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()

A fork runs the same `main` as the console command, with its own home and its output in files. What differs is
only that importing took no time, and that Prefect's server is one that already runs.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}
"""What must be said before the imports."""
IMPORTED_FIRST = (
    "flows.cli",
    "flows.build",
    "flows.run",
    "datasets",
    "great_expectations",
    "matplotlib.pyplot",
    "openai",
    "pandas",
    "pyarrow.parquet",
    "rapidfuzz",
    "scipy.stats",
    "sqlalchemy.dialects.sqlite",
    "statsmodels.api",
    "tasks.models.openai",
)


@dataclass(frozen=True)
class Job:
    """One command, and what it has to live with."""

    arguments: list[str]
    home: str
    output: str
    """Folder for `out` and `err`."""
    memory: int = 0
    """Bytes of address space (RLIMIT_AS); 0: as many as there are."""
    cgroup: str = ""
    """A memory cgroup to enter."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal that killed it), and what it said."""

    code: int
    out: str
    err: str


class Child:
    """A running command."""

    def __init__(self, nursery: Nursery, pid: int, job: Job) -> None:
        self._nursery, self.pid, self._job = nursery, pid, job

    def running(self) -> bool:
        return bool(self._nursery.tell({"poll": self.pid})["running"])

    def wait(self) -> Ended:
        code = self._nursery.tell({"wait": self.pid})["code"]
        out, err = ((Path(self._job.output) / name).read_text() for name in ("out", "err"))
        return Ended(code, out, err)


class Nursery:
    """The process that forks."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, str(Path(__file__).resolve())]
        self._process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**environment, **QUIET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def start(self, job: Job) -> Child:
        return Child(self, self.tell({"start": asdict(job)})["pid"], job)

    def tell(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply


def serve() -> None:
    """Fork and wait as told, one order a line."""
    import importlib

    sys.path.insert(0, str(PROJECT))
    for name in IMPORTED_FIRST:
        importlib.import_module(name)
    ended: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            reply: dict[str, Any] = {"pid": _fork(Job(**order["start"]))}
        elif "poll" in order:
            _reap(order["poll"], ended, os.WNOHANG)
            reply = {"running": order["poll"] not in ended}
        else:
            _reap(order["wait"], ended, 0)
            reply = {"code": ended[order["wait"]]}
        print(json.dumps(reply), flush=True)


def _reap(pid: int, ended: dict[int, int], how: int) -> None:
    if pid not in ended:
        found, status = os.waitpid(pid, how)
        if found:
            ended[pid] = os.waitstatus_to_exitcode(status)


def _fork(job: Job) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _become(job)
        from flows.cli import main

        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become(job: Job) -> None:
    os.setsid()
    for stream, name in ((1, "out"), (2, "err")):
        handle = os.open(Path(job.output) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, stream)
    os.close(0)
    os.environ |= {**job.environment, "COUNTERFOIL_HOME": job.home}
    if job.cgroup:
        Path(job.cgroup, "cgroup.procs").write_text(str(os.getpid()))
    if job.memory:
        resource.setrlimit(resource.RLIMIT_AS, (job.memory, job.memory))
    sys.argv = ["counterfoil", *job.arguments]


if __name__ == "__main__":
    serve()
