"""One model behind several endpoints: they share the load, and one that is dead is left and tried again.

Each try goes to the endpoint that is there and has the fewest requests in flight. An endpoint that cannot be
reached, hangs, or refuses (429, 503) is left alone: for as long as it says, else for a second, and twice as
long every time after, up to a minute. Then one request tries it. The model's limiter hears of a refusal only
when no other endpoint is left to turn to.
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
    """One of them, and how it is doing."""

    backend: Backend
    in_flight: int = 0
    asked: int = 0
    away_until: float = 0.0
    troubles: int = 0
    """Tries in a row that it was not there for."""

    def leave(self, now: float, seconds: float | None) -> None:
        """Ask it nothing for a while."""
        if now >= self.away_until:
            self.troubles += 1
        wait = AWAY.wait_s(self.troubles)
        self.away_until = max(self.away_until, now + (wait if seconds is None else seconds))


class SharedLoad:
    """Implements `backend.Backend` over several."""

    def __init__(self, backends: Sequence[Backend], clock: Callable[[], float] = time.monotonic) -> None:
        self.endpoints = tuple(Endpoint(backend) for backend in backends)
        self._clock = clock

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """One try; where nothing reached the first endpoint, or it refused, the next is tried as well."""
        tried: list[Endpoint] = []
        while True:
            endpoint = self._choose(tried)
            tried.append(endpoint)
            result = await self._ask_at(endpoint, request)
            if isinstance(result, Completion) or not _elsewhere(result) or result.may_be_billed:
                return result
            now = self._clock()
            if not any(e not in tried and e.away_until <= now for e in self.endpoints):
                return self._nowhere(result, now)

    async def close(self) -> None:
        for endpoint in self.endpoints:
            await endpoint.backend.close()

    def _choose(self, tried: Sequence[Endpoint]) -> Endpoint:
        now = self._clock()
        left = [e for e in self.endpoints if e not in tried]
        there = [e for e in left if e.away_until <= now and not (e.troubles and e.in_flight)]
        if there:
            return min(there, key=lambda e: (e.in_flight, e.asked))
        return min(left, key=lambda e: e.away_until)

    async def _ask_at(self, endpoint: Endpoint, request: Request) -> Completion | FailedAttempt:
        endpoint.in_flight += 1
        endpoint.asked += 1
        try:
            result = await endpoint.backend.ask(request)
        except asyncio.CancelledError:  # it took too long
            endpoint.leave(self._clock(), None)
            raise
        finally:
            endpoint.in_flight -= 1
        if isinstance(result, FailedAttempt) and _elsewhere(result):
            endpoint.leave(self._clock(), result.retry_after_s)
        else:
            endpoint.troubles, endpoint.away_until = 0, 0.0
        return result

    def _nowhere(self, setback: FailedAttempt, now: float) -> FailedAttempt:
        """Every endpoint is away: the model is to wait for the first that comes back."""
        if setback.retry_after_s is None:
            return setback
        soonest = min(e.away_until for e in self.endpoints) - now
        return replace(setback, retry_after_s=max(0.0, min(setback.retry_after_s, soonest)))


def _elsewhere(setback: FailedAttempt) -> bool:
    """Whether another endpoint may do better: this one is not there, or has too much to do."""
    busy = setback.kind in ("connection", "rate_limit") or setback.overload
    return busy and not setback.final
