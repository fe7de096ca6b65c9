"""Errors of the operating system, explained for people."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from schemas.errors import MachineError

HINTS = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space within your quota",
    errno.EFBIG: "raise the limit on file sizes (`ulimit -f`)",
    errno.EROFS: "make that disk writable",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "free memory, or use a computer with more",
    errno.EIO: "check the disk",
}
UNEXPLAINED = re.compile(r"without (setting an )?exception")
"""Message of CPython if memory ran out before it could create the exception."""
DATABASE_ERRORS = re.compile(
    r"database or disk is full|unable to open database file|attempt to write a readonly database"
    r"|disk I/O error"
)
"""Messages of SQLite if the machine refused."""
AND_THEN = "then run the same command again to resume"


def machine_error(error: BaseException) -> MachineError | None:
    """Return the explanation of an error that the machine caused (disk, memory, permission), or None."""
    for cause in _causes(error):
        if isinstance(cause, MemoryError):
            return MachineError("out of memory", hint=f"{HINTS[errno.ENOMEM]}, {AND_THEN}")
        if isinstance(cause, SystemError) and UNEXPLAINED.search(str(cause)):
            return MachineError(
                f"Python failed ({cause}), probably because memory ran out",
                hint=f"{HINTS[errno.ENOMEM]}, {AND_THEN}",
            )
        if DATABASE_ERRORS.search(str(cause)):
            return MachineError(
                f"the answer cache failed: {DATABASE_ERRORS.search(str(cause))[0]}",  # type: ignore[index]
                hint=f"free space on that disk and check the permissions, {AND_THEN}",
            )
        if isinstance(cause, OSError) and cause.errno in HINTS:
            return MachineError(
                os.strerror(cause.errno),
                place=str(cause.filename) if cause.filename else None,
                hint=f"{HINTS[cause.errno]}, {AND_THEN}",
            )
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, at most ten."""
    found: BaseException | None = error
    for _ in range(10):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__
