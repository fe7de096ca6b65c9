"""Check how deeply a JSON text is nested before a parser that recurses reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from tasks.files.limits import MAX_BYTES_VARIABLE, max_bytes
from tasks.files.values import memory_of_json

MAX_JSON_DEPTH = 64
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: If it is too large or nested too deeply.
        ValueError: If it is not JSON.
    """
    limit = max_bytes()
    size = path.stat().st_size
    content = path.read_bytes() if size <= limit else b""
    if max(size, memory_of_json(content)) > limit:
        raise InputError(
            f"{path.name} takes more than {limit >> 20:,} MB of memory",
            place=str(path),
            hint=f"if you trust the file, set {MAX_BYTES_VARIABLE} to a larger number of megabytes",
        )
    check_json_lines([content], path)
    return json.loads(content)


def check_json_lines(lines: Iterable[bytes], path: Path) -> None:
    """Raise `InputError` if a line is nested more than `MAX_JSON_DEPTH` levels deep.

    Args:
        lines: JSON texts, such as the lines of a file.
        path: The file, for the error.
    """
    for number, line in enumerate(lines, start=1):
        # Counting is fast, and most lines have few brackets.
        if line.count(b"[") + line.count(b"{") > MAX_JSON_DEPTH and _depth(line) > MAX_JSON_DEPTH:
            raise InputError(
                f"nested more than {MAX_JSON_DEPTH} levels deep",
                place=f"{path}:{number}",
                hint="the file is damaged or was not made for people. Do not use it",
            )


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for bracket in _STRING.sub(b"", text).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > deepest:
            deepest = depth
            if deepest > MAX_JSON_DEPTH:
                break
    return deepest
