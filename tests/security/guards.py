"""Guards that record every connection and every write of this process, and refuse those that no one named."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Guard:
    """Connections, writes and commands of a piece of code."""

    hosts: frozenset[tuple[str, int]] = frozenset()
    """Addresses that may be reached."""
    folders: tuple[Path, ...] = ()
    """Folders that may be written to."""
    connections: list[tuple[str, int]] = field(default_factory=list)
    writes: list[Path] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Record an event of the interpreter. Raise `PermissionError` if it is not allowed."""
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            address = (str(arguments[1][0]), int(arguments[1][1]))
            self.connections.append(address)
            if address not in self.hosts:
                raise PermissionError(f"nobody named the host {address}")
        elif event == "socket.getaddrinfo":
            if not any(str(arguments[0]) == host for host, _ in self.hosts):
                raise PermissionError(f"nobody named the host {arguments[0]}")
        elif event in ("subprocess.Popen", "os.system", "os.exec"):
            self.commands.append(str(arguments[0]))
            raise PermissionError(f"no command may be started: {arguments[0]}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            mode, flags = arguments[1], arguments[2]
            writing = any(c in mode for c in "wax+") if isinstance(mode, str) else False
            if writing or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                self._check_write(arguments[0])
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._check_write(arguments[1])
        elif event in ("os.remove", "os.rmdir", "os.mkdir"):
            self._check_write(_beside(arguments[-1], arguments[0]))
        elif event in ("os.truncate", "shutil.rmtree"):
            self._check_write(arguments[0])

    def _check_write(self, place: Any) -> None:
        if isinstance(place, int):
            return
        path = Path(os.path.realpath(os.fsdecode(place)))
        self.writes.append(path)
        if path != Path(os.devnull) and not any(path.is_relative_to(folder) for folder in self.folders):
            raise PermissionError(f"nobody named the place {path}")


def _beside(folder: Any, name: Any) -> Any:
    """Return the path of a name that is relative to an open folder."""
    opened = isinstance(folder, int) and folder >= 0 and isinstance(name, (str, bytes))
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(name)) if opened else name


_active: list[Guard] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _active:
        guard = _active.pop()  # what the guard does itself is not watched
        try:
            guard.check(event, arguments)
        finally:
            _active.append(guard)


_installed: list[bool] = []


@contextmanager
def guarded(*folders: Path, hosts: frozenset[tuple[str, int]] = frozenset()) -> Iterator[Guard]:
    """Watch this process. Only the folders may be written to, and only the hosts reached."""
    if not _installed:  # an audit hook cannot be removed
        sys.addaudithook(_hook)
        _installed.append(True)
    guard = Guard(hosts, tuple(Path(os.path.realpath(folder)) for folder in folders))
    _active.append(guard)
    try:
        yield guard
    finally:
        _active.remove(guard)
