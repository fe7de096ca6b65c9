"""Ids are content: the same thing has the same id on every machine and in every run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
"""Made once: ids are counted by the million."""


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, UTF-8 kept as it is."""
    return _encode(value)


def content_hash(value: Any) -> str:
    """sha256 (hex, 64 digits) of a JSON-able value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def content_id(prefix: str, *parts: Any) -> str:
    """A short, stable id such as `q_3f9a…` (16 hex digits, 64 bits)."""
    return f"{prefix}_{content_hash(list(parts))[:16]}"


def derived_seed(*parts: Any) -> int:
    """A 31-bit seed that depends on content only, never on order of work."""
    return int(content_hash(list(parts))[:8], 16) & 0x7FFFFFFF


def file_hash(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
