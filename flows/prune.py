"""Remove old runs, downloaded releases and an unused answer cache. Releases of your own are never removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flows.workspace import Workspace, open_workspace
from schemas.errors import InputError
from schemas.options import PruneOptions
from tasks.release import MANIFEST

LINKED = "it is a link, or behind a link, and may belong to others"
SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}


def run_prune(options: PruneOptions) -> dict[str, Any]:
    """Remove the parts that the options name, and return the fields of `prune --json`.

    Answers have no date, so the cache is removed only as a whole, if nothing was written to it for
    `older_than`. A cache in PostgreSQL is never touched. Links, and everything behind a link, are left out,
    because they may lead to files of others.

    Raises:
        InputError: If neither `keep` nor `older_than` is given.
    """
    if options.keep is None and options.older_than is None:
        raise InputError("nothing says what is old", hint="add --older-than 30d, --keep 5, or both")
    workspace = open_workspace()
    before = time.time()
    if options.older_than:
        before -= int(options.older_than[:-1]) * SECONDS[options.older_than[-1]]
    left_out: list[dict[str, str]] = []

    def own(places: Iterable[Path]) -> list[Path]:
        found = list(places)
        linked = [path for path in found if not _is_inside(path, workspace.home)]
        left_out.extend({"path": str(path), "reason": LINKED} for path in linked)
        return [path for path in found if path not in linked]

    chosen = [
        *_older(own(_runs(workspace)), options.keep, before),
        *_older(own(_downloads(workspace)), options.keep, before),
    ]
    if options.older_than:
        chosen += own(_unused_cache(workspace, before))
    removed: list[str] = []
    total = 0
    for path in chosen:
        size = sum(file.lstat().st_size for file in _files(path))
        if options.dry_run or _remove(path):
            removed.append(str(path))
            total += size
    return {"removed": removed, "bytes": total, "dry_run": options.dry_run, "left_out": left_out}


def _is_inside(path: Path, home: Path) -> bool:
    """Return whether a path leads to the same place in the workspace, without a link on the way."""
    return Path(os.path.realpath(path)) == Path(os.path.realpath(home)) / path.relative_to(home)


def _runs(workspace: Workspace) -> list[Path]:
    """Return the runs that neither work nor wait for reviews."""
    folders = workspace.runs.iterdir() if workspace.runs.is_dir() else ()
    return [
        path
        for path in folders
        if path.is_dir()
        and not path.name.startswith(".")
        and not (path / "waiting.json").exists()
        and not _is_locked(path / ".lock")
    ]


def _downloads(workspace: Workspace) -> list[Path]:
    """Return the downloaded releases, and the copies of files in object storage."""
    copies = workspace.cache.parent / "remote"
    return [
        *(manifest.parent for manifest in workspace.hub_cache.glob(f"*/*/*/{MANIFEST}")),
        *(copies.iterdir() if copies.is_dir() else ()),
    ]


def _unused_cache(workspace: Workspace, before: float) -> list[Path]:
    files = [workspace.cache.with_name(workspace.cache.name + end) for end in ("", "-wal", "-shm")]
    there = [path for path in files if path.exists()]
    return there if all(path.lstat().st_mtime < before for path in there) else []


def _older(places: Sequence[Path], keep: int | None, before: float) -> list[Path]:
    """Return the places last written before a time, without the newest `keep`."""
    dated = sorted(((_last_written(path), path) for path in places), reverse=True)
    return [path for written, path in dated[keep or 0 :] if written < before]


def _last_written(path: Path) -> float:
    return max((file.lstat().st_mtime for file in _files(path)), default=path.lstat().st_mtime)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.rglob("*") if not file.is_dir() or file.is_symlink())
    else:
        yield path


def _is_locked(lock: Path) -> bool:
    if lock.is_symlink() or not lock.is_file():
        return False  # a run writes a plain file
    with lock.open("r+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _remove(path: Path) -> bool:
    """Remove a file or folder. Return whether this happened: a run may have started since it was listed."""
    if path.is_dir() and _is_locked(path / ".lock"):
        return False
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return True
