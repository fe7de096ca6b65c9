"""Keep the values of a file as they are: long numbers, NaN, binary data, decimals and times.

JSON has no types for most of them. `encode_value` writes them as tagged objects, so that a row can be stored
as JSON and comes back unchanged.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import re
from decimal import Decimal
from typing import Any

import orjson

TAG = "$type"
"""Key of a tagged object: `{"$type": "bytes", "value": …}`."""
MAX_VALUE_BYTES = 256 << 20
"""Largest size of the values of one JSON text in memory."""
OBJECT_BYTES = 72
"""Memory of a small value and of its place in a list."""
_LONG_NUMBER = re.compile(rb"\d{16}")
_TIMES: dict[str, type[Any]] = {
    "datetime": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
}


class Nanoseconds(int):
    """A time in nanoseconds, which Python's own types cannot hold."""


# --- JSON -------------------------------------------------------------------------------------------------


def parse_json(text: bytes, limit: int = MAX_VALUE_BYTES) -> Any:
    """Parse JSON. Integers of any length keep all digits, and NaN and Infinity are read as floats.

    Args:
        text: The JSON text.
        limit: Largest size of the values in memory.

    Raises:
        ValueError: If the text is not JSON, or if its values take more memory or are nested too deeply.
    """
    if (size := memory_of_json(text)) > limit:
        raise ValueError(f"its values take {size >> 20:,} MB of memory. The limit is {limit >> 20:,} MB")
    if not _LONG_NUMBER.search(text):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            if b"NaN" not in text and b"Infinity" not in text:
                raise
    else:
        # orjson rounds integers above 64 bits. It still checks the syntax, except for NaN.
        if b"NaN" not in text and b"Infinity" not in text:
            orjson.loads(text)
    try:
        value = json.loads(text.decode("utf-8"))
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # raises a ValueError on lone surrogates
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def memory_of_json(text: bytes) -> int:
    """Estimate the memory of the values of a JSON text. `[],` has 3 bytes in a file, and 64 in memory."""
    if len(text) < 1 << 20:
        return 2 * len(text)
    return 2 * len(text) + OBJECT_BYTES * (text.count(b",") + text.count(b"[") + text.count(b"{"))


def dump_json(value: Any, *, sort_keys: bool = False, newline: bool = False) -> bytes:
    """Return JSON. NaN becomes null, binary data base64, and times and decimals text."""
    options = orjson.OPT_SORT_KEYS * sort_keys | orjson.OPT_APPEND_NEWLINE * newline
    try:
        return orjson.dumps(value, option=options, default=_as_text)
    except TypeError:
        text = json.dumps(
            _without_nan(value),
            ensure_ascii=False,
            separators=(",", ":"),
            sort_keys=sort_keys,
            default=_as_text,
        )
        return text.encode("utf-8") + b"\n" * newline


def _as_text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    return [_without_nan(part) for part in value] if isinstance(value, (list, tuple)) else value


# --- tagged values ----------------------------------------------------------------------------------------


def encode_value(value: Any) -> Any:
    """Return a value of JSON types that `decode_value` turns back into the same value."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Nanoseconds):
        return {TAG: "nanoseconds", "value": int(value)}
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {TAG: "float", "value": str(value)}
    if isinstance(value, dict):
        encoded = {key: encode_value(part) for key, part in value.items()}
        return {TAG: "dict", "value": encoded} if TAG in value else encoded
    if isinstance(value, list):
        return [encode_value(part) for part in value]
    if isinstance(value, tuple):
        return {TAG: "tuple", "value": [encode_value(part) for part in value]}
    return _encode_scalar(value)


def _encode_scalar(value: Any) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {TAG: "bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, Decimal):
        return {TAG: "decimal", "value": str(value)}
    if isinstance(value, datetime.timedelta):
        return {TAG: "timedelta", "value": [value.days, value.seconds, value.microseconds]}
    if getattr(value, "nanosecond", 0):  # a pandas Timestamp with more digits than a datetime has
        return {TAG: "nanoseconds", "value": value.value}
    for name, kind in _TIMES.items():
        if isinstance(value, kind):
            return {TAG: name, "value": value.isoformat()}
    return {TAG: "text", "value": str(value)}


def decode_value(value: Any) -> Any:
    """Return the value that `encode_value` was given."""
    if isinstance(value, list):
        return [decode_value(part) for part in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(TAG)
    if kind is None:
        return {key: decode_value(part) for key, part in value.items()}
    content = value["value"]
    if kind in _TIMES:
        return _TIMES[kind].fromisoformat(content)
    match kind:
        case "dict":
            return {key: decode_value(part) for key, part in content.items()}
        case "tuple":
            return tuple(decode_value(part) for part in content)
        case "bytes":
            return base64.b64decode(content)
        case "decimal":
            return Decimal(content)
        case "timedelta":
            return datetime.timedelta(*content)
        case "nanoseconds":
            return Nanoseconds(content)
        case "float":
            return float(content)
    return content
