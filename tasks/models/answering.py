"""A model as stages see it: answers from the cache, else from the backend, so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock
from typing import TypeVar

from tasks.models.backend import Backend
from tasks.models.cache import ResponseCache
from tasks.models.failures import Failures
from tasks.models.fingerprint import fingerprint
from tasks.models.prices import Price
from tasks.models.protocol import Completion, Outcome, Request

LOOK_UP = 256
"""Requests that are looked up in the cache together."""

T = TypeVar("T")
R = TypeVar("R")


class _Calls:
    """How many calls this process has sent. Threads may count at the same time."""

    def __init__(self) -> None:
        self.sent = 0
        self._lock = Lock()

    def count_one(self) -> None:
        with self._lock:
            self.sent += 1


CALLS = _Calls()


@dataclass(slots=True)
class _Shared:
    """One question that was asked more than once at a time: it is sent once."""

    asking: int = 0
    answer: asyncio.Future[Outcome | None] | None = None


class OpenModel:
    """Implements `protocol.Model`. Belongs to one event loop."""

    def __init__(
        self,
        name: str,
        resolved: str,
        answer: Callable[[Request], Awaitable[Outcome]],
        *,
        backend: Backend,
        cache: ResponseCache | None,
        price: Price,
        at_a_time: int,
        failures: Failures,
    ) -> None:
        self.name = name
        self.failures = failures
        self._resolved = resolved
        self._answer = answer
        self._backend = backend
        self._cache = cache
        self._price = price
        self._at_a_time = at_a_time
        self._shared: dict[str, _Shared] = {}

    async def complete(self, requests: Iterable[Request]) -> AsyncIterator[Outcome]:
        """See `protocol.Model`. Requests are drawn as they are needed: a few hundred ahead, not all."""
        if self._cache is None:
            async for outcome in in_flight(iter(requests), self._send, self._at_a_time):
                yield outcome
            return
        async for outcome in in_flight(self._looked_up(requests), self._recall_or_ask, self._at_a_time):
            yield outcome

    async def close(self) -> None:
        """Write what is to be remembered, then let the backend go."""
        try:
            if self._cache is not None:
                self._cache.close()
        finally:
            await self._backend.close()

    def _looked_up(self, requests: Iterable[Request]) -> Iterator[tuple[Request, str, Completion | None]]:
        """What other workers are asking comes last: by then they may have the answer."""
        assert self._cache is not None
        stream = ((request, fingerprint(self._resolved, request)) for request in requests)
        elsewhere: list[tuple[Request, str]] = []
        while chunk := list(islice(stream, LOOK_UP)):
            for _, key in chunk:
                self._shared.setdefault(key, _Shared()).asking += 1
            looked_up, elsewhere = elsewhere + chunk, []
            found, ours = self._cache.get_or_claim([key for _, key in looked_up])
            for request, key in looked_up:
                if key in found or key in ours:
                    yield request, key, found.get(key)
                else:
                    elsewhere.append((request, key))
        yield from ((request, key, None) for request, key in elsewhere)

    async def _recall_or_ask(self, item: tuple[Request, str, Completion | None]) -> Outcome:
        request, key, found = item
        shared = self._shared[key]
        try:
            if found is not None:
                return self._priced(replace(found, tag=request.tag))
            return await self._ask_once(request, key, shared)
        finally:
            shared.asking -= 1
            if not shared.asking:
                del self._shared[key]

    async def _ask_once(self, request: Request, key: str, shared: _Shared) -> Outcome:
        """Send it, or wait for the same question that is already out."""
        assert self._cache is not None
        while shared.answer is not None:
            outcome = await asyncio.shield(shared.answer)
            if outcome is not None:
                again = replace(outcome, tag=request.tag)
                return replace(again, cached=True) if isinstance(again, Completion) else again
        shared.answer = asyncio.get_running_loop().create_future()
        outcome = None
        try:
            outcome = await self._ask_in_turn(request, key, self._cache)
            return outcome
        finally:
            shared.answer.set_result(outcome)
            if outcome is None:
                shared.answer = None

    async def _ask_in_turn(self, request: Request, key: str, cache: ResponseCache) -> Outcome:
        """Send it, unless another worker does: then its answer is waited for."""
        found = await cache.turn(key)
        if found is not None:
            return self._priced(replace(found, tag=request.tag))
        try:
            outcome = await self._send(request)
            if isinstance(outcome, Completion):
                cache.put(key, self._resolved, outcome)
            return outcome
        finally:
            cache.give_up(key)

    async def _send(self, request: Request) -> Outcome:
        CALLS.count_one()
        outcome = await self._answer(request)
        return self._priced(outcome) if isinstance(outcome, Completion) else outcome

    def _priced(self, completion: Completion) -> Completion:
        usd = self._price.cost_usd(completion.tokens_in, completion.tokens_out, completion.tokens_in_cached)
        return replace(completion, cost_usd=usd) if usd else completion


async def in_flight(items: Iterator[T], work: Callable[[T], Awaitable[R]], limit: int) -> AsyncIterator[R]:
    """Work on `limit` items at a time; results in the order of completion. Items are drawn one by one, and no
    faster than results are taken."""
    results: asyncio.Queue[R | _End] = asyncio.Queue(maxsize=limit)

    async def worker() -> None:
        for item in items:
            await results.put(await work(item))

    async def see_it_end() -> None:
        error = None
        try:
            await asyncio.gather(*workers)
        except Exception as caught:
            error = caught
        await results.put(_End(error))

    workers = [asyncio.create_task(worker()) for _ in range(limit)]
    end = asyncio.create_task(see_it_end())
    try:
        while not isinstance(result := await results.get(), _End):
            yield result
        if result.error:
            raise result.error
    finally:
        for task in (end, *workers):
            task.cancel()
        await asyncio.gather(end, *workers, return_exceptions=True)


@dataclass(frozen=True)
class _End:
    error: Exception | None
