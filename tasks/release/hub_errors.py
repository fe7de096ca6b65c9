"""What the Hub's refusals and failures mean: try again, give up, or tell a person what to mend."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from schemas.errors import CounterfoilError, InputError, PublishError
from tasks.text.secrets import without_secrets

T = TypeVar("T")

ATTEMPTS = 5
"""How often something is tried that fails for reasons that may pass."""
FIRST_WAIT_S = 1.0
"""The next waits are twice, four times, … as long."""
LONGEST_WAIT_S = 120.0
"""Whoever asks for a longer wait (`Retry-After`) is not waited for."""

PASSING = frozenset({408, 429, 500, 502, 503, 504})
CONFLICTS = frozenset({409, 412})
_SPENT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")


class PassingError(Exception):
    """A failure that may be gone in a moment."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        """What the Hub asked to wait."""


class NotThereError(InputError):
    """The Hub has no such dataset, revision or file, or does not show it to this token."""


class OvertakenError(PublishError):
    """Someone else was faster."""


def patiently(action: Callable[[], T]) -> T:
    """Do it, again after every passing failure. Raises `PublishError` when that does not help.

    `action` must be safe to repeat: it looks at what there is before it does what is missing.
    """
    told = ""
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except PassingError as fault:
            told, asked_s = str(fault), fault.wait_s
        wait_s = FIRST_WAIT_S * 2**attempt if asked_s is None else asked_s
        if wait_s > LONGEST_WAIT_S:
            told += f" (it asks to wait {wait_s:.0f} s)"
            break
        if attempt + 1 < ATTEMPTS:
            time.sleep(wait_s)
    raise PublishError(told, hint="run the same command again: it goes on where this one stopped")


def meaning(error: Exception, what: str, secret: str | None) -> Exception:
    """The error to raise instead. `secret` and what stands behind the `?` of addresses is left out."""
    if isinstance(error, CounterfoilError):
        return error
    causes = list(_causes(error))
    passing = next((cause for cause in causes if isinstance(cause, PassingError)), None)
    if passing is not None:
        return PassingError(f"{what}: {passing}", passing.wait_s)
    if any(type(cause).__name__ == "OfflineModeIsEnabled" for cause in causes):
        return InputError(f"{what}: HF_HUB_OFFLINE is set", hint="unset it, or set it to 0")
    answered = next((c for c in causes if getattr(c, "response", None) is not None), None)
    if answered is not None:
        return _refusal(answered, what, secret)
    if any(_is_passing(cause) for cause in causes):
        return PassingError(f"{what}: the Hub cannot be reached, or does not answer")
    if isinstance(error, (ValueError, RuntimeError)):
        return PublishError(f"{what}: {_clean(str(error), secret)}", hint="nothing was changed on the Hub")
    return error


def _refusal(error: BaseException, what: str, secret: str | None) -> Exception:
    response: Any = getattr(error, "response")  # noqa: B009
    status = int(response.status_code)
    said = _clean(str(getattr(error, "server_message", None) or "no reason given"), secret)
    told = f"{what}: the Hub answered {status}: {said}"
    if status in PASSING:
        headers = response.headers
        return PassingError(told, _wait_s(headers.get("Retry-After"), headers.get("RateLimit")))
    if status in CONFLICTS:
        return OvertakenError(told, hint="run the same command again: it says what is there now")
    if status == 404:
        return NotThereError(told, hint="check the name; a private dataset needs a token that may read it")
    if status in (401, 403):
        return InputError(told, hint="set HF_TOKEN to a token that may do this (`hf auth login` keeps one)")
    return PublishError(told, hint="nothing was changed by this request")


def refuse_long_wait(response: Any) -> None:
    """Raise `PassingError` where a Hub that is busy asks for a wait that nobody sits through: its client
    would."""
    wait_s = _wait_s(response.headers.get("Retry-After"), response.headers.get("RateLimit"))
    if response.status_code in PASSING and wait_s is not None and wait_s > LONGEST_WAIT_S:
        raise PassingError(f"the Hub answered {response.status_code}", wait_s)


def _wait_s(retry_after: str | None, rate_limit: str | None = None) -> float | None:
    """Seconds to wait: `Retry-After: 30`, or `RateLimit: "api";r=0;t=30` (nothing left, 30 s to go)."""
    spent = _SPENT.search(rate_limit or "")
    if spent:
        return float(spent[1])
    return float(retry_after) if retry_after is not None and retry_after.strip().isdigit() else None


def _is_passing(error: BaseException) -> bool:
    """Connections that fail, answers that are no JSON, downloads that end too early. Failures of this
    machine's own files carry an `errno` and are not."""
    if any(kind.__name__ == "TransportError" for kind in type(error).__mro__):
        return True
    if isinstance(error, (ConnectionError, TimeoutError, json.JSONDecodeError)):
        return True
    return isinstance(error, OSError) and error.errno is None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        yield found
        seen.append(found)
        found = found.__cause__ or found.__context__


def _clean(text: str, secret: str | None) -> str:
    return without_secrets(_QUERY.sub(r"\1", " ".join(text.split())), secret)
