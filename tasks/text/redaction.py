"""Redact keys and passwords in text from servers and programs: whole, encoded, or in part."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
MIN_LEAK = 8
"""Shortest substring of a secret that is redacted, in characters."""
SHORT = 6
"""Keys with fewer characters, such as `none`, are placeholders: only whole words are redacted."""


def redact_secrets(text: str, *secrets: str | None) -> str:
    """Replace every secret in the text by `MASK`.

    Encoded secrets (URL, HTML, JSON, Python literal, base64) and substrings from `MIN_LEAK` characters on are
    replaced too. Secrets that are `None` or empty are ignored, and short ones are replaced as whole words.
    """
    for secret in secrets:
        if secret and len(secret) < SHORT:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
        elif secret:
            for encoded in sorted(set(_encodings(secret)), key=len, reverse=True):
                text = _redact_substrings(text.replace(encoded, MASK), encoded)
    return text


def _encodings(secret: str) -> Iterator[str]:
    yield secret
    yield from (quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield from (html.escape(secret), html.escape(secret, quote=False))
    yield from (json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(secret.encode())[2:-1])
    # Basic authentication encodes "user:secret". Base64 has three alignments, so encode all of them and drop
    # the characters at both ends that depend on the neighbouring bytes.
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + secret.encode()).decode().rstrip("=")
        inner = encoded[-(-offset * 4 // 3) : len(encoded) - 1]
        yield from (inner, inner.replace("+", "-").replace("/", "_"))


def _redact_substrings(text: str, encoded: str) -> str:
    if len(encoded) < MIN_LEAK:
        return text
    leaks = {encoded[i : i + MIN_LEAK] for i in range(len(encoded) - MIN_LEAK + 1)}
    hidden = [False] * len(text)
    for i in range(len(text) - MIN_LEAK + 1):
        if text[i : i + MIN_LEAK] in leaks:
            hidden[i : i + MIN_LEAK] = [True] * MIN_LEAK
    masked = "".join("\0" if hide else c for c, hide in zip(text, hidden, strict=True))
    return re.sub("\0+", MASK, masked) if any(hidden) else text
