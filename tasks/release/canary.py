"""The canary: a GUID in every question row and in CANARY.md, by which training data can be searched."""

from __future__ import annotations

import uuid
from pathlib import Path
from string import Template

CANARY_COLUMN = "canary"

_RELEASE_LINES = uuid.UUID("5b0c54bb-8f43-5f2c-9a40-4a2c56d7c0f1")


def canary_of(name: str) -> str:
    """The GUID of a release line: the same in all of its versions, on every machine."""
    return str(uuid.uuid5(_RELEASE_LINES, name))


def canary_page(data_dir: Path, name: str) -> str:
    """CANARY.md, from data/canary.md."""
    template = (data_dir / "canary.md").read_text(encoding="utf-8")
    return Template(template).substitute(name=name, canary=canary_of(name))
