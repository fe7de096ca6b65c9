"""The response cache: answers by fingerprint, shared by runs and processes (see `cache_database`).

Answers are written in batches: every `BATCH` answers, every `FLUSH_S` seconds, and at the end. A killed
process loses at most one batch. Failures are never stored. An answer that does not match its checksum is
deleted and asked for again. Requests are claimed before they are sent, see `cache_database.Claims`.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.errors import CounterfoilError, InputError
from schemas.tables import content_hash
from tasks.models.cache_database import (
    RENEW_S,
    BulkStatement,
    Claims,
    answers,
    cache_url,
    create_tables,
    insert_into,
    is_file,
    open_engine,
    place_of,
    without_password,
)
from tasks.models.empty_answers import require_content
from tasks.models.protocol import Completion, Request, TokenLogprob
from tasks.run.retries import Backoff, Retries, RetryPolicy

if TYPE_CHECKING:
    import sqlalchemy


BATCH = 200
FLUSH_S = 0.25
POLL_S = 0.1
"""Seconds between lookups of an answer that another worker is asking for."""
DATABASE_RETRIES = RetryPolicy(attempts=8, backoff=Backoff(first_s=0.1, longest_s=5.0))
"""For a database server that breaks a deadlock or restarts. A file is not retried."""

RECALLED: dict[str, Any] = {"tag": "", "cost_usd": 0.0, "cached": True}
"""Fields that are reset on every cache hit."""

T = TypeVar("T")


class ResponseCache:
    """Answers by fingerprint, in a file or in the database of `COUNTERFOIL_CACHE_URL`. Belongs to one thread.

    Every method raises `InputError` with the place if the cache cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._url = cache_url(path)
        self._unwritten: dict[str, tuple[str, Completion]] = {}
        self._given_up: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._deferred_error: CounterfoilError | None = None
        self._awaited: set[str] = set()
        self._lookup: asyncio.Task[dict[str, Completion]] | None = None
        with self._translated_errors():
            if is_file(self._url):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._engine = open_engine(self._url)
            create_tables(self._engine)
            insert = insert_into(answers(), self._engine).on_conflict_do_nothing()
            self._insert = BulkStatement(insert, self._engine, "key", "model", "answer")
            self._claims = Claims(self._engine)

    def get(self, keys: Collection[str]) -> dict[str, Completion]:
        """Return the cached answers among `keys`, with an empty tag and no cost."""
        new = self._unwritten
        found = {key: replace(new[key][1], **RECALLED) for key in keys if key in new}
        wanted = [key for key in keys if key not in found]
        if wanted:
            found |= self._transact(partial(_recall, wanted))
        return found

    def get_or_claim(self, keys: Collection[str]) -> tuple[dict[str, Completion], set[str]]:
        """Return the cached answers, and the set of other keys that this worker has claimed."""
        found = self.get(keys)
        missing = set(keys) - found.keys()
        if not missing:
            return found, set()
        ours, late = self._transact(partial(self._claim, missing))
        self._schedule("renew", RENEW_S)
        return found | late, ours - late.keys()

    def _claim(
        self, keys: set[str], connection: sqlalchemy.Connection
    ) -> tuple[set[str], dict[str, Completion]]:
        ours = self._claims.make(keys, connection)
        late = _recall(sorted(ours), connection)  # written after the lookup and before the claim
        self._claims.drop(late, connection)
        return ours, late

    async def wait_for_turn(self, key: str) -> Completion | None:
        """Return `None` once this worker holds the claim, or the answer that another worker received."""
        pause = 0.0
        while not self._claims.hold(key):
            self._awaited.add(key)
            if self._lookup is None or self._lookup.done():
                self._lookup = asyncio.create_task(self._poll(pause))
            found = await asyncio.shield(self._lookup)
            if key in found:
                return found[key]
            pause = POLL_S
        return None

    async def _poll(self, pause: float) -> dict[str, Completion]:
        await asyncio.sleep(pause)
        awaited, self._awaited = self._awaited, set()
        return self.get_or_claim(awaited)[0]

    def put(self, key: str, model: str, completion: Completion) -> None:
        """Store an answer with the next batch."""
        self._raise_deferred()
        self._unwritten[key] = (model, completion)
        if len(self._unwritten) >= BATCH:
            self.flush()
        else:
            self._schedule("flush", FLUSH_S)

    def give_up(self, key: str) -> None:
        """Release the claim of a request without an answer, with the next batch."""
        if key not in self._unwritten:
            self._given_up.add(key)
            self._schedule("flush", FLUSH_S)

    def flush(self) -> None:
        """Write pending answers. They are durable when this returns."""
        self._cancel_timer("flush")
        rows = [
            {"key": key, "model": model, "answer": _encode(key, completion)}
            for key, (model, completion) in self._unwritten.items()
        ]
        if rows or self._given_up:
            self._transact(partial(self._write, rows))
            self._unwritten.clear()
            self._given_up.clear()

    def _write(self, rows: list[dict[str, Any]], connection: sqlalchemy.Connection) -> None:
        self._insert.execute(connection, rows)
        self._claims.drop(self._unwritten.keys() | self._given_up, connection)

    def renew(self) -> None:
        """Extend the claims of requests in flight."""
        self._cancel_timer("renew")
        if self._claims.asking:
            self._transact(self._claims.renew)
            self._schedule("renew", RENEW_S)

    def close(self) -> None:
        """Write pending answers and release all claims."""
        for work in list(self._timers):
            self._cancel_timer(work)
        if self._lookup:
            self._lookup.cancel()
        try:
            self.flush()
            self._transact(self._claims.drop_all)
        finally:
            self._engine.dispose()

    def _schedule(self, work: str, seconds: float) -> None:
        if work not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[work] = loop.call_later(seconds, self._run_timer, work)

    def _cancel_timer(self, work: str) -> None:
        if timer := self._timers.pop(work, None):
            timer.cancel()

    def _run_timer(self, work: str) -> None:
        try:
            getattr(self, work)()
        except CounterfoilError as error:
            self._deferred_error = error

    def _raise_deferred(self) -> None:
        if self._deferred_error:
            raise self._deferred_error

    def _transact(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        """Run `work` in a transaction. Repeat it if a database server breaks a deadlock or restarts."""
        from sqlalchemy.exc import OperationalError

        retries = Retries(DATABASE_RETRIES)
        with self._translated_errors():
            while True:
                try:
                    with self._engine.begin() as connection:
                        return work(connection)
                except OperationalError:
                    wait_s = None if is_file(self._url) else retries.next_wait_s()
                    if wait_s is None:
                        raise
                    time.sleep(wait_s)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            reason = str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error)
            raise InputError(
                f"the response cache cannot be used: {without_password(reason.strip(), self._url)}",
                place=place_of(self._url),
                hint=_file_hint(reason) if is_file(self._url) else HINT_DATABASE,
            ) from None


RERUN = "then run the same command again"
HINTS_FILE = {
    r"full": f"free disk space, {RERUN}",
    r"readonly|permission|unable to open": f"make the file and its folder writable, {RERUN}",
    r"malformed|not a database|corrupt|disk I/O": f"move the file away, {RERUN}: finished steps keep their "
    "answers, the others are asked for and paid for again",
}
HINT_OTHERWISE = f"check the disk and the file's permissions, {RERUN}"
HINT_DATABASE = f"check that the server runs and accepts this user and password, {RERUN}"


def _file_hint(reason: str) -> str:
    """Return the next step for a problem with the cache file."""
    fitting = (hint for pattern, hint in HINTS_FILE.items() if re.search(pattern, reason, re.IGNORECASE))
    return next(fitting, HINT_OTHERWISE)


def _recall(keys: Sequence[str], connection: sqlalchemy.Connection) -> dict[str, Completion]:
    """Return the stored answers among `keys`. Damaged ones are deleted."""
    rows = connection.execute(_select(), {"keys": list(keys)}).all() if keys else []
    found = {row.key: _decode(row.key, row.answer) for row in rows}
    damaged = [{"damaged": key} for key, completion in found.items() if completion is None]
    if damaged:
        from sqlalchemy import bindparam

        connection.execute(answers().delete().where(answers().c.key == bindparam("damaged")), damaged)
    return {key: completion for key, completion in found.items() if completion is not None}


@lru_cache(maxsize=1)
def _select() -> sqlalchemy.Select[Any]:
    from sqlalchemy import bindparam, select

    table = answers()
    return select(table.c.key, table.c.answer).where(table.c.key.in_(bindparam("keys", expanding=True)))


def _encode(key: str, completion: Completion) -> bytes:
    """Return the answer as JSON, after a checksum over it and its key."""
    import orjson

    content = orjson.dumps(completion)
    return zlib.crc32(content, zlib.crc32(key.encode())).to_bytes(4) + content


def _decode(key: str, answer: bytes) -> Completion | None:
    """Return the answer, or `None` if it is damaged or carries no content."""
    import orjson

    checksum, content = answer[:4], answer[4:]
    if zlib.crc32(content, zlib.crc32(key.encode())).to_bytes(4) != checksum:
        return None
    values = orjson.loads(content) | RECALLED
    values["logprobs"] = tuple(
        TokenLogprob(entry["token"], entry["logprob"], tuple((t, lp) for t, lp in entry["top"]))
        for entry in values["logprobs"]
    )
    for name in ("option_logprobs", "prompt_logprobs", "adapted"):
        values[name] = tuple(values.get(name, ()))
    completion = Completion(**values)
    return completion if require_content(completion) is completion else None


VERSION = 1
"""Increase it when the meaning of a stored answer changes."""


def fingerprint(model: str, request: Request) -> str:
    """Return the cache key of a request: sha256 (hex) over everything that can change the answer.

    These are the model with its resolved endpoint, the messages, the decoding (length, temperature, top-p,
    seed, stop words, alternatives, choices and further fields if any), the JSON schema, whether a given text
    is scored, and the sample index: the second answer to a question is another answer.

    Ignored on purpose:

    - `tag` and `stage`: bookkeeping of the caller. A question that two stages ask is paid for once.
    - Limits, timeouts, attempts, concurrency: they determine when an answer arrives, not its text.
    - The endpoints of a model that has several: naming them together states that they serve one model. A
      single endpoint is part of the key, because two servers may give one name to different weights. Answers
      from before a second endpoint was added are therefore not reused.
    - API keys and their environment variables: they do not change the answer and must never be stored.
    - Prices and budget: the cost of a stored answer is computed when it is read.
    - Parameters that the server turned out not to support (`seed`, `logprobs`, …): a property of the model.
    - The revision that the server reports: known only after the call, so it is stored with the answer.

    Args:
        model: The name with its resolved endpoint, see `names.cache_name`.
        request: The request.
    """
    decoding, schema = request.decoding, request.json_schema
    return content_hash(
        [
            VERSION,
            model,
            [[message.role, message.content] for message in request.messages],
            [decoding.max_tokens, float(decoding.temperature), float(decoding.top_p), decoding.seed],
            [
                list(decoding.stop),
                decoding.top_logprobs,
                *filter(None, [list(decoding.choices), decoding.extra]),
            ],
            [schema.name, json.dumps(schema.schema)] if schema else None,  # in order: answers follow it
            request.sample,
            *(["score_prompt"] if request.score_prompt else []),
        ]
    )
