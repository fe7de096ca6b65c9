"""The door to models: name one, get something that answers requests.

    async with open_model("openai:gpt-5-mini", ModelSettings.of(context)) as model:
        async for outcome in model.complete(requests):
            ...

Around every backend stand the same layers: cache → limits and retries → budget → backend. Money is reserved
for every try, not once a call, so that what retries cost is within the budget too.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from schemas.recipe import Limits
from tasks.models.answering import OpenModel
from tasks.models.backend import Backend
from tasks.models.batch import BatchModel, batch_limits
from tasks.models.batch_jobs import JobFolder
from tasks.models.batch_server import BatchServer
from tasks.models.budget import Ledger, ledger_of, within_budget
from tasks.models.cache import ResponseCache
from tasks.models.endpoints import SharedLoad
from tasks.models.failures import Failures
from tasks.models.limits import limiter_of
from tasks.models.model_folder import known_as
from tasks.models.names import ModelName, parse_model_name
from tasks.models.openai_chat import NO_KEY, OpenAIChat, dialect_of, import_client, read_schema_prompt
from tasks.models.preflight import check_models, count_cached, ping
from tasks.models.prices import FREE, Price
from tasks.models.protocol import Outcome, Request
from tasks.models.retries import ask_patiently
from tasks.models.settings import ModelSettings, api_key

__all__ = ["ModelSettings", "check_models", "count_cached", "open_model", "ping", "run_async"]

T = TypeVar("T")

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
    answer = partial(ask_patiently, ask, limiter)
    model = OpenModel(
        name,
        known_as(resolved, settings.engine),
        partial(_with_client, answer) if resolved.backend == "openai" else answer,
        backend=backend,
        cache=None if resolved.backend == "replay" else ResponseCache(settings.cache_path),
        price=price,
        at_a_time=limits.max_in_flight * (1 if batched else AT_A_TIME),
        failures=Failures(settings.max_failure_rate),
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


def connect_batches(model: ModelName, settings: ModelSettings, ledger: Ledger, price: Price) -> BatchModel:
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
        from tasks.models.vllm_engine import VLLMModel, vllm_engine

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
