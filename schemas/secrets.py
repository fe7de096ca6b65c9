"""Find keys and passwords in values that are recorded, such as `extra_body`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

SHORTEST = 8
"""Shortest value that is compared with the environment, in characters."""
_NAMES = (
    r"api[_-]?key|subscription[_-]?key|access[_-]?key|private[_-]?key|account[_-]?key|"
    r"authori[sz]ation|bearer|cookie|credentials?|passw(or)?d|passphrase|secret|connection[_-]?string|"
    r"(access|auth|hf|id|refresh|session|sas|api|bearer)[_-]?token"
)
_NAME = re.compile(rf"(^|[_\-.])({_NAMES})$|^(key|token)$", re.IGNORECASE)
"""Names of members that hold secrets. `stop_token`, `eos_token` and `prompt_cache_key` are none."""
_FORMS = (
    r"\b(sk-[\w-]{16,}|hf_\w{16,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|xox[abprs]-[\w-]{10,}|AKIA[A-Z0-9]{16}"
    r"|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s@]+@"
)
"""Forms of keys of common services, private keys and addresses with a password."""
_VALUE = re.compile(rf"{_FORMS}|^(bearer|basic)\s+\S{{8,}}", re.IGNORECASE)
_VARIABLE = re.compile(r"(^|_)(API)?(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|AUTH)(_|$)", re.IGNORECASE)


def find_secret(value: Any, place: str = "") -> str | None:
    """Return the place of the first value that looks like a secret, or `None`.

    A value looks like one by the name of its member, by its form, or because a variable of the environment
    such as `OPENAI_API_KEY` has it. The value itself is never part of the result.
    """
    return _find(value, place, _secrets_of_environment())


def refuse_secrets(value: Any, place: str) -> None:
    """Raise `ValueError` if a value that is recorded holds a secret."""
    if (found := find_secret(value, place)) is not None:
        raise ValueError(
            f"{found} looks like a key or a password, and this field is recorded in releases; keep it in the "
            "environment, and name its variable in `api_keys` or with --api-key-env"
        )


def _find(value: Any, place: str, known: frozenset[str]) -> str | None:
    if isinstance(value, Mapping):
        for name, part in value.items():
            if _holds_secret(str(name), known):
                return f"{place}.***".removeprefix(".")
            inside = f"{place}.{name}" if place else str(name)
            if _NAME.search(str(name)) and isinstance(part, str) and part:
                return inside
            if (found := _find(part, inside, known)) is not None:
                return found
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            if (found := _find(part, f"{place}.{number}", known)) is not None:
                return found
    elif isinstance(value, str) and _holds_secret(value, known):
        return place
    return None


def _holds_secret(text: str, known: frozenset[str]) -> bool:
    return _VALUE.search(text) is not None or any(secret in text for secret in known)


def _secrets_of_environment() -> frozenset[str]:
    return frozenset(
        value for name, value in os.environ.items() if _VARIABLE.search(name) and _is_secret(value)
    )


def _is_secret(value: str) -> bool:
    """Return whether the value of a variable is long and varied enough for a secret, and no path."""
    return len(value) >= SHORTEST and "/" not in value[:2] and len(set(value)) > 4


def _any_case(pattern: str) -> str:
    """Return a pattern that ignores case without a flag, which JSON schemas do not have."""
    parts = re.findall(r"\\.|\[(?:\\.|[^\]])*\]|.", pattern)
    return "".join(f"[{p.lower()}{p.upper()}]" if len(p) == 1 and p.isalpha() else p for p in parts)


TEXT_PATTERN = _any_case(rf"{_FORMS}|^(bearer|basic)\s+\S{{8,}}")
"""Finds secrets by their form, in JSON schemas."""
JSON_PATTERN = _any_case(
    rf'{_FORMS}|"(bearer|basic)\s+[^"\s]{{8,}}|"([^"]*[_\-.])?({_NAMES})"\s*:\s*"[^"]|"(key|token)"\s*:\s*"[^"]'
)
"""The same for objects that are written as JSON, by the names of members as well."""
