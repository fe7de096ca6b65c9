"""Keys are removed from messages, in every encoding of a server."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.redaction import MIN_LEAK, redact_secrets

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="*"), min_size=16)
TEXTS = st.text(st.characters(min_codepoint=0x400, max_codepoint=0x44F), max_size=30)

WRAPPINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "address": lambda key: quote(key, safe=""),
    "form": quote_plus,
    "page": html.escape,
    "json": lambda key: json.dumps({"Authorization": f"Bearer {key}"}),
    "json in json": lambda key: json.dumps(json.dumps(key)) if key.isalnum() else json.dumps(key),
    "python": lambda key: repr({"key": key}),
    "bytes": lambda key: repr(key.encode()),
    "basic": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "cut off": lambda key: f"{key[:12]}…",
    "its end": lambda key: f"…{key[-12:]}",
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
@given(key=KEYS, before=TEXTS, after=TEXTS)
def test_no_piece_of_a_key_is_left(wrap: Callable[[str], str], key: str, before: str, after: str) -> None:
    redacted = redact_secrets(f"{before} {wrap(key)} {after}", key)
    assert not any(key[i : i + MIN_LEAK] in redacted for i in range(len(key) - MIN_LEAK + 1))
    for form in (wrap(key), base64.b64encode(key.encode()).decode()[:-4]):
        assert form not in redacted


@given(key=KEYS, text=TEXTS)
def test_other_words_stay(key: str, text: str) -> None:
    assert redact_secrets(text, key, None, "") == text


@pytest.mark.parametrize("placeholder", ["x", "-", "no", "key", "none"])
def test_a_placeholder_is_replaced_as_a_whole_word_only(placeholder: str) -> None:
    words = "the server is overloaded and exceeded its next monkey-free limit; nothing was known, nonetheless"
    assert redact_secrets(words.replace("-", " "), placeholder) == words.replace("-", " ")
    assert redact_secrets(f"key {placeholder}, {placeholder}?", placeholder).count("***") >= 2
