"""One model behind several endpoints that share the load. A dead endpoint is skipped and retried later.

Each attempt goes to the available endpoint with the fewest requests in flight. An endpoint that cannot be
reached, hangs, or refuses (429, 503) is skipped: for the time that it asks for, otherwise for a second, and
twice as long each further time, up to a minute. Then one request tests it. The limiter of the model sees a
refusal only if no other endpoint is available.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tasks.models.protocol import Backend, Completion, FailedAttempt, Request
from tasks.run.retries import Backoff

AWAY = Backoff(first_s=1.0, longest_s=60.0)


@dataclass
class Endpoint:
    """One endpoint and its state."""

    backend: Backend
    in_flight: int = 0
    asked: int = 0
    away_until: float = 0.0
    failures: int = 0
    """Attempts in a row that found it unavailable."""

    def leave(self, now: float, seconds: float | None) -> None:
        """Send nothing to this endpoint for `seconds`, or for the backoff if `seconds` is None."""
        if now >= self.away_until:
            self.failures += 1
        wait = AWAY.wait_s(self.failures)
        self.away_until = max(self.away_until, now + (wait if seconds is None else seconds))


class SharedLoad:
    """Implements `protocol.Backend` over several endpoints."""

    def __init__(self, backends: Sequence[Backend], clock: Callable[[], float] = time.monotonic) -> None:
        self.endpoints = tuple(Endpoint(backend) for backend in backends)
        self._clock = clock

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """Make one attempt. If an endpoint could not be reached or refuses, the next one is tried as well."""
        tried: list[Endpoint] = []
        while True:
            endpoint = self._choose(tried)
            tried.append(endpoint)
            result = await self._ask_at(endpoint, request)
            if isinstance(result, Completion) or not _is_retryable_elsewhere(result) or result.may_be_billed:
                return result
            now = self._clock()
            if not any(e not in tried and e.away_until <= now for e in self.endpoints):
                return self._no_endpoint(result, now)

    async def close(self) -> None:
        """Close every endpoint."""
        for endpoint in self.endpoints:
            await endpoint.backend.close()

    def _choose(self, tried: Sequence[Endpoint]) -> Endpoint:
        now = self._clock()
        left = [e for e in self.endpoints if e not in tried]
        available = [e for e in left if e.away_until <= now and not (e.failures and e.in_flight)]
        if available:
            return min(available, key=lambda e: (e.in_flight, e.asked))
        return min(left, key=lambda e: e.away_until)

    async def _ask_at(self, endpoint: Endpoint, request: Request) -> Completion | FailedAttempt:
        endpoint.in_flight += 1
        endpoint.asked += 1
        try:
            result = await endpoint.backend.ask(request)
        except asyncio.CancelledError:  # the attempt timed out
            endpoint.leave(self._clock(), None)
            raise
        finally:
            endpoint.in_flight -= 1
        if isinstance(result, FailedAttempt) and _is_retryable_elsewhere(result):
            endpoint.leave(self._clock(), AWAY.longest_s if result.stops else result.retry_after_s)
        else:
            endpoint.failures, endpoint.away_until = 0, 0.0
        return result

    def _no_endpoint(self, failure: FailedAttempt, now: float) -> FailedAttempt:
        """Return the failure with the wait until the first endpoint is available again."""
        if failure.retry_after_s is None:
            return failure
        soonest = min(e.away_until for e in self.endpoints) - now
        return replace(failure, retry_after_s=max(0.0, min(failure.retry_after_s, soonest)))


def _is_retryable_elsewhere(failure: FailedAttempt) -> bool:
    """Return whether another endpoint may answer: this one is unavailable, overloaded or misconfigured."""
    busy = failure.kind in ("connection", "rate_limit") or failure.overload
    return failure.stops or (busy and not failure.final)
