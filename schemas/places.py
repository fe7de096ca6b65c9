"""Paths and addresses of storage."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,3}(?P<rest>.*)", re.DOTALL)
"""An address such as `s3://bucket/x`. `Path` makes one slash of two. A drive (`C:/`) has one letter."""
EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
"""Optional dependency of each kind of object storage."""
SCHEMES = (*EXTRAS, "memory")
"""Kinds of storage that inputs may be in."""


def read_address(place: object) -> str | None:
    """Return the address of a place in object storage, or None for a local path and for `file://`."""
    match = _ADDRESS.fullmatch(str(place))
    if match is None or match["scheme"].lower() == "file":
        return None
    return f"{match['scheme'].lower()}://{match['rest'].lstrip('/')}"


def local_path(place: object) -> str:
    """Return the path of a `file://` address, and any other text unchanged."""
    match = _ADDRESS.fullmatch(str(place))
    if match is None or match["scheme"].lower() != "file":
        return str(place)
    return "/" + match["rest"].lstrip("/")


MAX_NAME_BYTES = 255
"""Longest name of a file on most file systems."""
MAX_PATH_BYTES = 4096


def explain_path(place: object, *, supported: bool = False) -> str | None:
    """Return why a place cannot be a path, or None if it can.

    Args:
        place: A path or an address.
        supported: Whether addresses of known kinds of object storage are permitted here.
    """
    text = str(place).encode("utf-8", "surrogateescape")
    if b"\0" in text:
        return "a path cannot contain the character NUL"
    if len(text) > MAX_PATH_BYTES or any(len(part) > MAX_NAME_BYTES for part in text.split(b"/")):
        return f"the path is too long: names have at most {MAX_NAME_BYTES} bytes, paths {MAX_PATH_BYTES:,}"
    return explain_remote(place, supported=supported)


def explain_remote(place: object, *, supported: bool = False) -> str | None:
    """Return why a place cannot be used if it is an address of object storage, or None if it can.

    Args:
        place: A path or an address.
        supported: Whether addresses of known kinds are permitted here.
    """
    address = read_address(place)
    if address is None:
        return None
    scheme = address.partition(":")[0]
    if scheme not in SCHEMES:
        return f"{address}: {scheme}:// is no known object storage; known are {', '.join(SCHEMES)} and file"
    if supported:
        return None
    return (
        f"{address} is an address of object storage, which is not supported here: only inputs, releases that "
        "are read, and `relabel --out` may be addresses. Use a local path, and copy the files with the "
        "client of your storage"
    )
