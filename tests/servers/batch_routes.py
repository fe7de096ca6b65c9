"""Serve files and batches in OpenAI's protocol, for `OpenAIServer(batches=BatchRoutes(…))`.

    with OpenAIServer(batches=BatchRoutes(faults=[expires(after=3), None])) as server:
        ...                              # the first batch expires after three of its lines
        server.batches.created           # every created batch, with its lines and metadata

The script of the server answers every line of a batch. These lines are not counted in `server.requests`.
Results have an order of their own. A batch takes `duration_s`. A batch that is created while `held` is set
ends only after it is cleared.

**Faults** are a sequence with one entry per created batch, or a function of the batch's number:

- `line_errors(status, *places, …)`: these lines get an error status, in the error file
- `expires(after=n)`: n lines are done, the others are `batch_expired`
- `lost(n)`: the last n lines are in no file
- `refused(message, code=…, line=…)`: the file does not pass validation
- `cancelled(after=n)`: the batch is cancelled. The other lines are in no file
- `unanswered()`: the batch is created, but the connection closes before the answer

`list_status` is the status of the list of batches. `retrieve_faults` are the faults of the first requests for
a batch.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Answered = tuple[int, dict[str, Any]]
"""Status and body of the answer to one line."""


@dataclass(frozen=True)
class BatchFault:
    """A fault of one batch."""

    kind: Literal["line_errors", "expires", "lost", "refused", "cancelled", "unanswered"]
    count: int = 0
    places: tuple[int, ...] = ()
    status: int = 500
    message: str = "something went wrong"
    code: str | None = None
    param: str | None = None
    line: int | None = None


def line_errors(
    status: int, *places: int, message: str = "something went wrong", param: str | None = None
) -> BatchFault:
    return BatchFault("line_errors", places=places, status=status, message=message, param=param)


def expires(after: int) -> BatchFault:
    return BatchFault("expires", count=after)


def lost(count: int) -> BatchFault:
    return BatchFault("lost", count=count)


def refused(message: str, *, code: str | None = None, line: int | None = None) -> BatchFault:
    return BatchFault("refused", message=message, code=code, line=line)


def cancelled(after: int) -> BatchFault:
    return BatchFault("cancelled", count=after)


def unanswered() -> BatchFault:
    return BatchFault("unanswered")


@dataclass
class Created:
    """A batch on the server."""

    id: str
    input_file_id: str
    lines: list[dict[str, Any]]
    metadata: dict[str, str]
    headers: dict[str, str]
    fault: BatchFault | None
    at: float
    ended: bool = False
    status: str = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    done: int = 0

    @property
    def custom_ids(self) -> list[str]:
        return [line["custom_id"] for line in self.lines]


Answer = Callable[[dict[str, Any]], Awaitable[Answered]]


@dataclass
class BatchRoutes:
    """Routes for files and batches. The module describes them."""

    faults: Sequence[BatchFault | None] | Callable[[int], BatchFault | None] = ()
    duration_s: float = 0.0
    accepts: bool = True
    list_status: int = 200
    retrieve_faults: Sequence[int] = ()
    held: threading.Event = field(default_factory=threading.Event)
    created: list[Created] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    looks: int = 0
    """Number of requests for a batch."""

    def add_to(
        self, app: web.Application, answer: Answer, unauthorised: Callable[[web.Request], bool]
    ) -> None:
        """Serve the routes. `answer` returns the answer to the body of one line."""
        self._answer = answer

        def guarded(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
            async def handler(request: web.Request) -> web.StreamResponse:
                if unauthorised(request):
                    return _error(401, f"Incorrect API key: {request.headers.get('Authorization', '')}")
                return await handle(request)

            return handler

        app.router.add_post("/v1/files", guarded(self._upload))
        app.router.add_get("/v1/files/{id}/content", guarded(self._content))
        app.router.add_post("/v1/batches", guarded(self._create))
        app.router.add_get("/v1/batches", guarded(self._list))
        app.router.add_get("/v1/batches/{id}", guarded(self._retrieve))

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        assert form["purpose"] == "batch"
        content = upload.file.read()
        id = self._store(content)
        listed = {"id": id, "object": "file", "bytes": len(content), "created_at": 0, "status": "processed"}
        return web.json_response({**listed, "filename": upload.filename, "purpose": "batch"})

    async def _content(self, request: web.Request) -> web.StreamResponse:
        content = self.files.get(request.match_info["id"])
        return _error(404, "no such file") if content is None else web.Response(body=content)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        lines = [json.loads(raw) for raw in self.files[body["input_file_id"]].splitlines()]
        number = len(self.created)
        batch = Created(
            id=f"batch_{number}",
            input_file_id=body["input_file_id"],
            lines=lines,
            metadata=dict(body.get("metadata") or {}),
            headers={name.lower(): value for name, value in request.headers.items()},
            fault=self._fault(number),
            at=time.monotonic(),
        )
        self.created.append(batch)
        if batch.fault and batch.fault.kind == "unanswered":
            assert request.transport is not None
            request.transport.close()
        return web.json_response(_shown(batch))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if self.list_status != 200:
            return _error(self.list_status, "not now")
        newest = [_shown(batch) for batch in reversed(self.created)]
        after = request.query.get("after")
        start = next((i + 1 for i, b in enumerate(newest) if b["id"] == after), 0)
        page = newest[start : start + int(request.query.get("limit", "20"))]
        more = start + len(page) < len(newest)
        return web.json_response({"object": "list", "data": page, "has_more": more})

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        number, self.looks = self.looks, self.looks + 1
        if number < len(self.retrieve_faults) and self.retrieve_faults[number] != 200:
            return _error(self.retrieve_faults[number], "not now")
        batch = next((b for b in self.created if b.id == request.match_info["id"]), None)
        if batch is None:
            return _error(404, "no such batch")
        if not batch.ended and not self.held.is_set() and time.monotonic() >= batch.at + self.duration_s:
            batch.ended = True
            await self._end(batch)
        elif not batch.ended:
            batch.status = "in_progress"
        return web.json_response(_shown(batch))

    async def _end(self, batch: Created) -> None:
        fault = batch.fault or BatchFault("lost")
        if fault.kind == "refused":
            batch.status = "failed"
            return
        done, left = batch.lines, list[dict[str, Any]]()
        if fault.kind in ("expires", "cancelled"):
            done, left = batch.lines[: fault.count], batch.lines[fault.count :]
        elif fault.kind == "lost" and fault.count:
            done = batch.lines[: -fault.count]
        answered = await asyncio.gather(*(self._one(line, i, fault) for i, line in enumerate(done)))
        results = [entry for entry in answered if entry["response"]["status_code"] == 200]
        errors = [entry for entry in answered if entry["response"]["status_code"] != 200]
        if fault.kind == "expires":
            said = {"code": "batch_expired", "message": "It was not executed before the window expired."}
            errors += [{"custom_id": line["custom_id"], "response": None, "error": said} for line in left]
        batch.done = len(results)
        batch.output_file_id = self._store_lines(results)
        batch.error_file_id = self._store_lines(errors)
        batch.status = {"expires": "expired", "cancelled": "cancelled"}.get(fault.kind, "completed")

    async def _one(self, line: dict[str, Any], place: int, fault: BatchFault) -> dict[str, Any]:
        if fault.kind == "line_errors" and place in fault.places:
            status, body = fault.status, {"error": {"message": fault.message, "param": fault.param}}
        else:
            status, body = await self._answer(line["body"])
        response = {"status_code": status, "request_id": f"req_{place}", "body": body}
        return {"id": f"line_{place}", "custom_id": line["custom_id"], "response": response, "error": None}

    def _fault(self, number: int) -> BatchFault | None:
        if callable(self.faults):
            return self.faults(number)
        return self.faults[number] if number < len(self.faults) else None

    def _store_lines(self, entries: list[dict[str, Any]]) -> str | None:
        if not entries:
            return None
        random.Random(len(entries)).shuffle(entries)
        return self._store(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))

    def _store(self, content: bytes) -> str:
        id = f"file-{len(self.files)}"
        self.files[id] = content
        return id


def _shown(batch: Created) -> dict[str, Any]:
    fault = batch.fault
    errors = None
    if batch.status == "failed" and fault:
        errors = {"data": [{"code": fault.code, "line": fault.line, "message": fault.message}]}
    total = len(batch.lines)
    failed = total - batch.done if batch.ended else 0
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "created_at": 0,
        "input_file_id": batch.input_file_id,
        "status": batch.status,
        "metadata": batch.metadata,
        "errors": errors,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "request_counts": {"total": total, "completed": batch.done, "failed": failed},
    }


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "error"}}, status=status)
