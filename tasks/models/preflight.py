"""Check models before anything is spent: names, weights, recordings, prices and keys, then the servers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit

from schemas.errors import InputError, ModelError, Problems, join_steps
from tasks.models import run_async
from tasks.models.budget import Paid
from tasks.models.names import ModelName, origin, parse_model_name
from tasks.models.openai import OpenAIChat, import_client
from tasks.models.protocol import Decoding, FailedAttempt, Message, Request
from tasks.models.settings import ModelSettings, api_key, api_key_variable, with_options

T = TypeVar("T")

PING_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 1.0
TINY = Request("ping", (Message("user", "Say yes."),), Decoding(16))
"""Question to a server that does not list the model."""


def preflight(names: Iterable[str], settings: ModelSettings) -> None:
    """Run every check: `check_models` offline, then `ping` over the network.

    Raises:
        InputError: If a name, a key or weights are wrong. No server is asked for that.
        ModelError: If a server cannot be reached or refuses.
        BudgetError: If the price of a model is unknown.
    """
    models = list(names)
    check_models(models, settings)
    run_async(ping(models, settings))


def check_models(
    names: Iterable[str], settings: ModelSettings, *, embedders: Iterable[str] = (), keys: bool = True
) -> None:
    """Check models without the network: backend, weights, recording, price, API key.

    Args:
        names: Language models, as written in a recipe.
        settings: Settings of the run.
        embedders: Embedding models.
        keys: Whether the API keys must be set.

    Raises:
        InputError: If models cannot be used. All problems are reported.
        BudgetError: If the price of a model is unknown.
    """
    problems = Problems()
    for name in names:
        with problems.collect():
            _check_model(name, settings, keys=keys)
    for name in embedders:
        from tasks.models.embeddings import check_embedder

        with problems.collect():
            check_embedder(name, settings)
    problems.refuse()


def describe_missing(names: Iterable[str], settings: ModelSettings) -> list[str]:
    """Return what the models lack before they can be asked: keys, and servers that answer.

    Connections are opened and closed again, and nothing is sent.
    """
    missing: list[str] = []
    places: dict[str, str] = {}
    for name in names:
        model = parse_model_name(name).resolved()
        for single in model.at_each() if model.backend == "openai" else ():
            try:
                api_key(single, settings)
            except InputError:
                missing.append(f"{api_key_variable(single, settings)} is not set")
            else:
                assert single.endpoint is not None
                places.setdefault(origin(single.endpoint), single.endpoint)
    silent = find_silent(list(places))
    return list(
        dict.fromkeys([*missing, *(f"{place} does not answer" for place in places if place in silent)])
    )


def find_silent(places: Sequence[str]) -> set[str]:
    """Return the addresses (`scheme://host[:port]`) to which no connection opens within a second."""
    answering: set[str] = set()

    def connect(place: str) -> None:
        parts = urlsplit(place)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with suppress(OSError), socket.create_connection((parts.hostname or "", port), CONNECT_TIMEOUT_S):
            answering.add(place)

    # Daemon threads, because looking up a name cannot be interrupted.
    threads = [threading.Thread(target=connect, args=(place,), daemon=True) for place in places]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 2 * CONNECT_TIMEOUT_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(places) - answering


def _check_model(name: str, settings: ModelSettings, *, keys: bool) -> None:
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
        for single in model.at_each() if keys else ():
            api_key(single, settings)
    settings.price(name)


async def ping(names: Iterable[str], settings: ModelSettings) -> None:
    """Check that every server answers, accepts the API key and knows its model.

    A server that does not list the model is asked one tiny question. A model with several endpoints passes if
    one of them answers.

    Raises:
        ModelError: If a server cannot be reached, fails, or rejects the key or the model. All are reported.
            A stage raises the same for such a refusal.
    """
    problems = Problems()
    seen = set()
    for name in names:
        model = parse_model_name(name).resolved()
        if model.backend == "openai" and str(model) not in seen:
            seen.add(str(model))
            with problems.collect():
                await _ping_any(name, model, settings)
    problems.refuse()


async def _ping_any(configured: str, model: ModelName, settings: ModelSettings) -> None:
    errors = []
    for single in model.at_each():
        try:
            await _ping_one(configured, single, settings)
        except ModelError as error:
            errors.append(error)
    if len(errors) == len(model.endpoints):
        raise errors[0]


async def _ping_one(configured: str, model: ModelName, settings: ModelSettings) -> None:
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
    paid = Paid.of(server.ask, configured, settings)
    try:
        tiny = with_options(TINY, settings.options.get(configured))
        await _ask_server(server, paid, tiny, model, variable)
    finally:
        await server.close()
        paid.close()


async def _ask_server(
    server: OpenAIChat, paid: Paid, tiny: Request, model: ModelName, variable: str | None
) -> None:
    place = origin(server.endpoint)
    listed = await _in_time(server.list_models(), place)
    if isinstance(listed, FailedAttempt):
        hint = listed.hint or "start the server, or correct the endpoint in the recipe"
        raise ModelError(listed.message, place=str(model), hint=hint)
    status, names = listed
    if status >= 500:
        hint = "read the server's log, or correct the endpoint in the recipe"
        raise ModelError(f"{place} answers {status}", place=str(model), hint=hint)
    if status in (401, 403):
        hint = f"check {variable}" if variable else "name the key's variable under `api_keys` in the recipe"
        raise ModelError(f"{place} does not accept the API key", place=str(model), hint=hint)
    if model.name in names:
        return
    answer = await _in_time(paid.ask(tiny), place)
    if isinstance(answer, FailedAttempt) and answer.stops:
        others = [f"the server lists {', '.join(names[:5])}"] if names else []
        hint = join_steps(answer.hint or "repair it", *others)
        raise ModelError(answer.message, place=str(model), hint=hint)


async def _in_time(call: Awaitable[T | FailedAttempt], place: str) -> T | FailedAttempt:
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            return await call
    except TimeoutError:
        return FailedAttempt("timeout", f"{place} did not answer within {PING_TIMEOUT_S:g} s")
