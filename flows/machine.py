"""Check the machine before a command starts: folders, free space and open files."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
from pathlib import Path

from schemas.errors import InputError, MachineError
from tasks.text.printable import replace_surrogates

WRITING = frozenset(
    {
        "build",
        "relabel",
        "deduplicate",
        "reword",
        "evaluate",
        "rejudge",
        "fix",
        "refresh",
        "serve",
        "review",
        "audit-judge",
    }
)
"""Commands that write to the folder of the user."""
FREE_BYTES = 64 << 20
OPEN_FILES = 256
"""Smallest limit of open files. A build opens tables, the answer cache and connections at the same time."""
WANTED_FILES = 4096


def check_machine(command: str, home: Path) -> None:
    """Check that a command can write, and raise the limit of open files if the system permits it.

    Raises:
        MachineError: If the folder cannot be written, the disk is almost full, or too few files may be open.
    """
    if command not in WRITING:
        return
    check_open_files()
    check_folder(home)


def check_output() -> None:
    """Raise `MachineError` if the standard output is closed."""
    if sys.stdout is None:
        raise MachineError("the standard output is closed", hint="send it to a file, or to /dev/null")


def check_text(name: str, text: str) -> None:
    """Raise `InputError` if a text from the system is not UTF-8, because no table or file can store it.

    Args:
        name: What the text is, for the message.
        text: An argument, a variable of the environment or a path.
    """
    if replace_surrogates(text) == text:
        return
    hint = "use a name in UTF-8"
    if sys.getfilesystemencoding() != "utf-8":
        hint = f"Python uses {sys.getfilesystemencoding()} for names here: set PYTHONUTF8=1 or LC_ALL=C.UTF-8"
    raise InputError(f"{name} is not UTF-8: {text!a}", hint=hint)


def check_current_folder() -> None:
    """Check that relative paths can be used.

    Raises:
        MachineError: If the current folder was removed.
        InputError: If its name is not UTF-8.
    """
    try:
        check_text("the current folder", os.getcwd())
    except OSError as error:
        raise MachineError(
            f"the current folder cannot be used: {error.strerror}", hint="change to another folder (`cd`)"
        ) from None


def check_open_files() -> None:
    """Raise the limit of open files. Raise `MachineError` if it stays too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        raise MachineError(
            f"only {soft} files may be open at once",
            hint=f"raise the limit to at least {OPEN_FILES} (`ulimit -n {OPEN_FILES}`)",
        )


def check_folder(home: Path) -> None:
    """Raise `MachineError` if files cannot be created in the folder of the user."""
    hint = "check the permissions, or name another folder in COUNTERFOIL_HOME"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".write-{os.getpid()}"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free space on that disk, or name another folder in COUNTERFOIL_HOME"
        raise MachineError(error.strerror or str(error), place=str(home), hint=hint) from None
    if (free := shutil.disk_usage(home).free) < FREE_BYTES:
        raise MachineError(
            f"only {free >> 20} MB are free on this disk",
            place=str(home),
            hint=f"free at least {FREE_BYTES >> 20} MB, or name another folder in COUNTERFOIL_HOME",
        )
