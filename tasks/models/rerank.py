"""Cross-encoders: scores of passages for a query. This is the only door to score endpoints.

A server is asked at `/score` (`text_1`, `text_2`), and at `/rerank` (`query`, `documents`) if it has no such
route. vLLM serves both. Other servers of cross-encoders serve `/rerank`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.errors import InputError, ModelError
from schemas.release import CostMeter
from tasks.models.budget import reserve_batch
from tasks.models.names import parse_model_name
from tasks.models.protocol import FailedAttempt, estimate_tokens
from tasks.models.routes import open_routes
from tasks.models.settings import ModelSettings, api_key

BATCH = 64
"""Passages per request."""
LARGEST_SCORE = 1e30
"""Larger numbers and those that are not finite are no scores."""
ROUTES = ("/score", "/rerank")


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
    price = settings.price(name)
    calls = _calls(pairs)
    tokens = sum(estimate_tokens(q) + estimate_tokens(p) for q, p in pairs)
    worst = price.cost_usd(tokens, 0, calls=len(calls))
    ledger = reserve_batch(settings, name, worst, f"scoring {len(pairs):,} passages")
    try:
        answers = await _ask(name, pairs, calls, settings)
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
    name: str, pairs: Sequence[tuple[str, str]], calls: Sequence[Sequence[int]], settings: ModelSettings
) -> list[Any]:
    usable = list(ROUTES)

    async with open_routes(name, settings) as routes:

        async def ask(number: int) -> Any:
            positions = calls[number]
            query, passages = pairs[positions[0]][0], [pairs[i][1] for i in positions]
            bodies = {
                "/score": {"model": routes.model, "text_1": query, "text_2": passages},
                "/rerank": {"model": routes.model, "query": query, "documents": passages},
            }
            while True:
                route = usable[0]
                answer = await routes.post(number, route, bodies[route])
                if not isinstance(answer, FailedAttempt):
                    return answer
                if not answer.no_route or usable == [route]:
                    raise ModelError(
                        f"{routes.place} gave no scores: {answer.message}",
                        place=name,
                        hint=answer.hint
                        or "check that the server serves a cross-encoder at /v1/score or /v1/rerank",
                    )
                if usable[0] == route:
                    usable.pop(0)

        return list(await asyncio.gather(*map(ask, range(len(calls)))))


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
        if type(score) not in (int, float) or not abs(score) <= LARGEST_SCORE:
            continue
        repeated.update({place} if place in scores else ())
        scores[place] = float(score)
    return {place: score for place, score in scores.items() if place not in repeated}
