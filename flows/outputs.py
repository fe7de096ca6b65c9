"""Protect files: a command overwrites neither its inputs nor the result of another job.

Before a command runs, its outputs are compared with its inputs, with each other, and with the files that are
there. Afterwards the written files and their hashes are recorded, so that the same command may run again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import InputError, MachineError
from schemas.options import Options
from schemas.tables import content_hash, file_hash
from tasks.run.store import naming, write_bytes

NOT_PART_OF_A_JOB = frozenset(
    {"out", "overwrite", "in_place", "budget_usd", "free", "runner", "prefect", "plan", "max_in_flight"}
)
"""Options that do not change the output of a command."""
FREE_BYTES = 64 << 20
"""Smallest free space on the disk of an output."""


@dataclass(frozen=True)
class Outputs:
    """The files that a command writes."""

    files: tuple[Path, ...]
    """All files with fixed names. Each may exist afterwards or not."""
    folder: Path | None = None
    """Set if the command writes a folder, which is created."""
    inputs: tuple[Path, ...] = ()
    """Files and folders that the command reads."""
    appended: tuple[Path, ...] = field(default=())
    """Files that are only ever appended to, so that an existing one is no obstacle."""


@contextmanager
def protect(outputs: Outputs, command: str, options: Options, home: Path) -> Iterator[None]:
    """Check the outputs of a command, lock them while it runs, and record them afterwards.

    Args:
        outputs: Outputs and inputs of the command.
        command: Name of the command.
        options: Its options. `overwrite` permits to replace the result of another job.
        home: Folder of the user, which holds the records.

    Raises:
        InputError: If an output is an input, a link or a folder, or the result of another job, or if another
            run is writing it.
        MachineError: If an output cannot be written.
    """
    job = content_hash([command, job_options(options)])
    check_targets(outputs)
    place = outputs.folder or outputs.files[0]
    record = home / "outputs" / f"{content_hash(str(place.resolve()))[:24]}.json"
    with output_lock(place):
        if not getattr(options, "overwrite", False):
            refuse_other_results(outputs, record, job)
        with naming(place):
            yield
        written = [*outputs.files, *outputs.appended]
        hashes = {str(path.resolve()): file_hash(path) for path in written if path.is_file()}
        record.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(record, json.dumps({"job": job, "files": hashes}, indent=1).encode())


def job_options(options: Options) -> dict[str, Any]:
    """Return the options that identify a job. Paths that exist are absolute."""
    return {
        name: _identify(getattr(options, name))
        for name in type(options).model_fields
        if name not in NOT_PART_OF_A_JOB
    }


def _identify(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.resolve())
    return [_identify(part) for part in value] if isinstance(value, (list, tuple)) else value


def check_targets(outputs: Outputs) -> None:
    """Raise an error if an output is an input, or cannot be written at all."""
    for path in (*outputs.files, *outputs.appended):
        check_target_file(path)
        for read in outputs.inputs:
            if is_same_or_inside(path, read):
                raise InputError(
                    f"{path} is an input of this command"
                    if not read.is_dir()
                    else f"{path} is inside {read}, which this command reads",
                    hint="write to another place",
                )
    place = outputs.folder or outputs.files[0].parent
    if outputs.folder is not None and (place.is_symlink() or (place.exists() and not place.is_dir())):
        raise InputError(f"{place} is not a folder", hint="name a folder, which is created if it is missing")
    check_writable(place)


def check_target_file(path: Path) -> None:
    """Raise `InputError` if a path cannot be the target of a file."""
    if path.is_symlink():
        raise InputError(f"{path} is a symbolic link", hint=f"name the file itself: {os.path.realpath(path)}")
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file", hint="name a file in it")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path} is not a regular file", hint="name another file")


def is_same_or_inside(path: Path, other: Path) -> bool:
    """Return whether a path is another one, or is inside it. Links are followed."""
    if path.exists() and other.exists() and os.path.samefile(path, other):
        return True
    resolved, top = path.resolve(), other.resolve()
    return resolved == top or (other.is_dir() and resolved.is_relative_to(top))


def check_writable(folder: Path) -> None:
    """Raise `MachineError` if a folder, or the first parent that exists, cannot be written or is full."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{place} is not a folder", hint="name a place in a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise MachineError(
            os.strerror(errno.EACCES), place=str(place), hint="check the permissions, or name another folder"
        )
    if (free := shutil.disk_usage(place).free) < FREE_BYTES:
        raise MachineError(
            f"only {free >> 20} MB are free on this disk",
            place=str(place),
            hint=f"free at least {FREE_BYTES >> 20} MB, or name a folder on another disk",
        )


def check_releases_folder(folder: Path) -> None:
    """Check a folder for new releases before a build spends anything. Releases in it are never replaced.

    Raises:
        InputError: If it is a file, or belongs to a release.
        MachineError: If it cannot be written or its disk is full.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is not a folder", hint="name a folder, which is created if it is missing")
    for place in (folder.resolve(), *folder.resolve().parents):
        if (place / "manifest.json").is_file() and (place / "data").is_dir():
            raise InputError(
                f"{folder} is inside the release {place}, which is never changed",
                hint="name the folder that holds the releases, or another one",
            )
    check_writable(folder)


def refuse_other_results(outputs: Outputs, record: Path, job: str) -> None:
    """Raise `InputError` if a file exists that the same job has not written."""
    known = _read_record(record)
    hashes: Mapping[str, str] = known.get("files", {}) if known.get("job") == job else {}
    for path in outputs.files:
        if path.exists() and hashes.get(str(path.resolve())) != file_hash(path):
            raise InputError(
                f"{path} exists and is not the result of this command with these options",
                hint="name another place, or add --overwrite to replace it",
            )


def _read_record(record: Path) -> dict[str, Any]:
    try:
        content = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("files"), dict) else {}


@contextmanager
def output_lock(place: Path) -> Iterator[None]:
    """Hold the lock of an output. It ends with the process, and leaves no file behind.

    Raises:
        InputError: If another process holds it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = place.with_name(f".{place.name}.lock")
    while True:
        handle = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that held the lock before may have removed the file in between.
            current = os.stat(lock) if lock.exists() else None
            if current is not None and current.st_ino == os.fstat(handle).st_ino:
                break
        except BlockingIOError:
            os.close(handle)
            raise InputError(
                "another run is writing this output",
                place=str(place),
                hint="wait until it ends, or name another place",
            ) from None
        os.close(handle)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def backup(path: Path) -> Iterator[Path]:
    """Copy a file beside itself before it is replaced, as `NAME.bak`, `NAME.bak1` and so on.

    The copy is removed if the command fails, because the file is unchanged then.
    """
    names = (path.with_name(f"{path.name}.bak{number or ''}") for number in range(10_000))
    copy = next(name for name in names if not os.path.lexists(name))
    before = file_hash(path)
    shutil.copy2(path, copy)
    try:
        yield copy
    except BaseException:
        if path.is_file() and file_hash(path) == before:
            copy.unlink(missing_ok=True)
        raise


def existing(paths: Sequence[Path | None]) -> tuple[Path, ...]:
    """Return the paths that exist."""
    return tuple(path for path in paths if path is not None and path.exists())
