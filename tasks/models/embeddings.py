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
from tasks.models.names import parse_model_name
from tasks.models.openai_format import read_count
from tasks.models.protocol import FailedAttempt, estimate_tokens
from tasks.models.routes import open_routes
from tasks.models.settings import ModelSettings, api_key

Vectors = NDArray[np.float32]
STATIC = "embedded:wordllama-256"
BATCH = 128
LARGEST_NUMBER = 1e30
"""Larger numbers and those that are not finite are no part of a vector."""


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
    vectors = run_async(_ask(name, texts, settings, meter))
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
    name: str, texts: Sequence[str], settings: ModelSettings, meter: CostMeter | None
) -> NDArray[np.float64]:
    """Return raw vectors from a server, and settle their cost."""
    price = settings.price(name)
    worst = price.cost_usd(sum(estimate_tokens(text) for text in texts), 0, calls=len(texts))
    ledger = reserve_batch(settings, name, worst, f"embedding {len(texts):,} texts")
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    used = 0

    async with open_routes(name, settings) as routes:

        async def embed_batch(number: int) -> NDArray[np.float64]:
            nonlocal used
            part = list(batches[number])
            body = {"model": routes.model, "input": part, "encoding_format": "float"}
            answer = await routes.post(number, "/embeddings", body)
            if isinstance(answer, FailedAttempt):
                hint = (
                    answer.hint or "read the server's log, and check that it serves embeddings of this model"
                )
                raise ModelError(f"the server gave no embeddings: {answer.message}", place=name, hint=hint)
            usage = answer.get("usage") if isinstance(answer, dict) else None
            stated = usage.get("total_tokens") if isinstance(usage, dict) else None
            used += read_count(stated, sum(map(estimate_tokens, part)))
            found = read_vectors(answer, len(part))
            if found is None:
                raise ModelError(
                    f"{routes.place} did not return a vector of finite numbers for every text", place=name
                )
            return found

        try:
            parts = await asyncio.gather(*map(embed_batch, range(len(batches))))
        finally:
            cost = price.cost_usd(used, 0, calls=len(texts))
            ledger.settle(worst, cost)
            if meter:
                meter.add(name, len(batches), used, cost)
        if len({part.shape[1] for part in parts}) > 1:
            raise ModelError(f"the vectors of {routes.place} have different lengths", place=name)
    return np.concatenate(parts)


def read_vectors(answer: Any, shown: int) -> NDArray[np.float64] | None:
    """Return the vectors in an answer, shape (n, d), in the order of the texts.

    Args:
        answer: `{"data": [{"index", "embedding"}]}`.
        shown: Number of texts of the request.

    Returns:
        `None` if a text has no vector, or the numbers are not finite.
    """
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        return None
    by_index = {item.get("index"): item.get("embedding") for item in listed if type(item.get("index")) is int}
    if len(listed) != shown or by_index.keys() != set(range(shown)):
        return None
    try:
        found = np.asarray([by_index[i] for i in range(shown)])
    except ValueError:  # vectors of several lengths
        return None
    if found.ndim != 2 or found.shape[1] == 0 or found.dtype.kind not in "fi":
        return None
    return found.astype(np.float64) if bool((np.abs(found) <= LARGEST_NUMBER).all()) else None
