"""Start many command-line processes quickly, as forks of one process with all imports done.

    with ForkServer(environment) as forks:
        command = forks.start(CommandSpec(["build", "recipe.yaml"], home=...))
        os.kill(command.pid, signal.SIGKILL)
        command.wait()

A fork runs the same `main` as the console command, with its own home directory and its output in files. It
differs in two ways: its imports take no time, and it uses a Prefect server that already runs.
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
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}
"""Variables that must be set before the imports."""
PRELOADED = (
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
class CommandSpec:
    """A command with its limits."""

    arguments: list[str]
    home: str
    output: str
    """Folder for `out` and `err`."""
    memory: int = 0
    """Bytes of address space (RLIMIT_AS). 0 sets no limit."""
    cgroup: str = ""
    """Memory cgroup of the process."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CommandResult:
    """The result of a command."""

    code: int
    """Exit status. A negative number is the signal that killed the process."""
    out: str
    err: str


class Command:
    """A running command."""

    def __init__(self, server: ForkServer, pid: int, spec: CommandSpec) -> None:
        self._server, self.pid, self._spec = server, pid, spec

    def running(self) -> bool:
        """Check that the command has not ended."""
        return bool(self._server.send({"poll": self.pid})["running"])

    def wait(self) -> CommandResult:
        """Wait for the end of the command and return its result."""
        code = self._server.send({"wait": self.pid})["code"]
        out, err = ((Path(self._spec.output) / name).read_text() for name in ("out", "err"))
        return CommandResult(code, out, err)


class ForkServer:
    """The process that imports everything once and forks the commands."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, str(Path(__file__).resolve())]
        self._process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**environment, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def start(self, spec: CommandSpec) -> Command:
        """Fork a process for a command."""
        return Command(self, self.send({"start": asdict(spec)})["pid"], spec)

    def send(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request to the process and return its reply."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply


def serve() -> None:
    """Read one request per line, and start, poll or wait for commands."""
    import importlib

    sys.path.insert(0, str(PROJECT))
    for name in PRELOADED:
        importlib.import_module(name)
    ended: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            reply: dict[str, Any] = {"pid": _fork(CommandSpec(**request["start"]))}
        elif "poll" in request:
            _reap(request["poll"], ended, os.WNOHANG)
            reply = {"running": request["poll"] not in ended}
        else:
            _reap(request["wait"], ended, 0)
            reply = {"code": ended[request["wait"]]}
        print(json.dumps(reply), flush=True)


def _reap(pid: int, ended: dict[int, int], options: int) -> None:
    if pid not in ended:
        pid_ended, status = os.waitpid(pid, options)
        if pid_ended:
            ended[pid] = os.waitstatus_to_exitcode(status)


def _fork(spec: CommandSpec) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _prepare_child(spec)
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


def _prepare_child(spec: CommandSpec) -> None:
    os.setsid()
    for stream, name in ((1, "out"), (2, "err")):
        handle = os.open(Path(spec.output) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, stream)
    os.close(0)
    os.environ |= {**spec.environment, "COUNTERFOIL_HOME": spec.home}
    if spec.cgroup:
        Path(spec.cgroup, "cgroup.procs").write_text(str(os.getpid()))
    if spec.memory:
        resource.setrlimit(resource.RLIMIT_AS, (spec.memory, spec.memory))
    sys.argv = ["counterfoil", *spec.arguments]


if __name__ == "__main__":
    serve()
