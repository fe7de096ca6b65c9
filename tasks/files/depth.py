"""Check how deeply a JSON text is nested before a parser that recurses reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas.errors import InputError

MAX_JSON_DEPTH = 64
MAX_JSON_BYTES = 2 << 30
"""Largest JSON file that is read as one value."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: If it is too large or nested too deeply.
        ValueError: If it is not JSON.
    """
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path.name} is larger than {MAX_JSON_BYTES >> 30} GB", place=str(path))
    content = path.read_bytes()
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
