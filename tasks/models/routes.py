"""Requests to routes of a server other than chat: embeddings and scores.

Attempts have a time limit and are repeated as those of chat. Answers have a size limit, and are JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tasks.models.limits import BACKOFF, LONGEST_REQUESTED_WAIT_S, own_part
from tasks.models.names import origin, parse_model_name
from tasks.models.openai import OpenAIChat, import_client
from tasks.models.protocol import FailedAttempt
from tasks.models.settings import ModelSettings, api_key
from tasks.run.retries import Retries, RetryPolicy

MAX_ANSWER_MB = 64.0
"""Largest answer. 128 vectors of 4,096 numbers are about 12 MB as text."""


class Routes:
    """The servers of one model. Belongs to the event loop of its first use."""

    def __init__(self, name: str, settings: ModelSettings) -> None:
        model = parse_model_name(name).resolved()
        self._limits = own_part(settings.limits(name))
        self._slots = asyncio.Semaphore(self._limits.max_in_flight)
        self._servers = [
            OpenAIChat(
                model.name,
                endpoint,
                api_key=api_key(model, settings),
                connections=self._limits.max_in_flight,
                schema_prompt="",
                max_answer_mb=MAX_ANSWER_MB,
            )
            for endpoint in model.endpoints
        ]
        self.model = model.name
        """Name of the model on its servers."""
        self.place = origin(model.endpoints[0])
        """Address of the first server."""

    async def post(self, number: int, path: str, body: dict[str, Any]) -> Any:
        """Post JSON and return the JSON of the answer, or a `FailedAttempt` if no attempt succeeds.

        Args:
            number: Number of the request. Requests are shared out to the servers in turn.
            path: The route, such as `/embeddings`.
            body: The request.
        """
        server = self._servers[number % len(self._servers)]
        retries = Retries(RetryPolicy(self._limits.attempts, BACKOFF, LONGEST_REQUESTED_WAIT_S))
        async with self._slots:
            while True:
                answer = await self._try_once(server, path, body)
                if not isinstance(answer, FailedAttempt):
                    return answer
                wait_s = (
                    None if answer.final or answer.no_route else retries.next_wait_s(answer.retry_after_s)
                )
                if wait_s is None:
                    return answer
                await asyncio.sleep(wait_s)

    async def _try_once(self, server: OpenAIChat, path: str, body: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await server.post_json(path, body)
        except TimeoutError:
            return FailedAttempt("timeout", f"no answer within {self._limits.timeout_s:g} s")

    async def close(self) -> None:
        """Close the connections."""
        for server in self._servers:
            await server.close()


@asynccontextmanager
async def open_routes(name: str, settings: ModelSettings) -> AsyncIterator[Routes]:
    """Yield the routes of a model, and close their connections."""
    import_client()
    routes = Routes(name, settings)
    try:
        yield routes
    finally:
        await routes.close()
