"""What all commands share."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from schemas.errors import MachineError

PathArgument = click.Path(path_type=Path)


class _Release(click.ParamType[Path]):
    """A path, or a published release `org/name@tag`, which is fetched once and then found offline."""

    name = "release"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if isinstance(value, Path) or "@" not in value:
            return Path(value)
        from flows.workspace import open_workspace
        from tasks.publish.fetching import fetch_release
        from tasks.release.references import HubRef

        return fetch_release(value, open_workspace().hub_cache) if HubRef.of(value) else Path(value)


class _Model(click.ParamType[str]):
    """A model or the name of a judge without one. An address with a password is refused here, before Prefect
    records what a flow was called with."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if ":" in value:
            from tasks.models.names import parse_model_name

            parse_model_name(value)
        return str(value)


ReleaseArgument = _Release()
ModelArgument = _Model()
C = TypeVar("C", bound=Callable[..., Any])


def as_json(command: C) -> C:
    """The `--json` switch that every command has."""
    option: Callable[[C], C] = click.option(
        "--json", "as_json_", is_flag=True, help="Print exactly one JSON object to stdout."
    )
    return option(command)


# What the machine refuses (room, memory, permission), said as an error for a person.


HINTS = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within your quota",
    errno.EFBIG: "raise the limit on file sizes (`ulimit -f`)",
    errno.EROFS: "make that disk writable",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "close what else is running",
    errno.ENOMEM: "free memory, or use a machine with more",
    errno.EIO: "check the disk",
}
UNEXPLAINED = re.compile(r"without (setting an )?exception")
"""What CPython says where memory ended before the exception could be made."""
AND_THEN = "then run the same command again: it goes on where it stopped"


def machine_error(error: BaseException) -> MachineError | None:
    """What a person is to know about an error that the machine's state caused; None for every other error."""
    for cause in _causes(error):
        if isinstance(cause, MemoryError):
            return MachineError("there is not enough memory", hint=f"{HINTS[errno.ENOMEM]}, {AND_THEN}")
        if isinstance(cause, SystemError) and UNEXPLAINED.search(str(cause)):
            return MachineError(
                f"Python itself failed ({cause}), as it does where there is not enough memory",
                hint=f"{HINTS[errno.ENOMEM]}, {AND_THEN}",
            )
        if isinstance(cause, OSError) and cause.errno in HINTS:
            return MachineError(
                os.strerror(cause.errno),
                place=str(cause.filename) if cause.filename else None,
                hint=f"{HINTS[cause.errno]}, {AND_THEN}",
            )
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, at most ten deep."""
    found: BaseException | None = error
    for _ in range(10):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__
