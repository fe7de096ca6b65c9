"""The door to models: name one, get something that answers requests.

    async with open_model("openai:gpt-5-mini", ModelSettings.of(context)) as model:
        async for outcome in model.complete(requests):
            ...

Around every backend stand the same layers: cache → limits and retries → budget → backend. Money is reserved
for every try, not once a call, so that what retries cost is within the budget too.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from schemas.errors import InputError
from schemas.recipe import Limits
from tasks.models.answering import LOOK_UP, OpenModel
from tasks.models.backend import Backend, Setback
from tasks.models.budget import ledger_of, within_budget
from tasks.models.cache import ResponseCache
from tasks.models.fingerprint import fingerprint
from tasks.models.limits import limiter_of
from tasks.models.names import OPENAI_ENDPOINT, ModelName, is_loopback, origin, parse_model_name
from tasks.models.openai_chat import OpenAIChat, read_schema_prompt
from tasks.models.prices import FREE, Price, price_of
from tasks.models.protocol import Request
from tasks.models.retries import ask_patiently
from tasks.store import RunContext

PING_S = 15.0
T = TypeVar("T")


@dataclass(frozen=True)
class ModelSettings:
    """What a model needs to know beside its name. Holds names of keys, never keys."""

    data_dir: Path
    """Holds `prices.yaml` and `prompts/`."""
    run_dir: Path
    """Where the run's spending is recorded."""
    cache_path: Path
    budget_usd: float = 0.0
    free: frozenset[str] = frozenset()
    api_keys: Mapping[str, str] = field(default_factory=dict)
    """Environment variable by endpoint (`http://host:port`)."""
    limits: Callable[[str], Limits] = lambda name: Limits()
    prices_path: Path | None = None
    """Default: `prices.yaml` in `data_dir`."""

    @classmethod
    def of(cls, context: RunContext) -> ModelSettings:
        recipe = context.recipe
        return cls(
            data_dir=Path(context.data_dir),
            run_dir=Path(context.run_dir),
            cache_path=Path(context.cache_path),
            budget_usd=context.budget_usd,
            free=frozenset(recipe.budget.free),
            api_keys=recipe.api_keys,
            limits=recipe.limits_of,
        )

    def price(self, name: str) -> Price:
        """What the model costs; raises `BudgetError` where that is not known."""
        prices = self.prices_path or self.data_dir / "prices.yaml"
        return price_of(parse_model_name(name), configured=name, free=self.free, prices_path=prices)


@asynccontextmanager
async def open_model(name: str, settings: ModelSettings) -> AsyncIterator[OpenModel]:
    """A model ready to answer, for one event loop; what it learnt is on disk when the block ends."""
    resolved = parse_model_name(name).resolved()
    limits = _limits(resolved, settings.limits(name))
    price = settings.price(name)
    backend = await connect_backend(resolved, settings, limits)
    ledger = ledger_of(settings.run_dir, settings.budget_usd)
    ask = backend.ask if price == FREE else within_budget(backend.ask, ledger, price)
    limiter = limiter_of(str(resolved), limits)
    model = OpenModel(
        name,
        str(resolved),
        partial(ask_patiently, ask, limiter),
        backend=backend,
        cache=None if resolved.backend == "replay" else ResponseCache(settings.cache_path),
        price=price,
        in_flight=limits.max_in_flight,
    )
    try:
        yield model
    finally:
        await model.close()
        ledger.close()


def _limits(model: ModelName, limits: Limits) -> Limits:
    """An embedded model answers as many requests at a time as it has servers; more would only queue."""
    if model.backend != "embedded":
        return limits
    from tasks.models.embedded import server_count

    return limits.model_copy(update={"max_in_flight": min(limits.max_in_flight, server_count())})


async def connect_backend(model: ModelName, settings: ModelSettings, limits: Limits) -> Backend:
    """The backend of a resolved name."""
    if model.backend == "replay":
        from tasks.models.replay import Replay

        return Replay(model.name)
    if model.backend == "vllm":
        raise no_vllm(model)
    prompt = read_schema_prompt(settings.data_dir)
    if model.backend == "embedded":
        from tasks.models.embedded import EmbeddedModel, embedded_servers

        servers = await asyncio.to_thread(embedded_servers, model.name)
        return EmbeddedModel(model.name, servers, prompt)
    assert model.endpoint is not None
    return OpenAIChat(
        model.name,
        model.endpoint,
        api_key=api_key(model, settings),
        connections=limits.max_in_flight,
        schema_prompt=prompt,
    )


def no_vllm(model: ModelName) -> InputError:
    return InputError(
        "vLLM inside this process is not built in yet",
        place=str(model),
        hint=f"start `vllm serve {model.name}` and name it `openai:{model.name}@http://localhost:8000/v1`",
    )


def api_key_variable(model: ModelName, settings: ModelSettings) -> str | None:
    """The environment variable that holds the key for a resolved model, if one is configured."""
    if model.endpoint is None:
        return None
    place = origin(model.endpoint)
    named = {origin(endpoint): variable for endpoint, variable in settings.api_keys.items()}
    if place in named:
        return named[place]
    own = {origin(OPENAI_ENDPOINT), origin(os.environ.get("OPENAI_BASE_URL", "") or OPENAI_ENDPOINT)}
    return "OPENAI_API_KEY" if place in own or is_loopback(model.endpoint) else None


def api_key(model: ModelName, settings: ModelSettings) -> str | None:
    """The key for a resolved model. Raises `InputError` where one is needed and not set."""
    variable = api_key_variable(model, settings)
    value = os.environ.get(variable, "").strip() if variable else ""
    assert model.endpoint is not None
    needed = variable is not None and (
        variable != "OPENAI_API_KEY" or origin(model.endpoint) == origin(OPENAI_ENDPOINT)
    )
    if needed and not value:
        raise InputError(
            f"the environment variable {variable} is not set",
            place=str(model),
            hint=f"it holds the key for {origin(model.endpoint)}: `export {variable}=…`",
        )
    return value or None


def check_models(names: Iterable[str], settings: ModelSettings) -> None:
    """What can be known offline: backends, weights, recordings, prices, keys. Raises the first `InputError`
    or `BudgetError`."""
    for name in names:
        model = parse_model_name(name).resolved()
        if model.backend == "vllm":
            raise no_vllm(model)
        if model.backend == "embedded":
            from tasks.models.embedded import find_weights

            find_weights(model.name)
        elif model.backend == "replay":
            from tasks.models.replay import recording

            recording(model.name)
        else:
            api_key(model, settings)
        settings.price(name)


async def ping(names: Iterable[str], settings: ModelSettings) -> None:
    """Whether every server is there and takes our key, before anything is spent. Raises `InputError`."""
    asked = set()
    for name in names:
        model = parse_model_name(name).resolved()
        if model.backend == "openai" and model.endpoint not in asked:
            asked.add(model.endpoint)
            await _ping(model, settings)


async def _ping(model: ModelName, settings: ModelSettings) -> None:
    assert model.endpoint is not None
    key = api_key(model, settings)
    server = OpenAIChat(model.name, model.endpoint, api_key=key, connections=1, schema_prompt="")
    try:
        async with asyncio.timeout(PING_S):
            status = await server.models_status()
    except TimeoutError:
        status = Setback("timeout", f"{origin(model.endpoint)} did not answer within {PING_S:g} s")
    finally:
        await server.close()
    if isinstance(status, Setback):
        hint = "start the server, or correct the endpoint in the recipe"
        raise InputError(status.message, place=str(model), hint=hint)
    if status in (401, 403):
        variable = api_key_variable(model, settings)
        hint = f"check {variable}" if variable else "name its key's variable under `api_keys` in the recipe"
        raise InputError(f"{origin(model.endpoint)} does not accept the key", place=str(model), hint=hint)


def count_cached(name: str, requests: Iterable[Request], settings: ModelSettings) -> int:
    """How many of these requests need not be sent, because their answers are in the cache."""
    if not settings.cache_path.exists():
        return 0
    resolved = str(parse_model_name(name).resolved())
    cache, stream, count = ResponseCache(settings.cache_path), iter(requests), 0
    try:
        while chunk := list(islice(stream, LOOK_UP)):
            keys = [fingerprint(resolved, request) for request in chunk]
            found = cache.get(keys)
            count += sum(key in found for key in keys)
    finally:
        cache.close()
    return count


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end from ordinary code, in a thread with or without an event loop of its own."""
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
