"""Paths and addresses of storage."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>.*)", re.DOTALL)
"""An address such as `s3://bucket/x`. `Path` makes one slash of two. A drive (`C:/`) has one letter."""


def explain_remote(place: object) -> str | None:
    """Return why a place cannot be used if it is an address of object storage, or None for a local path."""
    match = _ADDRESS.fullmatch(str(place))
    if match is None:
        return None
    address = f"{match['scheme']}://{match['rest'].lstrip('/')}"
    if match["scheme"].lower() == "file":
        return f"{address} is a URL; write the path alone: /{match['rest'].lstrip('/')}"
    return (
        f"{address} is an address of object storage; only local and mounted folders are supported. "
        "Use a local path, and copy the files with the client of your storage"
    )
