"""What the machine refuses (room, memory, permission), said as an error for a person."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from schemas.errors import MachineError

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
