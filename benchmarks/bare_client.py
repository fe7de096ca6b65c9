"""A minimal loop over the `openai` client: the reference of the throughput benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


def send_all(url: str, requests: Iterable[dict[str, Any]], in_flight: int) -> int:
    """Send chat requests with a fixed number of workers, without retries, and discard the answers.

    Args:
        url: Base URL of the server.
        requests: Arguments of `chat.completions.create`, one dictionary per request.
        in_flight: Number of workers and of connections.

    Returns:
        Number of answers.
    """
    import httpx2
    import openai

    async def run() -> int:
        limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        transport = openai.DefaultAioHttpClient(limits=limits, trust_env=False)
        client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=transport)
        waiting, answered = iter(requests), 0

        async def worker() -> None:
            nonlocal answered
            for request in waiting:
                await client.chat.completions.create(**request)
                answered += 1

        await asyncio.gather(*(worker() for _ in range(in_flight)))
        await client.close()
        return answered

    return asyncio.run(run())
