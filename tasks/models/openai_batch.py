"""Models behind OpenAI's Batch API: half the price, and answers within a day.

`BatchModel` is a backend like any other: every request waits for its answer. Requests that arrive together
are submitted together, as soon as no more arrive. Submitted batches are recorded on disk (`JobFolder`), so
that after a kill the same requests find their batch again. A request that failed or expired in a batch is
submitted again with the next one, up to `limits.attempts` times.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Coroutine
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import InputError, ModelError
from schemas.recipe import Limits
from tasks.models.budget import ROUNDING_USD, Ledger, over_budget
from tasks.models.cache import fingerprint
from tasks.models.capabilities import Capabilities, read_refusal, with_adapted
from tasks.models.openai import chat_client, without_keys
from tasks.models.openai_format import read_completion, request_body
from tasks.models.prices import TokenPrice
from tasks.models.protocol import (
    Completion,
    Decoding,
    FailedAttempt,
    FailureKind,
    Request,
    estimate_prompt_tokens,
)
from tasks.models.server_errors import is_moderation
from tasks.run.progress import track
from tasks.run.retries import Backoff, Retries, RetryPolicy
from tasks.run.store import write_bytes

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch


class BatchJob(BaseModel):
    """Requests that were submitted together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    """Our id. The provider stores it with the batch."""
    model: str
    """The model with its endpoint."""
    keys: tuple[str, ...]
    """Fingerprints of the requests, which are also their `custom_id`s."""
    reserved_usd: float
    """Reserved in the run's ledger when the job was written."""
    batch_id: str | None = None
    """The provider's id, once it has assigned one."""


class JobFolder:
    """The open batches of one run: `<run>/batches/<id>.json`, one file per job.

    A job is written before it is submitted, and again with the provider's id before anything waits for it.
    After a kill the next process finds every job, asks the provider for the id if it is missing, and submits
    nothing twice. A job belongs to the process that holds its lock. The lock ends with the process.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "batches"
        self._locks: dict[str, TextIO] = {}

    def begin(self, model: str, keys: tuple[str, ...], reserved_usd: float) -> BatchJob:
        """Create, lock and write a job."""
        self.path.mkdir(parents=True, exist_ok=True)
        job = BatchJob(id=token_hex(12), model=model, keys=keys, reserved_usd=reserved_usd)
        self._lock(job.id)
        self.write(job)
        return job

    def write(self, job: BatchJob) -> None:
        """Write a job."""
        write_bytes(self._file(job.id), job.model_dump_json().encode())

    def take_over(self, model: str) -> list[BatchJob]:
        """Lock and return the jobs of a model that no process holds, in the order of their ids."""
        jobs = []
        for file in sorted(self.path.glob("*.json")):
            if self._lock(file.stem):
                job = self._read(file)
                if job and job.model == model:
                    jobs.append(job)
                else:
                    self.release(file.stem)
        return jobs

    def delete(self, id: str) -> None:
        """Delete a job after its answers are stored elsewhere."""
        self._file(id).unlink(missing_ok=True)
        self._file(id).with_suffix(".lock").unlink(missing_ok=True)
        self.release(id)

    def release(self, id: str) -> None:
        """Release the lock of a job, so that another process may take it over."""
        if lock := self._locks.pop(id, None):
            lock.close()

    def release_all(self) -> None:
        """Release all locks."""
        for id in list(self._locks):
            self.release(id)

    def _file(self, id: str) -> Path:
        return self.path / f"{id}.json"

    def _lock(self, id: str) -> bool:
        lock = self._file(id).with_suffix(".lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._locks[id] = lock
        return True

    def _read(self, file: Path) -> BatchJob | None:
        """Return the job, or `None` if another process has just deleted it."""
        try:
            return BatchJob.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise InputError(
                "the record of a batch cannot be read",
                place=str(file),
                hint="delete it: its requests are then submitted and paid for again",
            ) from None


# The provider

JOB_ID_KEY = "counterfoil_job"
"""Key of our id in the metadata of a batch."""
END_STATES = ("completed", "failed", "expired", "cancelled")
POLL = Backoff(first_s=1.0, longest_s=60.0)
CREATE_POLICY = RetryPolicy(attempts=5, backoff=POLL)
MAX_OUTAGE_S = 3600.0
"""Seconds for which a provider that cannot be reached is polled."""
MAX_LISTED = 500
"""Number of batches, newest first, that are searched for one of ours."""


LARGEST_FILE = 2_000_000_000
"""Bytes of a file of results. A file of requests has at most 190 MB."""


class BatchServer:
    """Files and batches of one provider. Methods raise `ModelError` if it refuses or cannot be reached.

    The client retries uploads and queries. It does not retry the creation of a batch, because a batch that is
    created twice is paid twice: before another attempt, the provider's list is searched for the first.
    """

    def __init__(self, endpoint: str, api_key: str) -> None:
        self._endpoint = endpoint
        self._api_key = api_key
        self._client: AsyncOpenAI = chat_client(endpoint, api_key, connections=4, max_bytes=LARGEST_FILE)
        self._retrying = self._client.with_options(max_retries=CREATE_POLICY.attempts - 1, timeout=600.0)

    async def submit(self, job_id: str, lines: bytes) -> str:
        """Submit requests, one per line, and return the provider's id of the batch."""
        try:
            file = await self._retrying.files.create(file=(f"{job_id}.jsonl", lines), purpose="batch")
            return await self._create(job_id, file.id)
        except Exception as error:
            raise self._model_error("rejects batches", error) from None

    async def _create(self, job_id: str, file_id: str) -> str:
        import openai

        retries = Retries(CREATE_POLICY)
        while True:
            try:
                batch = await self._client.batches.create(
                    input_file_id=file_id,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    metadata={JOB_ID_KEY: job_id},
                    timeout=120.0,
                )
                return batch.id
            except (openai.APIConnectionError, openai.APIStatusError, OSError) as error:
                wait_s = retries.next_wait_s()
                if wait_s is None or not _is_transient(error):
                    raise
            await asyncio.sleep(wait_s)
            if found := await self._search(job_id):
                return found

    async def find(self, job_id: str) -> str | None:
        """Return the provider's id of a batch that an earlier process may have created."""
        try:
            return await self._search(job_id)
        except Exception as error:
            raise self._model_error("does not list its batches", error) from None

    async def _search(self, job_id: str) -> str | None:
        seen = 0
        async for batch in self._retrying.batches.list(limit=100):
            if (batch.metadata or {}).get(JOB_ID_KEY) == job_id:
                return batch.id
            seen += 1
            if seen == MAX_LISTED:
                break
        return None

    async def watch(self, batch_id: str) -> AsyncIterator[Batch]:
        """Yield the state of a batch, at growing intervals, until it has ended.

        Yield nothing if it does not exist.
        """
        unreached_s = 0.0
        for look in count(1):
            pause = POLL.wait_s(look)
            try:
                batch = await self._retrying.batches.retrieve(batch_id)
            except Exception as error:
                if getattr(error, "status_code", None) == 404:
                    return
                unreached_s += pause
                if not _is_transient(error) or unreached_s > MAX_OUTAGE_S:
                    raise self._model_error(f"does not return batch {batch_id}", error) from None
            else:
                unreached_s = 0.0
                yield batch
                if batch.status in END_STATES:
                    return
            await asyncio.sleep(pause)

    async def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """Return the lines of a result file.

        Without a file there are none, and lines that are not JSON are skipped.
        """
        if not file_id:
            return []
        try:
            content = (await self._retrying.files.content(file_id)).content
        except Exception as error:
            raise self._model_error(f"does not return file {file_id}", error) from None
        return [line for raw in content.splitlines() if isinstance(line := _parse_json(raw), dict)]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def clean(self, text: str) -> str:
        """Remove keys from the text of the provider."""
        return without_keys(text, self._api_key)

    def _model_error(self, what: str, error: Exception) -> ModelError:
        """Translate an error of the client, which contains the request's headers."""
        status = getattr(error, "status_code", None)
        body = getattr(error, "body", None)
        message = str(body.get("message") or "") if isinstance(body, dict) else ""
        reason = f"it answers {status} {self.clean(message)}".strip() if status else type(error).__name__
        hint = "run the same command again: submitted batches are collected, not submitted again"
        if status == 404:
            hint = "remove the model from `models.batch` if this provider has no Batch API"
        return ModelError(f"the provider {what}: {reason}", place=self._endpoint, hint=hint)


def _is_transient(error: Exception) -> bool:
    """Return whether the failure may pass: a broken connection, a busy or failing server."""
    status = getattr(error, "status_code", None)
    return status is None or status in (408, 409, 425, 429) or status >= 500


def _parse_json(raw: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


# The model

MAX_REQUESTS, MAX_BYTES = 50_000, 190_000_000
"""Largest batch. The provider's own limits are 50,000 requests and 200 MB."""
MAX_WAITING = 20_000
"""Requests that wait for batches at a time. Each takes a few kilobytes of memory."""
QUIET_S = 1.0
"""Queued requests are submitted when no request has arrived for this time."""
WEEK_S = 7 * 86_400.0
BUSY_CODES = ("token_limit_exceeded", "rate_limit_exceeded")
"""Error codes of batches that the provider may accept later."""
BUSY_WAIT_S = 300.0

Result = dict[str, Any] | FailedAttempt | Exception
"""A line of a result file, or the reason why there is none."""
NO_REQUEST = Request("", (), Decoding(0))


def batch_limits(limits: Limits) -> Limits:
    """Return the limits for batches. Limits per minute and the timeout of a call do not apply to them."""
    changes = {"requests_per_minute": None, "tokens_per_minute": None, "timeout_s": WEEK_S}
    return limits.model_copy(update={**changes, "max_in_flight": MAX_WAITING})


class BatchModel:
    """A `Backend`. Reserves and pays per batch, at the Batch API's price."""

    def __init__(
        self,
        name: str,
        resolved: str,
        server: BatchServer,
        jobs: JobFolder,
        *,
        capabilities: Capabilities,
        schema_prompt: str,
        ledger: Ledger,
        price: TokenPrice,
    ) -> None:
        self._name = name
        self._resolved = resolved
        self._server = server
        self._jobs = jobs
        self._capabilities = capabilities
        self._schema_prompt = schema_prompt
        self._ledger = ledger
        self._price = price
        self._answers: dict[str, asyncio.Future[Result]] = {}
        """By fingerprint: requests that were submitted or are queued."""
        self._queue: dict[str, Request] = {}
        self._open: dict[str, BatchJob] = {}
        """Jobs with an open reservation."""
        self._collected: list[BatchJob] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._takeover: asyncio.Task[None] | None = None
        self._submitting: asyncio.Task[None] | None = None

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """Wait for the answer, for a day or longer.

        Raises:
            ModelError: If the provider does not accept batches, or refuses or cancels this one.
        """
        if request.score_prompt:
            return FailedAttempt("bad_request", "the Batch API does not score a given text", final=True)
        if self._takeover is None:
            self._takeover = asyncio.create_task(self._adopt_jobs())
        await asyncio.shield(self._takeover)
        key = fingerprint(self._resolved, request)
        if key not in self._answers:
            self._register(key)
            self._queue[key] = request
            if self._submitting is None or self._submitting.done():
                self._submitting = self._start_task(self._submit_queue())
        result = await asyncio.shield(self._answers[key])
        self._answers.pop(key, None)
        if isinstance(result, Exception):
            raise result
        return result if isinstance(result, FailedAttempt) else self._read(result, request)

    async def close(self) -> None:
        """Leave open batches to the next process."""
        takeover = [self._takeover] if self._takeover else []
        for task in (*self._tasks, *takeover):
            task.cancel()
        await asyncio.gather(*self._tasks, *takeover, return_exceptions=True)
        for job in self._open.values():
            self._ledger.leave(job.reserved_usd)
        await self._server.close()

    def forget_collected(self) -> None:
        """Delete collected jobs. Call it after `close`, once their answers are on disk."""
        for job in self._collected:
            self._jobs.delete(job.id)
        self._jobs.release_all()

    async def _adopt_jobs(self) -> None:
        """Follow the jobs of earlier processes. Those that never reached the provider are void."""
        for job in self._jobs.take_over(self._resolved):
            self._ledger.adopt(job.reserved_usd)
            self._open[job.id] = job
            batch_id = job.batch_id or await self._server.find(job.id)
            if batch_id:
                self._follow(job, batch_id)
            else:
                self._settle(job, 0.0)

    async def _submit_queue(self) -> None:
        """Submit queued requests as far as the budget allows."""
        while self._queue:
            await self._wait_until_quiet()
            while group := self._next_batch():
                await self._submit_batch(group)
            self._refuse_unaffordable()

    async def _wait_until_quiet(self) -> None:
        waiting = 0
        while waiting != len(self._queue):
            waiting = len(self._queue)
            await asyncio.sleep(QUIET_S)

    def _refuse_unaffordable(self) -> None:
        """Refuse requests that exceed the budget, unless other calls hold money that they may give back."""
        for key, request in list(self._queue.items()):
            worst_usd = self._worst_case_usd(request)
            if self._ledger.reserved_usd <= ROUNDING_USD or worst_usd > self._ledger.limit_usd:
                del self._queue[key]
                self._deliver({key: over_budget(self._ledger, worst_usd)})

    def _next_batch(self) -> dict[str, tuple[bytes, float]]:
        """Return the next requests that fit into one batch and the budget: line and reserved USD by key."""
        group: dict[str, tuple[bytes, float]] = {}
        size = 0
        for key, request in list(self._queue.items()):
            line = self._line(key, request)
            size += len(line)
            full = len(group) == MAX_REQUESTS or size > MAX_BYTES
            worst_usd = self._worst_case_usd(request)
            if (group and full) or not self._ledger.reserve(worst_usd):
                break
            group[key] = (line, worst_usd)
            del self._queue[key]
        return group

    async def _submit_batch(self, group: dict[str, tuple[bytes, float]]) -> None:
        reserved = sum(worst_usd for _, worst_usd in group.values())
        job = self._jobs.begin(self._resolved, tuple(group), reserved)
        self._open[job.id] = job
        batch_id = await self._server.submit(job.id, b"".join(line for line, _ in group.values()))
        self._jobs.write(job.model_copy(update={"batch_id": batch_id}))
        self._follow(job, batch_id)

    def _follow(self, job: BatchJob, batch_id: str) -> None:
        for key in job.keys:
            if key not in self._answers:
                self._register(key)
        self._start_task(self._collect(job, batch_id))

    async def _collect(self, job: BatchJob, batch_id: str) -> None:
        """Wait for the end of a batch and deliver its results.

        Answers go first, because an error ends the stage.
        """
        batch = await self._wait_for_end(job, batch_id)
        if batch is None:
            self._settle(job, job.reserved_usd)
            self._deliver(
                dict.fromkeys(job.keys, FailedAttempt("server", f"the provider lost batch {batch_id}"))
            )
            return
        failed = await self._server.lines(batch.error_file_id)
        lines = [*failed, *await self._server.lines(batch.output_file_id)]
        found: dict[str, Result] = {str(line.get("custom_id")): line for line in lines}
        self._settle(job, sum(self._cost(line) for line in lines))
        self._deliver({key: found[key] for key in job.keys if key in found})
        missing = self._missing_result(batch)
        self._deliver({key: missing for key in job.keys if key not in found})

    async def _wait_for_end(self, job: BatchJob, batch_id: str) -> Batch | None:
        """Return the ended batch, or `None` if the provider does not know it any more."""
        batch = None
        with track(f"{self._name}: batch {batch_id}", len(job.keys)) as bar:
            shown = 0
            async for batch in self._server.watch(batch_id):
                counts = batch.request_counts
                done = counts.completed + counts.failed if counts else 0
                bar.advance(done - shown)
                shown = done
        return batch

    def _settle(self, job: BatchJob, usd: float) -> None:
        self._ledger.settle(job.reserved_usd, usd)
        del self._open[job.id]
        self._collected.append(job)

    def _missing_result(self, batch: Batch) -> FailedAttempt | ModelError:
        """Return the reason why an ended batch has no result for a request."""
        if batch.status == "expired":
            return FailedAttempt("timeout", f"batch {batch.id} expired")
        if batch.status == "completed":
            return FailedAttempt(
                "malformed", f"the results of batch {batch.id} do not contain the request", may_be_billed=True
            )
        errors = (batch.errors and batch.errors.data) or []
        if errors and all(error.code in BUSY_CODES for error in errors):
            return FailedAttempt("server", f"batch {batch.id} was postponed", retry_after_s=BUSY_WAIT_S)
        reason = self._server.clean("; ".join(_describe(error.line, error.message) for error in errors[:3]))
        return ModelError(
            f"the provider {'refused' if batch.status == 'failed' else 'cancelled'} a batch"
            + (f": {reason}" if reason else ""),
            place=f"{batch.id} of {self._resolved}",
            hint="remove the cause and run the same command again: received answers are kept, the others are "
            "submitted again",
        )

    def _read(self, line: dict[str, Any], request: Request) -> Completion | FailedAttempt:
        """Read one line of a result file."""
        status, payload = _response(line)
        if status and status < 400:
            return with_adapted(read_completion(payload, request), self._capabilities, request)
        error = _error(line, payload)
        if is_moderation(status, error):
            return Completion(request.tag, "", "content_filter", None, 0, 0, 0.0, False, refusal=True)
        reason = self._server.clean(str(error.get("message") or error.get("code") or "no reason given"))
        body = request_body(self._name, request, Capabilities(self._capabilities.length), self._schema_prompt)
        refusal = read_refusal(status, error, body)
        adapted = refusal is not None and self._capabilities.give_up(refusal, body)
        kind = _kind(status, str(error.get("code")))
        return FailedAttempt(
            kind, f"the batch answered {status or 'nothing'}: {reason}", final=_final(kind, adapted)
        )

    def _cost(self, line: dict[str, Any]) -> float:
        status, payload = _response(line)
        answer = read_completion(payload, NO_REQUEST) if status and status < 400 else None
        if isinstance(answer, FailedAttempt):
            return self._price.cost_usd(*answer.usage) if answer.usage else 0.0
        if answer is None:
            return 0.0
        return self._price.cost_usd(answer.tokens_in, answer.tokens_out, answer.tokens_in_cached)

    def _line(self, key: str, request: Request) -> bytes:
        import orjson

        body = request_body(self._name, request, self._capabilities, self._schema_prompt)
        entry = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        return orjson.dumps(entry) + b"\n"

    def _worst_case_usd(self, request: Request) -> float:
        return self._price.cost_usd(estimate_prompt_tokens(request.messages), request.decoding.max_tokens)

    def _register(self, key: str) -> None:
        self._answers[key] = asyncio.get_running_loop().create_future()

    def _deliver(self, results: dict[str, Result]) -> None:
        for key, result in results.items():
            answer = self._answers.get(key)
            if answer and not answer.done():
                answer.set_result(result)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work in the background. An error reaches every waiting request."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._queue.clear()
            self._deliver(dict.fromkeys(self._answers, error))


def _response(line: dict[str, Any]) -> tuple[int, Any]:
    """Return status (0: none) and body of a line's response."""
    response = line.get("response")
    if not isinstance(response, dict):
        return 0, None
    status = response.get("status_code")
    return status if isinstance(status, int) else 0, response.get("body")


def _error(line: dict[str, Any], payload: Any) -> dict[str, Any]:
    """Return the error object of a line, the server's or the Batch API's own."""
    body = payload.get("error", payload) if isinstance(payload, dict) else None
    error = body or line.get("error")
    return error if isinstance(error, dict) else {"message": str(error or "")}


def _kind(status: int, code: str) -> FailureKind:
    """Return the kind of a failure, never `rate_limit`: that limit does not apply to batches."""
    if status == 408 or (not status and "expired" in code):
        return "timeout"
    return "bad_request" if 400 <= status < 500 and status != 429 else "server"


def _final(kind: FailureKind, adapted: bool) -> bool:
    return kind == "bad_request" and not adapted


def _describe(line: int | None, message: str | None) -> str:
    return (f"line {line}: " if line else "") + (message or "no reason given")
