"""Embeddings: what texts mean, as unit vectors. The only door to embedding models.

`embedded:wordllama-256` (extra `semantic`) averages word vectors in this process, with no network: its
weights come with the package. `openai:NAME[@ENDPOINT]` asks a server's `/embeddings` route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import BudgetError, InputError, ModelError
from tasks.models import run_async
from tasks.models.budget import ledger_of
from tasks.models.names import ModelName, origin, parse_model_name
from tasks.models.openai import chat_client, without_keys
from tasks.models.protocol import estimate_tokens
from tasks.models.settings import ModelSettings, api_key

Vectors = NDArray[np.float32]
STATIC = "embedded:wordllama-256"
BATCH = 128
ATTEMPTS = 6
TIMEOUT_S = 120.0


def check_embedder(name: str, settings: ModelSettings) -> None:
    """Raise `InputError` or `BudgetError` for a model that cannot be asked, before anything is spent."""
    if name == STATIC:
        _static_model()
        return
    model = parse_model_name(name).resolved()
    if model.backend != "openai":
        raise InputError(
            f"{name} gives no embeddings",
            hint=f"name `{STATIC}`, or a server's model as `openai:NAME@http://localhost:8000/v1`",
        )
    api_key(model, settings)
    settings.price(name)


def embed_texts(name: str, texts: Sequence[str], settings: ModelSettings) -> Vectors:
    """A vector of length 1 for each text, shape (n, d). Raises `BudgetError` where it may cost more than is
    left, `ModelError` where the server fails."""
    check_embedder(name, settings)
    if name == STATIC:
        return np.asarray(_static_model().embed(list(texts), norm=True), np.float32)
    model = parse_model_name(name).resolved()
    vectors = run_async(_ask(name, model, texts, settings))
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


@cache
def _static_model() -> Any:
    """Word vectors of 256 numbers (github.com/dleemiller/WordLlama, MIT licence), from its package alone."""
    try:
        import wordllama  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise InputError(
            "the embedded word vectors are not installed",
            place=STATIC,
            hint="install the extra `semantic`, or name a server's model",
        ) from None
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


async def _ask(name: str, model: ModelName, texts: Sequence[str], settings: ModelSettings) -> Vectors:
    assert model.endpoint is not None
    price = settings.price(name)
    limits = settings.limits(name)
    key = api_key(model, settings) or "none"
    worst = price.cost_usd(sum(estimate_tokens(text) for text in texts), 0, calls=len(texts))
    ledger = ledger_of(settings.run_dir, settings.budget_usd)
    if not ledger.reserve(worst):
        left = max(0.0, ledger.limit_usd - ledger.spent_usd())
        raise BudgetError(
            f"embedding {len(texts):,} texts may cost ${worst:.4f}, and ${left:.4f} of the budget is left",
            place=name,
            hint="raise the budget, or turn the semantic stage off",
        )
    client = chat_client(model.endpoint, key, limits.max_in_flight)
    client = client.with_options(max_retries=ATTEMPTS - 1, timeout=TIMEOUT_S)
    gate, used = asyncio.Semaphore(limits.max_in_flight), 0

    async def batch(some: Sequence[str]) -> Vectors:
        nonlocal used
        async with gate:
            answer = await client.embeddings.create(
                model=model.name, input=list(some), encoding_format="float"
            )
        used += answer.usage.total_tokens if answer.usage else 0
        by_place = sorted(answer.data, key=lambda item: item.index)
        if [item.index for item in by_place] != list(range(len(some))):
            raise ModelError(f"{origin(model.endpoint or '')} did not answer for every text", place=name)
        return np.array([item.embedding for item in by_place], np.float32)

    import openai

    try:
        batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
        return np.concatenate(await asyncio.gather(*map(batch, batches)))
    except openai.OpenAIError as error:
        said = without_keys(getattr(error, "message", type(error).__name__), key)
        hint = "see the server's log: does it serve embeddings of this model?"
        raise ModelError(f"no embeddings: {said}", place=name, hint=hint) from None
    finally:
        ledger.settle(worst, price.cost_usd(used, 0, calls=len(texts)))
        await client.close()
