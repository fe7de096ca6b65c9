"""A real PostgreSQL server for tests: loopback, free port, with a password and a data folder of its own.

    with PostgresServer(tmp_path) as server:
        os.environ["COUNTERFOIL_CACHE_URL"] = server.url

The programs of the system are used if they exist, else those of the wheel `pgserver`. PostgreSQL refuses to
run as root, so root starts it as `nobody`. `missing_postgres()` returns the reason if it cannot run here.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

PASSWORD = "loopback-only-83f1"


@lru_cache(maxsize=1)
def programs() -> Path | None:
    """Return the folder with `initdb` and `pg_ctl`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    wheel = importlib.util.find_spec("pgserver")
    if wheel and wheel.origin:
        found.insert(0, Path(wheel.origin).parent / "pginstall" / "bin")
    return next((folder for folder in reversed(found) if (folder / "pg_ctl").exists()), None)


def missing_postgres() -> str | None:
    """Return the reason why no server can be started, or `None`."""
    if programs() is None:
        return "PostgreSQL is not installed (apt install postgresql, or the wheel pgserver)"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed (the extra [postgres])"
    done = _run(["initdb", "--version"])
    return None if done.returncode == 0 else f"initdb does not run: {done.stderr.strip()}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    folder = programs()
    assert folder is not None
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    try:
        return subprocess.run(
            [str(folder / command[0]), *command[1:]],
            text=True,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **as_user,
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


class PostgresServer:
    """A PostgreSQL server for tests. The module describes it."""

    def __init__(self, password: str = PASSWORD) -> None:
        self.password = password
        self.folder = Path(tempfile.mkdtemp(prefix="counterfoil-postgres-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{quote(self.password, safe='')}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> PostgresServer:
        password = self.folder / "password"
        password.write_text(self.password)
        if os.geteuid() == 0:
            for place in (self.folder, password):
                shutil.chown(place, "nobody")
        self._do("initdb", "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        listen = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._do("pg_ctl", "-w", "-o", listen, "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        """Close every connection and stop."""
        self._do("pg_ctl", "-w", "-m", "fast", "stop")

    def _do(self, program: str, *arguments: str) -> None:
        done = _run([program, "-D", str(self.folder / "data"), *arguments])
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")
