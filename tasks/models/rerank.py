"""Cross-encoders: scores of passages for a query. This is the only door to score endpoints.

A server is asked at `/score` (`text_1`, `text_2`), and at `/rerank` (`query`, `documents`) if it has no such
route. vLLM serves both. Other servers of cross-encoders serve `/rerank`.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.errors import InputError, ModelError
from schemas.release import CostMeter
from tasks.models.budget import reserve_batch
from tasks.models.limits import own_part
from tasks.models.names import ModelName, origin, parse_model_name
from tasks.models.openai import chat_client, without_keys
from tasks.models.protocol import estimate_tokens
from tasks.models.settings import ModelSettings, api_key

BATCH = 64
"""Passages per request."""
ATTEMPTS = 6
TIMEOUT_S = 120.0
MAX_BYTES = 64_000_000
NO_ROUTE = (404, 405)


def check_reranker(name: str, settings: ModelSettings) -> None:
    """Check a cross-encoder without the network.

    Raises:
        InputError: If the model has no server, or its API key is missing.
        BudgetError: If its price is unknown.
    """
    model = parse_model_name(name).resolved()
    if model.backend != "openai":
        raise InputError(
            f"{name} scores no passages",
            hint="name the model of a server: rerank:openai:NAME@http://localhost:8000/v1",
        )
    api_key(model, settings)
    settings.price(name)


async def score_pairs(
    name: str, pairs: Sequence[tuple[str, str]], settings: ModelSettings, meter: CostMeter | None = None
) -> list[float | None]:
    """Score pairs of a query and a passage.

    Args:
        name: The model with its server.
        pairs: Queries and passages.
        settings: Keys, limits and prices.
        meter: Counts the calls.

    Returns:
        One score per pair. It is `None` if the server gave none for this passage.

    Raises:
        BudgetError: If the calls may cost more than is left.
        ModelError: If the server fails.
    """
    check_reranker(name, settings)
    if not pairs:
        return []
    model, price = parse_model_name(name).resolved(), settings.price(name)
    calls = _calls(pairs)
    tokens = sum(estimate_tokens(q) + estimate_tokens(p) for q, p in pairs)
    worst = price.cost_usd(tokens, 0, calls=len(calls))
    ledger = reserve_batch(settings, name, worst, f"scoring {len(pairs):,} passages")
    try:
        answers = await _ask(name, model, pairs, calls, settings)
    finally:
        ledger.settle(worst, worst)
        if meter:
            meter.add(name, len(calls), tokens, worst)
    scores: list[float | None] = [None] * len(pairs)
    for positions, answer in zip(calls, answers, strict=True):
        for place, score in read_scores(answer, len(positions)).items():
            scores[positions[place]] = score
    return scores


def _calls(pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Return the positions of the pairs of each request: one query, at most `BATCH` passages."""
    by_query: defaultdict[str, list[int]] = defaultdict(list)
    for position, (query, _) in enumerate(pairs):
        by_query[query].append(position)
    return [found[i : i + BATCH] for found in by_query.values() for i in range(0, len(found), BATCH)]


async def _ask(
    name: str,
    model: ModelName,
    pairs: Sequence[tuple[str, str]],
    calls: Sequence[Sequence[int]],
    settings: ModelSettings,
) -> list[Any]:
    import openai

    limits, key = own_part(settings.limits(name)), api_key(model, settings) or "none"
    clients = [
        chat_client(endpoint, key, limits.max_in_flight, MAX_BYTES).with_options(
            max_retries=ATTEMPTS - 1, timeout=TIMEOUT_S
        )
        for endpoint in model.endpoints
    ]
    semaphore = asyncio.Semaphore(limits.max_in_flight)
    routes = ["/score", "/rerank"]

    async def ask(number: int) -> Any:
        positions = calls[number]
        query, passages = pairs[positions[0]][0], [pairs[i][1] for i in positions]
        bodies = {
            "/score": {"model": model.name, "text_1": query, "text_2": passages},
            "/rerank": {"model": model.name, "query": query, "documents": passages},
        }
        async with semaphore:
            while True:
                route = routes[0]
                try:
                    client = clients[number % len(clients)]
                    return await client.post(route, body=bodies[route], cast_to=object)
                except openai.APIStatusError as error:
                    if error.status_code not in NO_ROUTE or (len(routes) == 1 and routes[0] == route):
                        raise
                    if routes[0] == route:
                        routes.pop(0)

    try:
        return list(await asyncio.gather(*map(ask, range(len(calls)))))
    except openai.OpenAIError as error:
        reason = without_keys(getattr(error, "message", type(error).__name__), key)
        raise ModelError(
            f"{origin(model.endpoints[0])} gave no scores: {reason}",
            place=name,
            hint="check that the server serves a cross-encoder at /v1/score or /v1/rerank",
        ) from None
    finally:
        await asyncio.gather(*(client.close() for client in clients))


def read_scores(answer: Any, shown: int) -> dict[int, float]:
    """Return the scores in an answer by position of the passage. Invalid and repeated ones are left out.

    Args:
        answer: `{"data": [{"index", "score"}]}`, `{"results": [{"index", "relevance_score"}]}`, or the list.
        shown: Number of passages of the request.
    """
    if isinstance(answer, Mapping):
        answer = answer.get("data", answer.get("results"))
    scores: dict[int, float] = {}
    repeated: set[int] = set()
    for item in answer if isinstance(answer, list) else ():
        if not isinstance(item, Mapping):
            continue
        place, score = item.get("index"), item.get("score", item.get("relevance_score"))
        if isinstance(score, list) and len(score) == 1:
            score = score[0]
        if type(place) is not int or not 0 <= place < shown:
            continue
        if type(score) not in (int, float) or not math.isfinite(score):
            continue
        repeated.update({place} if place in scores else ())
        scores[place] = float(score)
    return {place: score for place, score in scores.items() if place not in repeated}
