"""Remove characters that act on a terminal or hide in a page, before a text leaves the program."""

from __future__ import annotations

import re

_ACTING = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands, such as a new window title
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"  # colours, movements of the cursor, deletions
    r"|\x1b."
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
    r"|[\u202a-\u202e\u2066-\u2069\u2028\u2029]",  # direction overrides and line separators
    re.DOTALL,
)


def printable(text: str, limit: int | None = None) -> str:
    """Return one line of a text without control characters.

    Args:
        text: Any text.
        limit: Longest result in characters. Longer texts end in `…`.
    """
    line = " ".join(strip_controls(text).split())
    return line if limit is None or len(line) <= limit else f"{line[: limit - 1]}…"


def strip_controls(text: str) -> str:
    """Return a text without control characters and escape sequences. Line breaks and tabs are kept."""
    return _ACTING.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which no file or table can store, by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
