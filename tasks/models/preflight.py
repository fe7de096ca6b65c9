"""Check models before anything is spent: names, weights, recordings, prices and keys, then the servers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from schemas.errors import InputError
from tasks.models import run_async
from tasks.models.names import ModelName, origin, parse_model_name
from tasks.models.openai import OpenAIChat, import_client
from tasks.models.protocol import Decoding, FailedAttempt, Message, Request
from tasks.models.settings import ModelSettings, api_key, api_key_variable

T = TypeVar("T")

PING_TIMEOUT_S = 15.0
TINY = Request("ping", (Message("user", "Say yes."),), Decoding(16))
"""Question to a server that does not list the model."""


def preflight(names: Iterable[str], settings: ModelSettings) -> None:
    """Run every check: `check_models` offline, then `ping` over the network.

    Raises:
        InputError: If a model cannot be used.
        BudgetError: If the price of a model is unknown.
    """
    models = list(names)
    check_models(models, settings)
    run_async(ping(models, settings))


def check_models(names: Iterable[str], settings: ModelSettings, *, embedders: Iterable[str] = ()) -> None:
    """Check models without the network: backend, weights, recording, price, API key.

    Args:
        names: Language models, as written in a recipe.
        settings: Settings of the run.
        embedders: Embedding models.

    Raises:
        InputError: If a model cannot be used. The first problem is reported.
        BudgetError: If the price of a model is unknown.
    """
    for name in names:
        _check_model(name, settings)
    for name in embedders:
        from tasks.models.embeddings import check_embedder

        check_embedder(name, settings)


def _check_model(name: str, settings: ModelSettings) -> None:
    model = parse_model_name(name).resolved()
    if model.backend == "vllm":
        from tasks.models.vllm import check_vllm

        check_vllm(model)
    elif model.backend == "embedded":
        from tasks.models.embedded import find_weights

        find_weights(model.name)
    elif model.backend == "replay":
        from tasks.models.replay import find_recording

        find_recording(model.name)
    else:
        if name in settings.batch and len(model.endpoints) > 1:
            raise InputError(
                "a model in `models.batch` must have one endpoint, and this one has several",
                place=name,
                hint="name one endpoint, or remove the model from `models.batch`",
            )
        for single in model.at_each():
            api_key(single, settings)
    settings.price(name)


async def ping(names: Iterable[str], settings: ModelSettings) -> None:
    """Check that every server answers, accepts the API key and knows its model.

    A server that does not list the model is asked one tiny question. A model with several endpoints passes if
    one of them answers.

    Raises:
        InputError: If a server cannot be reached, fails, or rejects the key or the model.
    """
    seen = set()
    for name in names:
        model = parse_model_name(name).resolved()
        if model.backend == "openai" and str(model) not in seen:
            seen.add(str(model))
            await _ping_any(model, settings)


async def _ping_any(model: ModelName, settings: ModelSettings) -> None:
    errors = []
    for single in model.at_each():
        try:
            await _ping_one(single, settings)
        except InputError as error:
            errors.append(error)
    if len(errors) == len(model.endpoints):
        raise errors[0]


async def _ping_one(model: ModelName, settings: ModelSettings) -> None:
    assert model.endpoint is not None
    import_client()
    variable = api_key_variable(model, settings)
    server = OpenAIChat(
        model.name,
        model.endpoint,
        api_key=api_key(model, settings),
        connections=1,
        schema_prompt="",
        key_variable=variable,
    )
    try:
        await _ask_server(server, model, variable)
    finally:
        await server.close()


async def _ask_server(server: OpenAIChat, model: ModelName, variable: str | None) -> None:
    place = origin(server.endpoint)
    listed = await _in_time(server.list_models(), place)
    if isinstance(listed, FailedAttempt):
        hint = listed.hint or "start the server, or correct the endpoint in the recipe"
        raise InputError(listed.message, place=str(model), hint=hint)
    status, names = listed
    if status >= 500:
        hint = "read the server's log, or correct the endpoint in the recipe"
        raise InputError(f"{place} answers {status}", place=str(model), hint=hint)
    if status in (401, 403):
        hint = f"check {variable}" if variable else "name the key's variable under `api_keys` in the recipe"
        raise InputError(f"{place} does not accept the API key", place=str(model), hint=hint)
    if model.name in names:
        return
    answer = await _in_time(server.ask(TINY), place)
    if isinstance(answer, FailedAttempt) and answer.stops:
        others = f"; the server lists {', '.join(names[:5])}" if names else ""
        raise InputError(answer.message, place=str(model), hint=f"{answer.hint or 'repair it'}{others}")


async def _in_time(call: Coroutine[Any, Any, T | FailedAttempt], place: str) -> T | FailedAttempt:
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            return await call
    except TimeoutError:
        return FailedAttempt("timeout", f"{place} did not answer within {PING_TIMEOUT_S:g} s")
