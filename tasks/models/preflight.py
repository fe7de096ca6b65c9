"""What can be known about models before anything is spent, offline and online."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice

from schemas.errors import InputError
from tasks.models.answering import LOOK_UP
from tasks.models.backend import Setback
from tasks.models.cache import ResponseCache
from tasks.models.cache_database import is_there
from tasks.models.fingerprint import fingerprint
from tasks.models.model_folder import known_as
from tasks.models.names import ModelName, origin, parse_model_name
from tasks.models.openai_chat import OpenAIChat
from tasks.models.protocol import Request
from tasks.models.settings import ModelSettings, api_key, api_key_variable

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
            from tasks.models.vllm_engine import check_vllm

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
        status = Setback("timeout", f"{origin(model.endpoint)} did not answer within {PING_S:g} s")
    finally:
        await server.close()
    if isinstance(status, Setback):
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
    resolved = known_as(parse_model_name(name).resolved(), settings.engine)
    cache, stream, count = ResponseCache(settings.cache_path), iter(requests), 0
    try:
        while chunk := list(islice(stream, LOOK_UP)):
            keys = [fingerprint(resolved, request) for request in chunk]
            found = cache.get(keys)
            count += sum(key in found for key in keys)
    finally:
        cache.close()
    return count
