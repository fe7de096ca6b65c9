"""Embeddings: texts as unit vectors. This is the only door to embedding models.

`embedded:wordllama-256` averages word vectors, and `embedded:minilm-l6-v2` is a sentence encoder. Both run in
this process without a network: their weights come with packages (extra `semantic`). `openai:NAME[@ENDPOINT]`
uses the `/embeddings` route of a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InputError, ModelError
from schemas.release import CostMeter
from tasks.models import run_async, sentence_encoder
from tasks.models.budget import reserve_batch
from tasks.models.limits import own_part
from tasks.models.names import ModelName, origin, parse_model_name
from tasks.models.openai import chat_client, without_keys
from tasks.models.protocol import estimate_tokens
from tasks.models.settings import ModelSettings, api_key

Vectors = NDArray[np.float32]
STATIC = "embedded:wordllama-256"
BATCH = 128
ATTEMPTS = 6
TIMEOUT_S = 120.0
MAX_BYTES = 64_000_000
"""Largest answer. 128 vectors of 4,096 numbers are about 12 MB as text."""


def check_embedder(name: str, settings: ModelSettings) -> None:
    """Check an embedding model without the network.

    Raises:
        InputError: If the model is not installed, gives no embeddings, or has no API key.
        BudgetError: If its price is unknown.
    """
    if name == STATIC:
        _static_model()
        return
    if name == sentence_encoder.NAME:
        sentence_encoder.check_encoder()
        return
    model = parse_model_name(name).resolved()
    if model.backend != "openai":
        raise InputError(
            f"{name} gives no embeddings",
            hint=f"name `{STATIC}`, `{sentence_encoder.NAME}`, or a server's model as "
            "`openai:NAME@http://localhost:8000/v1`",
        )
    api_key(model, settings)
    settings.price(name)


def embed_texts(
    name: str, texts: Sequence[str], settings: ModelSettings, meter: CostMeter | None = None
) -> Vectors:
    """Embed texts.

    Args:
        name: The model.
        texts: The texts.
        settings: Keys, limits and prices.
        meter: Counts the calls of a server's model.

    Returns:
        Vectors of length 1, shape (n, d).

    Raises:
        BudgetError: If the call may cost more than is left.
        ModelError: If the server fails.
    """
    check_embedder(name, settings)
    if name == STATIC:
        return np.asarray(_static_model().embed(list(texts), norm=True), np.float32)
    if name == sentence_encoder.NAME:
        return np.asarray(sentence_encoder.encode_sentences(texts), np.float32)
    model = parse_model_name(name).resolved()
    vectors = run_async(_ask(name, model, texts, settings, meter))
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


@cache
def _static_model() -> Any:
    """Load word vectors of 256 dimensions (github.com/dleemiller/WordLlama, MIT) from the package alone."""
    try:
        import wordllama  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise InputError(
            "the embedded word vectors are not installed",
            place=STATIC,
            hint="install the extra `semantic`, or name a server's model",
        ) from None
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


async def _ask(
    name: str, model: ModelName, texts: Sequence[str], settings: ModelSettings, meter: CostMeter | None
) -> Vectors:
    """Return raw vectors from a server, and settle their cost."""
    assert model.endpoint is not None
    price = settings.price(name)
    limits = own_part(settings.limits(name))
    key = api_key(model, settings) or "none"
    worst = price.cost_usd(sum(estimate_tokens(text) for text in texts), 0, calls=len(texts))
    ledger = reserve_batch(settings, name, worst, f"embedding {len(texts):,} texts")
    client = chat_client(model.endpoint, key, limits.max_in_flight, MAX_BYTES)
    client = client.with_options(max_retries=ATTEMPTS - 1, timeout=TIMEOUT_S)
    semaphore, used = asyncio.Semaphore(limits.max_in_flight), 0

    async def embed_batch(part: Sequence[str]) -> Vectors:
        nonlocal used
        async with semaphore:
            answer = await client.embeddings.create(
                model=model.name, input=list(part), encoding_format="float"
            )
        used += answer.usage.total_tokens if answer.usage else sum(map(estimate_tokens, part))
        in_order = sorted(answer.data, key=lambda item: item.index)
        if [item.index for item in in_order] != list(range(len(part))):
            raise ModelError(
                f"{origin(model.endpoint or '')} did not return a vector for every text", place=name
            )
        return np.array([item.embedding for item in in_order], np.float32)

    import openai

    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    try:
        return np.concatenate(await asyncio.gather(*map(embed_batch, batches)))
    except openai.OpenAIError as error:
        reason = without_keys(getattr(error, "message", type(error).__name__), key)
        hint = "read the server's log, and check that it serves embeddings of this model"
        raise ModelError(f"the server gave no embeddings: {reason}", place=name, hint=hint) from None
    finally:
        cost = price.cost_usd(used, 0, calls=len(texts))
        ledger.settle(worst, cost)
        if meter:
            meter.add(name, len(batches), used, cost)
        await client.close()
