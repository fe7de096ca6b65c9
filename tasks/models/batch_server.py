"""The Batch API's side of things: files in the JSON-lines format go up, batches run, files come down.

Uploads and looks are tried again by the client; the creation of a batch is not, because a batch that was
created twice is paid twice: whoever creates one looks first whether it is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from schemas.errors import ModelError
from tasks.models.openai_chat import chat_client, without_keys

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

OURS = "counterfoil_job"
"""Under this name the provider keeps our id of a batch."""
ENDED = ("completed", "failed", "expired", "cancelled")
FIRST_LOOK_S, LONGEST_LOOK_S, SLOWER = 1.0, 60.0, 1.5
RETRIES = 4
GIVEN_UP_S = 3600.0
"""So long a provider that cannot be reached is asked again."""
LOOKED_THROUGH = 500
"""Batches, newest first, among which one of ours is looked for."""


class BatchServer:
    """Files and batches of one provider. Raises `ModelError` where it refuses or cannot be reached."""

    def __init__(self, endpoint: str, api_key: str) -> None:
        self._endpoint = endpoint
        self._api_key = api_key
        self._client: AsyncOpenAI = chat_client(endpoint, api_key, connections=4)
        self._patient = self._client.with_options(max_retries=RETRIES, timeout=600.0)

    async def submit(self, job_id: str, lines: bytes) -> str:
        """Hand requests over, one a line; returns the provider's id of the batch."""
        try:
            file = await self._patient.files.create(file=(f"{job_id}.jsonl", lines), purpose="batch")
            return await self._create(job_id, file.id)
        except Exception as error:
            raise self._explained("takes no batch", error) from None

    async def _create(self, job_id: str, file_id: str) -> str:
        import openai

        for attempt in range(RETRIES + 1):
            try:
                batch = await self._client.batches.create(
                    input_file_id=file_id,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    metadata={OURS: job_id},
                    timeout=120.0,
                )
                return batch.id
            except (openai.APIConnectionError, openai.APIStatusError, OSError) as error:
                if attempt == RETRIES or not _passing(error):
                    raise
                await asyncio.sleep(min(LONGEST_LOOK_S, FIRST_LOOK_S * 2**attempt))
            if found := await self._look_for(job_id):
                return found
        raise AssertionError("the last attempt returns or raises")

    async def find(self, job_id: str) -> str | None:
        """The provider's id of a batch that an earlier process may have created."""
        try:
            return await self._look_for(job_id)
        except Exception as error:
            raise self._explained("does not list its batches", error) from None

    async def _look_for(self, job_id: str) -> str | None:
        seen = 0
        async for batch in self._patient.batches.list(limit=100):
            if (batch.metadata or {}).get(OURS) == job_id:
                return batch.id
            seen += 1
            if seen == LOOKED_THROUGH:
                break
        return None

    async def watch(self, batch_id: str) -> AsyncIterator[Batch]:
        """A batch again and again, less and less often, until it has ended; nothing where there is none."""
        pause, unreached = FIRST_LOOK_S, 0.0
        while True:
            try:
                batch = await self._patient.batches.retrieve(batch_id)
            except Exception as error:
                if getattr(error, "status_code", None) == 404:
                    return
                unreached += pause
                if not _passing(error) or unreached > GIVEN_UP_S:
                    raise self._explained(f"does not tell of batch {batch_id}", error) from None
            else:
                unreached = 0.0
                yield batch
                if batch.status in ENDED:
                    return
            await asyncio.sleep(pause)
            pause = min(LONGEST_LOOK_S, pause * SLOWER)

    async def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """A result file; none where there is no file. Lines that are not JSON are left out."""
        if not file_id:
            return []
        try:
            content = (await self._patient.files.content(file_id)).content
        except Exception as error:
            raise self._explained(f"does not hand out {file_id}", error) from None
        return [line for raw in content.splitlines() if isinstance(line := _json(raw), dict)]

    async def close(self) -> None:
        await self._client.close()

    def clean(self, text: str) -> str:
        return without_keys(text, self._api_key)

    def _explained(self, what: str, error: Exception) -> ModelError:
        """Without the client's own error, which holds the request with its headers."""
        status = getattr(error, "status_code", None)
        body = getattr(error, "body", None)
        said = str(body.get("message") or "") if isinstance(body, dict) else ""
        reason = f"it answers {status} {self.clean(said)}".strip() if status else type(error).__name__
        hint = "run the same command again: what was handed over is collected, not handed over again"
        if status == 404:
            hint = "take the model out of `models.batch` if this provider has no Batch API"
        return ModelError(f"the provider {what}: {reason}", place=self._endpoint, hint=hint)


def _passing(error: Exception) -> bool:
    """Whether it may be better later: the connection, a busy or broken server."""
    status = getattr(error, "status_code", None)
    return status is None or status in (408, 409, 425, 429) or status >= 500


def _json(raw: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
