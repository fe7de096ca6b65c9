"""Keys and passwords taken out of what others say: whole, encoded, or a part of them."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
PART = 8
"""So many characters of a secret in a row give it away."""


def without_secrets(text: str, *secrets: str | None) -> str:
    """The text with a mask for every secret, in the encodings in which servers and programs repeat them, and
    for every piece of one from `PART` characters on."""
    for secret in secrets:
        if secret:
            for form in sorted(set(_forms(secret)), key=len, reverse=True):
                text = _without_pieces(text.replace(form, MASK), form)
    return text


def _forms(secret: str) -> Iterator[str]:
    """As it is; escaped for an address, a page, JSON, a Python literal; in base64, alone or after a user."""
    yield secret
    yield from (quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield from (html.escape(secret), html.escape(secret, quote=False))
    yield from (json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(secret.encode())[2:-1])
    for place in range(3):  # base64 has three alignments
        encoded = base64.b64encode(b"\0" * place + secret.encode()).decode().rstrip("=")
        whole = encoded[-(-place * 4 // 3) : len(encoded) - 1]
        yield from (whole, whole.replace("+", "-").replace("/", "_"))


def _without_pieces(text: str, form: str) -> str:
    if len(form) < PART:
        return text
    parts = {form[i : i + PART] for i in range(len(form) - PART + 1)}
    hidden = [False] * len(text)
    for i in range(len(text) - PART + 1):
        if text[i : i + PART] in parts:
            hidden[i : i + PART] = [True] * PART
    masked = "".join("\0" if hide else c for c, hide in zip(text, hidden, strict=True))
    return re.sub("\0+", MASK, masked) if any(hidden) else text
