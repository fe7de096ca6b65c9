"""The retry policy: how often a failed call is tried again, and how long to wait in between.

Callers with and without an event loop share it. They make the attempts and sleep. `Retries` counts the
failures and decides.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff: the wait doubles with every failure, up to a limit."""

    first_s: float
    """Wait after the first failure, in seconds."""
    longest_s: float
    jitter: bool = False
    """Draw each wait uniformly between 0 and its bound, so that parallel callers do not return together."""

    def bound_s(self, failures: int) -> float:
        """Return the longest wait after `failures` failures in a row (1 or more), in seconds."""
        return float(min(self.longest_s, self.first_s * 2.0 ** (failures - 1)))

    def wait_s(self, failures: int, silent_s: float = math.inf) -> float:
        """Return the seconds to wait after `failures` failures in a row.

        Args:
            failures: At least 1.
            silent_s: Seconds since the server last answered any request. If it has answered others meanwhile,
                the server is not overloaded, and the wait does not grow.
        """
        bound = self.bound_s(failures)
        if silent_s < bound / 2:
            bound = self.first_s
        return random.uniform(0.0, bound) if self.jitter else bound


@dataclass(frozen=True)
class RetryPolicy:
    """Limits on the attempts of one call."""

    attempts: int
    backoff: Backoff
    longest_wait_s: float = math.inf
    """A server that asks for a longer wait (`Retry-After`) is not retried."""

    def is_too_long(self, requested_s: float | None) -> bool:
        """Return whether the server asks for a longer wait than the policy allows."""
        return requested_s is not None and requested_s > self.longest_wait_s


class Retries:
    """The failed attempts of one call."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.failures = 0
        self._used = 0.0

    def next_wait_s(
        self, requested_s: float | None = None, *, weight: float = 1.0, silent_s: float = math.inf
    ) -> float | None:
        """Count a failed attempt and return the seconds to wait before the next one.

        Args:
            requested_s: Wait that the server asked for. It takes the place of the backoff.
            weight: Share of an attempt that this failure counts as.
            silent_s: Seconds since the server last answered any request, see `Backoff.wait_s`.

        Returns:
            `None` if the attempts are used up, or if the requested wait is too long.
        """
        self.failures += 1
        self._used += weight
        if self._used >= self.policy.attempts or self.policy.is_too_long(requested_s):
            return None
        return self.policy.backoff.wait_s(self.failures, silent_s) if requested_s is None else requested_s


def parse_retry_after(header: str | None, now: float) -> float | None:
    """Return the wait that a `Retry-After` header asks for, in seconds.

    Args:
        header: A number of seconds or an HTTP date.
        now: Unix time.

    Returns:
        `None` if the header is missing or cannot be read.
    """
    if not header:
        return None
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", header):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None
