"""Version numbers: `major.minor.patch`, and which one follows from what changed."""

from __future__ import annotations

from schemas.comparison import Bump
from schemas.errors import InputError

FIRST = "0.1.0"


def parse_version(text: str) -> tuple[int, int, int]:
    """(major, minor, patch). Raises `InputError` where the text is no such version."""
    numbers = text.split(".")
    if len(numbers) != 3 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise InputError(f"{text!r} is not a version", hint="write it as `major.minor.patch`, e.g. 1.2.0")
    major, minor, patch = (int(n) for n in numbers)
    return major, minor, patch


def is_version(text: str) -> bool:
    try:
        parse_version(text)
    except InputError:
        return False
    return True


def next_version(old: str, bump: Bump) -> str:
    """The version after `old`; the same one where nothing changed."""
    major, minor, patch = parse_version(old)
    match bump:
        case "major":
            return f"{major + 1}.0.0"
        case "minor":
            return f"{major}.{minor + 1}.0"
        case "patch":
            return f"{major}.{minor}.{patch + 1}"
        case "none":
            return old
        case "first":
            return FIRST
