"""Text files that people hand in: opened with errors that say where and what next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from schemas.errors import InputError


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file, with or without a byte-order mark, line ends as they are. Raises `InputError` where there
    is none, and with the line of the first byte that is not UTF-8."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"there is no file {path}", hint="check the path") from None
    except UnicodeDecodeError:
        raise InputError(
            "not UTF-8", place=f"{path}:{_first_broken_line(path)}", hint="save the file as UTF-8"
        ) from None


def _first_broken_line(path: Path) -> int:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0
