"""Paths that are made from data, and checks of the places that a command writes to."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import InputError


def inside(root: Path, *parts: str) -> Path:
    """Return a path below `root`.

    Symbolic links of the parts are followed, so that a link cannot lead out of the folder.

    Args:
        root: The folder.
        *parts: Names from data, such as the name and version of a release.

    Raises:
        InputError: If the path is not below the folder.
    """
    path = root.joinpath(*parts)
    safe = all(part and "\0" not in part and ".." not in Path(part).parts for part in parts)
    if not safe or not is_inside(root, path):
        shown = "/".join(parts).encode("unicode_escape").decode()[:200]
        raise InputError(
            f"{shown!r} is not a path inside {root}",
            hint="the name in the file or manifest is wrong. Do not use it, or correct the name",
        )
    return path


def is_inside(root: Path, path: Path) -> bool:
    """Return whether a path is below a folder, after symbolic links are followed."""
    try:
        top = root.resolve()
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a zero byte
        return False
    return resolved != top and resolved.is_relative_to(top)
