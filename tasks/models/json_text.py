"""Finding the one JSON object in what a model wrote."""

from __future__ import annotations

import json
from typing import Any, NoReturn

DECODER_ERRORS = (ValueError, RecursionError)


def one_json_object(text: str, *, cut_off: bool = False) -> dict[str, Any]:
    """The only JSON object in a text, fences and prose around it aside.

    `cut_off` says that the text stops where the length ran out: then an object without its end is closed,
    and what cannot be known to be whole (a last number, a key without its value) is left out.
    Raises `ValueError` with the problem, for a person or a model to read.
    """
    found: list[dict[str, Any]] = []
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _decoder().raw_decode(text, start)
        except _AmbiguousError:
            raise
        except DECODER_ERRORS:
            if cut_off and not found:
                return _closed(text[start:])
            value, end = None, start + 1
        if isinstance(value, dict):
            found.append(value)
        start = text.find("{", end)
    if len(found) != 1:
        raise ValueError(f"expected one JSON object, found {len(found) or 'none'}")
    return found[0]


class _AmbiguousError(ValueError):
    """Valid for a lenient parser, ambiguous for everybody else."""


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise _AmbiguousError(f"the key {name!r} is given twice")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise _AmbiguousError(f"{name} is not a JSON value")


def _closed(text: str) -> dict[str, Any]:
    """A cut-off object with its end put back."""
    closers, in_string, complete = _open_parts(text)
    candidates = [text + '"' + closers] if in_string else []
    candidates += [text[:complete].rstrip().rstrip(",") + _open_parts(text[:complete])[0]]
    for candidate in candidates:
        try:
            value = _decoder().decode(candidate)
        except DECODER_ERRORS:
            continue
        if isinstance(value, dict):
            return value
    raise ValueError("the JSON object ends in the middle")


def _open_parts(text: str) -> tuple[str, bool, int]:
    """What closes the brackets that are open at the end; whether it ends inside a string; and the length up
    to the last point where a whole member had been read."""
    stack: list[str] = []
    in_string = escaped = False
    complete = 1
    for i, char in enumerate(text):
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{[":
            stack.append("}" if char == "{" else "]")
            complete = i + 1
        elif char in "}]" and stack:
            stack.pop()
            complete = i + 1
        elif char == ",":
            complete = i
    return "".join(reversed(stack)), in_string, complete
