"""The door to language models: `open_model` returns a model that answers requests.

    async with open_model("openai:gpt-5-mini", ModelSettings.of(context)) as model:
        async for outcome in model.complete(requests):
            ...

Every backend is wrapped in the same layers: cache → limits and retries → budget → backend. Money is reserved
for every attempt, not once per request, so that retries are within the budget too.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from schemas.errors import ModelError
from schemas.recipe import Limits, ModelOptions
from tasks.models.budget import Ledger, ledger_of, within_budget
from tasks.models.cache import ResponseCache, fingerprint
from tasks.models.cache_database import cache_exists
from tasks.models.capabilities import (
    Capabilities,
    capabilities_of,
    keep_capabilities,
    restore_capabilities,
)
from tasks.models.circuit_breaker import PROBE_CALLS, CircuitBreaker
from tasks.models.endpoints import SharedLoad
from tasks.models.limits import limiter_of, own_part, send_with_retries
from tasks.models.names import ModelName, cache_name, parse_model_name
from tasks.models.openai import NO_KEY, OpenAIChat, import_client, read_schema_prompt
from tasks.models.openai_batch import BatchModel, BatchServer, JobFolder, batch_limits
from tasks.models.prices import FREE, TokenPrice
from tasks.models.protocol import Backend, Completion, FailureCount, Outcome, Request
from tasks.models.settings import ModelSettings, api_key, api_key_variable, with_options
from tasks.run.event_loop import outside_event_loop

__all__ = ["ModelSettings", "OpenModel", "count_cached", "open_model", "run_async"]

T = TypeVar("T")
R = TypeVar("R")

LOOKUP_CHUNK = 256
"""Requests that are looked up in the cache together."""
CONCURRENCY_FACTOR = 4
"""Requests in progress per request in flight: a request that waits for its next attempt occupies no slot of
the limiter. Requests in a batch do not wait in this way, so the factor does not apply to them."""
GC_THRESHOLDS = (10_000, 20, 20)
"""Thresholds of Python's garbage collector. With hundreds of requests in flight the default (700) triggers
constantly and takes a fifth of the CPU time of a stage (benchmarks/respond.py)."""


class _CallCounter:
    """Number of requests that this process and its workers have sent. Thread-safe."""

    def __init__(self) -> None:
        self.sent = 0
        self._lock = Lock()

    def add(self, requests: int = 1) -> None:
        with self._lock:
            self.sent += requests


CALLS = _CallCounter()


@asynccontextmanager
async def open_model(name: str, settings: ModelSettings) -> AsyncIterator[OpenModel]:
    """Open a model for one event loop. The cache and the ledger are on disk when the block ends.

    Raises:
        InputError: If the name, key or cache cannot be used.
        BudgetError: If the price is unknown.
        ModelError: If an engine in this process does not start.
    """
    resolved = parse_model_name(name).resolved()
    batched = name in settings.batch
    limits = settings.limits(name)
    limits = batch_limits(limits) if batched else _limits(resolved, own_part(limits))
    price = settings.price(name)
    ledger = ledger_of(settings.spending_path, settings.budget_usd)
    for endpoint in resolved.endpoints:
        restore_capabilities(settings.run_dir, name, capabilities_of(endpoint, resolved.name))
    batches = connect_batches(resolved, settings, ledger, price) if batched else None
    backend = batches or await connect_backend(resolved, settings, limits)
    # Batches reserve and pay by themselves.
    ask = backend.ask if batches or price == FREE else within_budget(backend.ask, ledger, price)
    # Batches are not probed, because a day passes between a request and its answer.
    probed = not batches and resolved.backend != "replay"
    breaker = CircuitBreaker(name, limits, probe=probed)
    answer = partial(send_with_retries, ask, limiter_of(str(resolved), limits), breaker)
    model = OpenModel(
        name,
        cache_name(resolved, settings.engine),
        partial(_with_client, answer) if resolved.backend == "openai" else answer,
        backend=backend,
        cache=None if resolved.backend == "replay" else ResponseCache(settings.cache_path),
        data_dir=settings.data_dir,
        price=price,
        concurrency=limits.max_in_flight * (1 if batched else CONCURRENCY_FACTOR),
        failures=FailureCount(
            settings.max_failure_rate,
            left_to_probe=PROBE_CALLS if probed and not settings.tolerates_abstentions else 0,
        ),
        options=settings.options.get(name),
        capabilities=capabilities_of(resolved.endpoints[0], resolved.name) if resolved.endpoints else None,
    )
    try:
        yield model
    finally:
        breaker.close()
        await model.close()
        if batches:
            batches.forget_collected()
        ledger.close()
        for endpoint in resolved.endpoints:
            keep_capabilities(settings.run_dir, name, capabilities_of(endpoint, resolved.name))


def connect_batches(
    model: ModelName, settings: ModelSettings, ledger: Ledger, price: TokenPrice
) -> BatchModel:
    """Return the backend of a resolved name behind its provider's Batch API."""
    assert model.endpoint is not None
    return BatchModel(
        model.name,
        str(model),
        BatchServer(model.endpoint, api_key(model, settings) or NO_KEY),
        JobFolder(settings.spending_path),
        capabilities=capabilities_of(model.endpoint, model.name),
        schema_prompt=read_schema_prompt(settings.data_dir),
        ledger=ledger,
        price=price,
    )


async def connect_backend(model: ModelName, settings: ModelSettings, limits: Limits) -> Backend:
    """Return the backend of a resolved name. Engines and embedded servers are started if necessary."""
    if model.backend == "replay":
        from tasks.models.replay import Replay

        return Replay(model.name)
    if model.backend == "vllm":
        from tasks.models.vllm import VLLMModel, vllm_engine

        return VLLMModel(await asyncio.to_thread(vllm_engine, model, settings.engine))
    prompt = read_schema_prompt(settings.data_dir)
    if model.backend == "embedded":
        from tasks.models.embedded import EmbeddedModel, embedded_servers

        servers = await asyncio.to_thread(embedded_servers, model.name)
        return EmbeddedModel(model.name, servers, prompt)
    chats = [
        OpenAIChat(
            model.name,
            endpoint,
            api_key=api_key(single, settings),
            connections=limits.max_in_flight,
            schema_prompt=prompt,
            key_variable=api_key_variable(single, settings),
            max_answer_mb=limits.max_answer_mb,
        )
        for single in model.at_each()
        for endpoint in single.endpoints
    ]
    return chats[0] if len(chats) == 1 else SharedLoad(chats)


async def _with_client(answer: Callable[[Request], Awaitable[Outcome]], request: Request) -> Outcome:
    """Import the client before the first request, outside its timeout, and only if the cache misses."""
    import_client()
    return await answer(request)


def _limits(model: ModelName, limits: Limits) -> Limits:
    """Limit an embedded model to the number of its servers. More requests would only queue."""
    if model.backend != "embedded":
        return limits
    from tasks.models.embedded import server_count

    return limits.model_copy(update={"max_in_flight": min(limits.max_in_flight, server_count())})


@dataclass(slots=True)
class _InProgress:
    """A request that several callers may be waiting for. It is sent once."""

    callers: int = 0
    answer: asyncio.Future[Outcome | None] | None = None


class OpenModel:
    """An open model: answers come from the cache, otherwise from the backend.

    Implements `protocol.Model`. Belongs to one event loop.
    """

    def __init__(
        self,
        name: str,
        cache_name: str,
        answer: Callable[[Request], Awaitable[Outcome]],
        *,
        backend: Backend,
        cache: ResponseCache | None,
        data_dir: Path,
        price: TokenPrice,
        concurrency: int,
        failures: FailureCount,
        options: ModelOptions | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        self.name = name
        self.data_dir = data_dir
        self.failures = failures
        self._cache_name = cache_name
        self._answer = answer
        self._backend = backend
        self._cache = cache
        self._options = options
        self._capabilities = capabilities
        self._price = price
        self._concurrency = concurrency
        self._in_progress: dict[str, _InProgress] = {}

    async def complete(self, requests: Iterable[Request]) -> AsyncIterator[Outcome]:
        """Answer every request, see `protocol.Model`.

        Requests are drawn lazily: at most a few hundred ahead of the answers.
        """
        if self._cache is None:
            async for outcome in map_concurrently(iter(requests), self._send, self._concurrency):
                yield outcome
            return
        lookups = self._look_up(with_options(request, self._options) for request in requests)
        async for outcome in map_concurrently(lookups, self._recall_or_ask, self._concurrency):
            yield outcome

    async def close(self) -> None:
        """Write pending answers to the cache and close the backend."""
        try:
            if self._cache is not None:
                self._cache.close()
        finally:
            await self._backend.close()

    def _look_up(self, requests: Iterable[Request]) -> Iterator[tuple[Request, str, Completion | None]]:
        """Yield requests with cache key and cached answer.

        Requests claimed by other workers come last: by then their answers may be in the cache.
        """
        assert self._cache is not None
        stream = ((request, fingerprint(self._cache_name, request)) for request in requests)
        claimed_elsewhere: list[tuple[Request, str]] = []
        while chunk := list(islice(stream, LOOKUP_CHUNK)):
            for _, key in chunk:
                self._in_progress.setdefault(key, _InProgress()).callers += 1
            pending, claimed_elsewhere = claimed_elsewhere + chunk, []
            cached, claimed = self._cache.get_or_claim([key for _, key in pending])
            for request, key in pending:
                if key in cached or key in claimed:
                    yield request, key, cached.get(key)
                else:
                    claimed_elsewhere.append((request, key))
        yield from ((request, key, None) for request, key in claimed_elsewhere)

    async def _recall_or_ask(self, item: tuple[Request, str, Completion | None]) -> Outcome:
        request, key, cached = item
        progress = self._in_progress[key]
        try:
            outcome = await self._answer_of(request, key, cached, progress)
            if self._capabilities is not None and isinstance(outcome, Completion) and outcome.adapted:
                self._capabilities.note_adapted(outcome.adapted, request)
            return outcome
        finally:
            progress.callers -= 1
            if not progress.callers:
                del self._in_progress[key]

    async def _answer_of(
        self, request: Request, key: str, cached: Completion | None, progress: _InProgress
    ) -> Outcome:
        if cached is not None:
            return self._priced(replace(cached, tag=request.tag))
        return await self._ask_once(request, key, progress)

    async def _ask_once(self, request: Request, key: str, progress: _InProgress) -> Outcome:
        """Send the request, or wait for an identical one that this model has already sent."""
        assert self._cache is not None
        while progress.answer is not None:
            outcome = await asyncio.shield(progress.answer)
            if outcome is not None:
                copy = replace(outcome, tag=request.tag)
                return replace(copy, cached=True) if isinstance(copy, Completion) else copy
        progress.answer = asyncio.get_running_loop().create_future()
        outcome = None
        try:
            outcome = await self._ask_in_turn(request, key, self._cache)
            return outcome
        finally:
            progress.answer.set_result(outcome)
            if outcome is None:
                progress.answer = None

    async def _ask_in_turn(self, request: Request, key: str, cache: ResponseCache) -> Outcome:
        """Send the request, or wait for the answer of another worker that has claimed it."""
        answered_elsewhere = await cache.wait_for_turn(key)
        if answered_elsewhere is not None:
            return self._priced(replace(answered_elsewhere, tag=request.tag))
        try:
            outcome = await self._send(request)
            if isinstance(outcome, Completion):
                cache.put(key, self._cache_name, outcome)
            return outcome
        finally:
            cache.give_up(key)

    async def _send(self, request: Request) -> Outcome:
        CALLS.add()
        outcome = await self._answer(request)
        if isinstance(outcome, Completion):
            return self._priced(outcome)
        usd = self._price.cost_usd(outcome.tokens_in, outcome.tokens_out, 0) if outcome.tokens_out else 0.0
        return replace(outcome, cost_usd=usd) if usd else outcome

    def _priced(self, completion: Completion) -> Completion:
        usd = self._price.cost_usd(completion.tokens_in, completion.tokens_out, completion.tokens_in_cached)
        return replace(completion, cost_usd=usd) if usd else completion


@dataclass(frozen=True)
class _Finished:
    """The last entry of a result queue, with the error that stopped the workers."""

    error: BaseException | None


async def map_concurrently(
    items: Iterator[T], work: Callable[[T], Awaitable[R]], limit: int
) -> AsyncIterator[R]:
    """Apply `work` to `limit` items at a time and yield the results in the order of completion.

    Items are drawn one by one, and no faster than results are consumed. After a `ModelError` the work in
    progress is finished and no further item is drawn. Any other error stops it at once.
    """
    results: asyncio.Queue[R | _Finished] = asyncio.Queue(maxsize=limit)
    stopped = False

    async def worker() -> None:
        for item in items:
            await results.put(await work(item))
            if stopped:
                return

    async def watch_workers() -> None:
        nonlocal stopped
        done, pending = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        errors = [error for error in (task.exception() for task in done) if error is not None]
        if pending and isinstance(errors[0], ModelError):
            stopped = True
            await asyncio.wait(pending)
        await results.put(_Finished(errors[0] if errors else None))

    workers = [asyncio.create_task(worker()) for _ in range(limit)]
    watcher = asyncio.create_task(watch_workers())
    try:
        while not isinstance(result := await results.get(), _Finished):
            yield result
        if result.error:
            raise result.error
    finally:
        for task in (watcher, *workers):
            task.cancel()
        await asyncio.gather(watcher, *workers, return_exceptions=True)


def count_cached(name: str, requests: Iterable[Request], settings: ModelSettings) -> int:
    """Return the number of requests with answers in the cache. Creates no cache."""
    if not cache_exists(settings.cache_path):
        return 0
    resolved = cache_name(parse_model_name(name).resolved(), settings.engine)
    options = settings.options.get(name)
    cache, count = ResponseCache(settings.cache_path), 0
    stream = (with_options(request, options) for request in requests)
    try:
        while chunk := list(islice(stream, LOOKUP_CHUNK)):
            keys = [fingerprint(resolved, request) for request in chunk]
            cached = cache.get(keys)
            count += sum(key in cached for key in keys)
    finally:
        cache.close()
    return count


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from synchronous code, also inside a running event loop (in a thread)."""
    if 0 < gc.get_threshold()[0] < GC_THRESHOLDS[0]:
        gc.set_threshold(*GC_THRESHOLDS)
    return outside_event_loop(lambda: asyncio.run(coroutine))
