"""What was handed to a Batch API and is not collected yet, on disk: `<run>/batches/<id>.json`, one per job.

A job is written down before it is handed over, and again with the provider's id before anything waits for it.
So after a kill the next process finds every job, asks the provider for it by our id where its own is missing,
and hands nothing over twice. A job belongs to who holds its lock, which goes with the process.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import InputError, ModelError
from schemas.recipe import Limits
from tasks.models.budget import ROUNDING_USD, Ledger
from tasks.models.cache import fingerprint
from tasks.models.openai import chat_client, without_keys
from tasks.models.openai_format import Dialect, read_completion, refused_parameter, request_body
from tasks.models.prices import TokenPrice
from tasks.models.protocol import (
    Completion,
    Decoding,
    FailedAttempt,
    FailureKind,
    Request,
    estimate_prompt_tokens,
)
from tasks.run.progress import track
from tasks.run.retries import Backoff, Retries, RetryPolicy
from tasks.run.store import write_bytes

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch


class BatchJob(BaseModel):
    """Requests that were handed over together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    """Ours; the provider keeps it beside its own."""
    model: str
    """With its endpoint."""
    keys: tuple[str, ...]
    """Fingerprints of the requests, which are also their `custom_id`s."""
    reserved_usd: float
    """Set aside in the run's ledger when it was written down."""
    batch_id: str | None = None
    """The provider's, as soon as it has given one."""


class JobFolder:
    """The jobs of one run. Holds the locks of those that are its own."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "batches"
        self._locks: dict[str, TextIO] = {}

    def begin(self, model: str, keys: tuple[str, ...], reserved_usd: float) -> BatchJob:
        """A new job, written down."""
        self.path.mkdir(parents=True, exist_ok=True)
        job = BatchJob(id=token_hex(12), model=model, keys=keys, reserved_usd=reserved_usd)
        self._lock(job.id)
        self.write(job)
        return job

    def write(self, job: BatchJob) -> None:
        write_bytes(self._file(job.id), job.model_dump_json().encode())

    def take_over(self, model: str) -> list[BatchJob]:
        """Jobs of a model that nobody holds, in the order of their ids; they are held from now on."""
        jobs = []
        for file in sorted(self.path.glob("*.json")):
            if self._lock(file.stem):
                job = self._read(file)
                if job and job.model == model:
                    jobs.append(job)
                else:
                    self.release(file.stem)
        return jobs

    def forget(self, id: str) -> None:
        """The job is collected, and its answers are kept elsewhere."""
        self._file(id).unlink(missing_ok=True)
        self._file(id).with_suffix(".lock").unlink(missing_ok=True)
        self.release(id)

    def release(self, id: str) -> None:
        """Whoever comes next may take it over."""
        if lock := self._locks.pop(id, None):
            lock.close()

    def release_all(self) -> None:
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
        """`None` where another process has just collected it."""
        try:
            return BatchJob.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise InputError(
                "the record of a batch cannot be read",
                place=str(file),
                hint="delete it: its requests are then handed over, and paid, again",
            ) from None


# The Batch API's side of things: files in the JSON-lines format go up, batches run, files come down.
#
# Uploads and looks are tried again by the client; the creation of a batch is not, because a batch that was
# created twice is paid twice: whoever creates one looks first whether it is there.


OURS = "counterfoil_job"
"""Under this name the provider keeps our id of a batch."""
ENDED = ("completed", "failed", "expired", "cancelled")
POLL = Backoff(first_s=1.0, longest_s=60.0)
CREATE_POLICY = RetryPolicy(attempts=5, backoff=POLL)
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
        self._patient = self._client.with_options(max_retries=CREATE_POLICY.attempts - 1, timeout=600.0)

    async def submit(self, job_id: str, lines: bytes) -> str:
        """Hand requests over, one a line; returns the provider's id of the batch."""
        try:
            file = await self._patient.files.create(file=(f"{job_id}.jsonl", lines), purpose="batch")
            return await self._create(job_id, file.id)
        except Exception as error:
            raise self._explained("takes no batch", error) from None

    async def _create(self, job_id: str, file_id: str) -> str:
        import openai

        retries = Retries(CREATE_POLICY)
        while True:
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
                wait_s = retries.next_wait_s()
                if wait_s is None or not _passing(error):
                    raise
            await asyncio.sleep(wait_s)
            if found := await self._look_for(job_id):
                return found

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
        unreached = 0.0
        for look in count(1):
            pause = POLL.wait_s(look)
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


# Models behind OpenAI's Batch API: half the price, and an answer within a day instead of at once.
#
# A backend like any other: every request waits for its own answer. Requests that come together are handed
# over
# together, as soon as no more come; what was handed over is on disk (see `batch_jobs`), so after a kill the
# same requests find their batch again. A request that failed in a batch, or that ran out of time, is asked
# again in the next one; how often, `limits.attempts` says.


MOST_REQUESTS, MOST_BYTES = 50_000, 190_000_000
"""What one batch may hold; the provider's own limits are 50,000 and 200 MB."""
IN_FLIGHT = 20_000
"""Requests that wait for batches at a time: a few kilobytes of memory each."""
LINGER_S = 1.0
"""When no request has come for so long, those that wait are handed over."""
WEEK_S = 7 * 86_400.0
BUSY = ("token_limit_exceeded", "rate_limit_exceeded")
"""Why a provider may refuse a batch that it would take later."""
BUSY_S = 300.0

Result = dict[str, Any] | FailedAttempt | Exception
"""A line of a result file, or why there is none."""
ANYBODY = Request("", (), Decoding(0))


def batch_limits(limits: Limits) -> Limits:
    """A provider's limits on calls a minute do not hold for batches, nor does our patience with one call."""
    changes = {"requests_per_minute": None, "tokens_per_minute": None, "timeout_s": WEEK_S}
    return limits.model_copy(update={**changes, "max_in_flight": IN_FLIGHT})


class BatchModel:
    """A `Backend`. Reserves and pays by the batch, at the Batch API's price."""

    def __init__(
        self,
        name: str,
        resolved: str,
        server: BatchServer,
        jobs: JobFolder,
        *,
        dialect: Dialect,
        schema_prompt: str,
        ledger: Ledger,
        price: TokenPrice,
    ) -> None:
        self._name = name
        self._resolved = resolved
        self._server = server
        self._jobs = jobs
        self._dialect = dialect
        self._schema_prompt = schema_prompt
        self._ledger = ledger
        self._price = price
        self._expected: dict[str, asyncio.Future[Result]] = {}
        """By fingerprint, what was handed over or waits to be."""
        self._queue: dict[str, Request] = {}
        self._open: dict[str, BatchJob] = {}
        """Jobs whose money is not settled."""
        self._collected: list[BatchJob] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun: asyncio.Task[None] | None = None
        self._handing: asyncio.Task[None] | None = None

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """Wait for the answer, a day or more if need be. Raises `ModelError` where the provider does not take
        batches, or refuses or cancels this one."""
        if request.score_prompt:
            return FailedAttempt("bad_request", "the Batch API does not score a given text", final=True)
        if self._begun is None:
            self._begun = asyncio.create_task(self._take_over())
        await asyncio.shield(self._begun)
        key = fingerprint(self._resolved, request)
        if key not in self._expected:
            self._expect(key)
            self._queue[key] = request
            if self._handing is None or self._handing.done():
                self._handing = self._start(self._hand_over())
        result = await asyncio.shield(self._expected[key])
        self._expected.pop(key, None)
        if isinstance(result, Exception):
            raise result
        return result if isinstance(result, FailedAttempt) else self._read(result, request)

    async def close(self) -> None:
        """Leave what is not collected to the next process."""
        begun = [self._begun] if self._begun else []
        for task in (*self._tasks, *begun):
            task.cancel()
        await asyncio.gather(*self._tasks, *begun, return_exceptions=True)
        for job in self._open.values():
            self._ledger.leave(job.reserved_usd)
        await self._server.close()

    def forget_collected(self) -> None:
        """After `close`, when the answers that were given are on disk: their jobs are done with."""
        for job in self._collected:
            self._jobs.forget(job.id)
        self._jobs.release_all()

    async def _take_over(self) -> None:
        """Wait for the jobs of earlier processes, too; those that never reached the provider are void."""
        for job in self._jobs.take_over(self._resolved):
            self._ledger.adopt(job.reserved_usd)
            self._open[job.id] = job
            batch_id = job.batch_id or await self._server.find(job.id)
            if batch_id:
                self._follow(job, batch_id)
            else:
                self._settle(job, 0.0)

    async def _hand_over(self) -> None:
        """Hand over what waits, as far as there is money for it."""
        while self._queue:
            await self._until_no_more_come()
            while group := self._next_group():
                await self._submit(group)
            self._refuse_what_is_too_dear()

    async def _until_no_more_come(self) -> None:
        waiting = 0
        while waiting != len(self._queue):
            waiting = len(self._queue)
            await asyncio.sleep(LINGER_S)

    def _refuse_what_is_too_dear(self) -> None:
        """What waits is more than is left: unless other calls hold money that they may give back."""
        for key, request in list(self._queue.items()):
            worst = self._worst(request)
            if self._ledger.reserved_usd <= ROUNDING_USD or worst > self._ledger.limit_usd:
                del self._queue[key]
                self._give({key: self._too_dear(worst)})

    def _next_group(self) -> dict[str, tuple[bytes, float]]:
        """The next requests that fit into one batch and into the budget, as lines with what is reserved."""
        group: dict[str, tuple[bytes, float]] = {}
        size = 0
        for key, request in list(self._queue.items()):
            line = self._line(key, request)
            size += len(line)
            full = len(group) == MOST_REQUESTS or size > MOST_BYTES
            worst = self._worst(request)
            if (group and full) or not self._ledger.reserve(worst):
                break
            group[key] = (line, worst)
            del self._queue[key]
        return group

    async def _submit(self, group: dict[str, tuple[bytes, float]]) -> None:
        reserved = sum(worst for _, worst in group.values())
        job = self._jobs.begin(self._resolved, tuple(group), reserved)
        self._open[job.id] = job
        batch_id = await self._server.submit(job.id, b"".join(line for line, _ in group.values()))
        self._jobs.write(job.model_copy(update={"batch_id": batch_id}))
        self._follow(job, batch_id)

    def _follow(self, job: BatchJob, batch_id: str) -> None:
        for key in job.keys:
            if key not in self._expected:
                self._expect(key)
        self._start(self._collect(job, batch_id))

    async def _collect(self, job: BatchJob, batch_id: str) -> None:
        """Wait for the end of a batch, then give everybody what is theirs: answers before errors, which end
        the stage."""
        batch = await self._ended(job, batch_id)
        if batch is None:
            self._settle(job, job.reserved_usd)
            self._give(
                dict.fromkeys(job.keys, FailedAttempt("server", f"the provider lost batch {batch_id}"))
            )
            return
        failed = await self._server.lines(batch.error_file_id)
        lines = [*failed, *await self._server.lines(batch.output_file_id)]
        found: dict[str, Result] = {str(line.get("custom_id")): line for line in lines}
        self._settle(job, sum(self._cost(line) for line in lines))
        self._give({key: found[key] for key in job.keys if key in found})
        missing = self._missing(batch)
        self._give({key: missing for key in job.keys if key not in found})

    async def _ended(self, job: BatchJob, batch_id: str) -> Batch | None:
        """`None` where the provider does not know the batch any more."""
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

    def _missing(self, batch: Batch) -> FailedAttempt | ModelError:
        """Why a batch that has ended says nothing of a request."""
        if batch.status == "expired":
            return FailedAttempt("timeout", f"batch {batch.id} ran out of time")
        if batch.status == "completed":
            return FailedAttempt("malformed", f"the results of batch {batch.id} lack it", may_be_billed=True)
        errors = (batch.errors and batch.errors.data) or []
        if errors and all(error.code in BUSY for error in errors):
            return FailedAttempt("server", f"batch {batch.id} was put off", retry_after_s=BUSY_S)
        said = self._server.clean("; ".join(_said(error.line, error.message) for error in errors[:3]))
        return ModelError(
            f"the provider {'refused' if batch.status == 'failed' else 'cancelled'} a batch"
            + (f": {said}" if said else ""),
            place=f"{batch.id} of {self._resolved}",
            hint="mend the cause and run the same command again: answers that came are kept, the rest is "
            "handed over anew",
        )

    def _read(self, line: dict[str, Any], request: Request) -> Completion | FailedAttempt:
        """What a line of a result file says."""
        status, payload = _response(line)
        if status and status < 400:
            return read_completion(payload, request)
        error = _error(line, payload)
        if error.get("code") == "content_filter":
            return Completion(request.tag, "", "content_filter", None, 0, 0, 0.0, False, refusal=True)
        said = self._server.clean(str(error.get("message") or error.get("code") or "no reason given"))
        asked = request_body(self._name, request, replace(self._dialect, refused=set()), self._schema_prompt)
        parameter = refused_parameter(status, error, asked)
        mended = parameter is not None and self._dialect.give_up(parameter, asked)
        kind = _kind(status, str(error.get("code")))
        return FailedAttempt(
            kind, f"the batch answered {status or 'nothing'}: {said}", final=_final(kind, mended)
        )

    def _cost(self, line: dict[str, Any]) -> float:
        status, payload = _response(line)
        answer = read_completion(payload, ANYBODY) if status and status < 400 else None
        if not isinstance(answer, Completion):
            return 0.0
        return self._price.cost_usd(answer.tokens_in, answer.tokens_out, answer.tokens_in_cached)

    def _line(self, key: str, request: Request) -> bytes:
        import orjson

        body = request_body(self._name, request, self._dialect, self._schema_prompt)
        entry = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        return orjson.dumps(entry) + b"\n"

    def _worst(self, request: Request) -> float:
        return self._price.cost_usd(estimate_prompt_tokens(request.messages), request.decoding.max_tokens)

    def _too_dear(self, worst: float) -> FailedAttempt:
        left = max(0.0, self._ledger.limit_usd - self._ledger.spent_usd())
        message = (
            f"the budget of ${self._ledger.limit_usd:g} has ${left:.4f} left; this call may need ${worst:.4f}"
        )
        return FailedAttempt("budget", message, final=True)

    def _expect(self, key: str) -> None:
        self._expected[key] = asyncio.get_running_loop().create_future()

    def _give(self, results: dict[str, Result]) -> None:
        for key, result in results.items():
            answer = self._expected.get(key)
            if answer and not answer.done():
                answer.set_result(result)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """In the background; an error of it reaches everybody who waits."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._queue.clear()
            self._give(dict.fromkeys(self._expected, error))


def _response(line: dict[str, Any]) -> tuple[int, Any]:
    """Status (0: none) and body of a line's response."""
    response = line.get("response")
    if not isinstance(response, dict):
        return 0, None
    status = response.get("status_code")
    return status if isinstance(status, int) else 0, response.get("body")


def _error(line: dict[str, Any], payload: Any) -> dict[str, Any]:
    """The error object of a line, the server's or the Batch API's own."""
    body = payload.get("error", payload) if isinstance(payload, dict) else None
    error = body or line.get("error")
    return error if isinstance(error, dict) else {"message": str(error or "")}


def _kind(status: int, code: str) -> FailureKind:
    """Never `rate_limit`: how fast a provider takes single calls says nothing of its batches."""
    if status == 408 or (not status and "expired" in code):
        return "timeout"
    return "bad_request" if 400 <= status < 500 and status != 429 else "server"


def _final(kind: FailureKind, mended: bool) -> bool:
    return kind == "bad_request" and not mended


def _said(line: int | None, message: str | None) -> str:
    return (f"line {line}: " if line else "") + (message or "no reason given")
