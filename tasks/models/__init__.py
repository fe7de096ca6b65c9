"""A model as stages see it: answers from the cache, else from the backend, so many at a time."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, TypeVar

from schemas.errors import InputError
from schemas.recipe import Limits
from tasks.models.budget import Ledger, ledger_of, within_budget
from tasks.models.cache import ResponseCache, fingerprint
from tasks.models.cache_database import is_there
from tasks.models.endpoints import SharedLoad
from tasks.models.limits import limiter_of, send_with_retries
from tasks.models.names import (
    FREE,
    ModelName,
    ModelSettings,
    TokenPrice,
    api_key,
    api_key_variable,
    cache_name,
    origin,
    parse_model_name,
)
from tasks.models.openai import NO_KEY, OpenAIChat, dialect_of, import_client, read_schema_prompt
from tasks.models.openai_batch import BatchModel, BatchServer, JobFolder, batch_limits
from tasks.models.protocol import Backend, Completion, FailedAttempt, FailureCount, Outcome, Request

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
        price: TokenPrice,
        at_a_time: int,
        failures: FailureCount,
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


# What can be known about models before anything is spent, offline and online.


PING_S = 15.0


def check_models(names: Iterable[str], settings: ModelSettings) -> None:
    """What can be known offline: backends, weights, recordings, prices, keys. Raises the first `InputError`
    or `BudgetError`."""
    for name in names:
        model = parse_model_name(name).resolved()
        if name in settings.batch and len(model.endpoints) > 1:
            raise InputError(
                "a model that is asked in batches has one endpoint",
                place=name,
                hint="name one of them, or take the model out of `models.batch`",
            )
        if model.backend == "vllm":
            from tasks.models.vllm import check_vllm

            check_vllm(model)
        elif model.backend == "embedded":
            from tasks.models.embedded import find_weights

            find_weights(model.name)
        elif model.backend == "replay":
            from tasks.models.replay import recording

            recording(model.name)
        else:
            refuse_batches_at_several(name, model, settings)
            for alone in model.at_each():
                api_key(alone, settings)
        settings.price(name)


async def ping(names: Iterable[str], settings: ModelSettings) -> None:
    """Whether every server is there and takes our key, before anything is spent. Raises `InputError`."""
    asked = set()
    for name in names:
        model = parse_model_name(name).resolved()
        if model.backend == "openai" and model.endpoint not in asked:
            asked.add(model.endpoint)
            await _ping_any(model, settings)


async def _ping_any(model: ModelName, settings: ModelSettings) -> None:
    """One endpoint is enough; raises what the first of them raised where there is none."""
    errors = []
    for alone in model.at_each():
        try:
            await _ping(alone, settings)
        except InputError as error:
            errors.append(error)
    if len(errors) == len(model.endpoints):
        raise errors[0]


def refuse_batches_at_several(name: str, model: ModelName, settings: ModelSettings) -> None:
    """A batch is one provider's."""
    if name in settings.batch and len(model.endpoints) > 1:
        raise InputError(
            "a model that is asked in batches has several endpoints",
            place=name,
            hint="name one endpoint, or take the model out of `models.batch`",
        )


async def _ping(model: ModelName, settings: ModelSettings) -> None:
    assert model.endpoint is not None
    key = api_key(model, settings)
    server = OpenAIChat(model.name, model.endpoint, api_key=key, connections=1, schema_prompt="")
    try:
        async with asyncio.timeout(PING_S):
            status = await server.models_status()
    except TimeoutError:
        status = FailedAttempt("timeout", f"{origin(model.endpoint)} did not answer within {PING_S:g} s")
    finally:
        await server.close()
    if isinstance(status, FailedAttempt):
        hint = "start the server, or correct the endpoint in the recipe"
        raise InputError(status.message, place=str(model), hint=hint)
    if status >= 500:
        hint = "see the server's log, or correct the endpoint in the recipe"
        raise InputError(f"{origin(model.endpoint)} answers {status}", place=str(model), hint=hint)
    if status in (401, 403):
        variable = api_key_variable(model, settings)
        hint = f"check {variable}" if variable else "name its key's variable under `api_keys` in the recipe"
        raise InputError(f"{origin(model.endpoint)} does not accept the key", place=str(model), hint=hint)


def count_cached(name: str, requests: Iterable[Request], settings: ModelSettings) -> int:
    """How many of these requests need not be sent, because their answers are in the cache."""
    if not is_there(settings.cache_path):
        return 0
    resolved = cache_name(parse_model_name(name).resolved(), settings.engine)
    cache, stream, count = ResponseCache(settings.cache_path), iter(requests), 0
    try:
        while chunk := list(islice(stream, LOOK_UP)):
            keys = [fingerprint(resolved, request) for request in chunk]
            found = cache.get(keys)
            count += sum(key in found for key in keys)
    finally:
        cache.close()
    return count


# The door to models: name one, get something that answers requests.
#
#     async with open_model("openai:gpt-5-mini", ModelSettings.of(context)) as model:
#         async for outcome in model.complete(requests):
#             ...
#
# Around every backend stand the same layers: cache → limits and retries → budget → backend. Money is reserved
# for every try, not once a call, so that what retries cost is within the budget too.


__all__ = ["ModelSettings", "check_models", "count_cached", "open_model", "ping", "run_async"]


AT_A_TIME = 4
"""Requests that are worked on for each that may be in flight: between two tries a request holds no place.
In batches there is nothing between two tries."""
COLLECTIONS = (10_000, 20, 20)
"""Objects that outlive others before Python looks for cycles. With hundreds of requests in flight its own 700
are reached all the time, and looking takes a fifth of the stage's CPU seconds (benchmarks/respond.py)."""


@asynccontextmanager
async def open_model(name: str, settings: ModelSettings) -> AsyncIterator[OpenModel]:
    """A model ready to answer, for one event loop; what it learnt is on disk when the block ends."""
    resolved = parse_model_name(name).resolved()
    batched = name in settings.batch
    limits = batch_limits(settings.limits(name)) if batched else _limits(resolved, settings.limits(name))
    price = settings.price(name)
    ledger = ledger_of(settings.run_dir, settings.budget_usd)
    batches = connect_batches(resolved, settings, ledger, price) if batched else None
    backend = batches or await connect_backend(resolved, settings, limits)
    ask = backend.ask if batches or price == FREE else within_budget(backend.ask, ledger, price)
    limiter = limiter_of(str(resolved), limits)
    answer = partial(send_with_retries, ask, limiter)
    model = OpenModel(
        name,
        cache_name(resolved, settings.engine),
        partial(_with_client, answer) if resolved.backend == "openai" else answer,
        backend=backend,
        cache=None if resolved.backend == "replay" else ResponseCache(settings.cache_path),
        price=price,
        at_a_time=limits.max_in_flight * (1 if batched else AT_A_TIME),
        failures=FailureCount(settings.max_failure_rate),
    )
    try:
        yield model
    finally:
        await model.close()
        if batches:
            batches.forget_collected()
        ledger.close()


async def _with_client(answer: Callable[[Request], Awaitable[Outcome]], request: Request) -> Outcome:
    """The first call imports the client, before its time counts; where every answer is known, nobody does."""
    import_client()
    return await answer(request)


def _limits(model: ModelName, limits: Limits) -> Limits:
    """An embedded model answers as many requests at a time as it has servers; more would only queue."""
    if model.backend != "embedded":
        return limits
    from tasks.models.embedded import server_count

    return limits.model_copy(update={"max_in_flight": min(limits.max_in_flight, server_count())})


def connect_batches(
    model: ModelName, settings: ModelSettings, ledger: Ledger, price: TokenPrice
) -> BatchModel:
    """A model behind its provider's Batch API, by its resolved name."""
    assert model.endpoint is not None
    return BatchModel(
        model.name,
        str(model),
        BatchServer(model.endpoint, api_key(model, settings) or NO_KEY),
        JobFolder(settings.run_dir),
        dialect=dialect_of(model.endpoint, model.name),
        schema_prompt=read_schema_prompt(settings.data_dir),
        ledger=ledger,
        price=price,
    )


async def connect_backend(model: ModelName, settings: ModelSettings, limits: Limits) -> Backend:
    """The backend of a resolved name."""
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
            api_key=api_key(alone, settings),
            connections=limits.max_in_flight,
            schema_prompt=prompt,
        )
        for alone in model.at_each()
        for endpoint in alone.endpoints
    ]
    return chats[0] if len(chats) == 1 else SharedLoad(chats)


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end from ordinary code, in a thread with or without an event loop of its own."""
    if 0 < gc.get_threshold()[0] < COLLECTIONS[0]:
        gc.set_threshold(*COLLECTIONS)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(coroutine))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="run_async")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
