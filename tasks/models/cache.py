"""The response cache: answers by fingerprint, shared by runs and processes (see `cache_database`).

Answers are written in batches: every `BATCH` answers, every `FLUSH_S` seconds, and at the end. A killed
process loses one batch at most. Failures are never stored. An answer that does not match its checksum is
forgotten and asked again. Before anything is asked it is claimed (see `claims`).
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
from tasks.models.protocol import Completion, Request, TokenLogprob
from tasks.run.retries import Backoff, Retries, RetryPolicy

if TYPE_CHECKING:
    import sqlalchemy


BATCH = 200
FLUSH_S = 2.0
LOOK_S = 0.1
"""How often an answer that another worker is asking for is looked for."""
DATABASE_RETRIES = RetryPolicy(attempts=8, backoff=Backoff(first_s=0.1, longest_s=5.0))
"""For a database server that breaks a deadlock or restarts. A file is not retried."""

ANYONES: dict[str, Any] = {"tag": "", "cost_usd": 0.0, "cached": True}
"""What an answer is like for whoever finds it."""

T = TypeVar("T")


class ResponseCache:
    """Answers by fingerprint, in the file or where `COUNTERFOIL_CACHE_URL` points. Belongs to one thread.

    Raises `InputError` naming the place where it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._url = cache_url(path)
        self._unwritten: dict[str, tuple[str, Completion]] = {}
        self._given_up: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._broken: CounterfoilError | None = None
        self._sought: set[str] = set()
        self._look: asyncio.Task[dict[str, Completion]] | None = None
        with self._explained():
            if is_file(self._url):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._engine = open_engine(self._url)
            create_tables(self._engine)
            insert = insert_into(answers(), self._engine).on_conflict_do_nothing()
            self._insert = BulkStatement(insert, self._engine, "key", "model", "answer")
            self._claims = Claims(self._engine)

    def get(self, keys: Collection[str]) -> dict[str, Completion]:
        """The answers that there are, with an empty tag and no cost yet."""
        new = self._unwritten
        found = {key: replace(new[key][1], **ANYONES) for key in keys if key in new}
        wanted = [key for key in keys if key not in found]
        if wanted:
            found |= self._transact(partial(_recall, wanted))
        return found

    def get_or_claim(self, keys: Collection[str]) -> tuple[dict[str, Completion], set[str]]:
        """The answers that there are, and which of the others are ours to ask for."""
        found = self.get(keys)
        missing = set(keys) - found.keys()
        if not missing:
            return found, set()
        ours, late = self._transact(partial(self._claim, missing))
        self._remind("renew", RENEW_S)
        return found | late, ours - late.keys()

    def _claim(
        self, keys: set[str], connection: sqlalchemy.Connection
    ) -> tuple[set[str], dict[str, Completion]]:
        ours = self._claims.make(keys, connection)
        late = _recall(sorted(ours), connection)  # written after the look, before the claim
        self._claims.drop(late, connection)
        return ours, late

    async def wait_for_turn(self, key: str) -> Completion | None:
        """None once it is ours to ask; where another worker asks first, the answer that it got."""
        pause = 0.0
        while not self._claims.hold(key):
            self._sought.add(key)
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._look_again(pause))
            found = await asyncio.shield(self._look)
            if key in found:
                return found[key]
            pause = LOOK_S
        return None

    async def _look_again(self, pause: float) -> dict[str, Completion]:
        await asyncio.sleep(pause)
        sought, self._sought = self._sought, set()
        return self.get_or_claim(sought)[0]

    def put(self, key: str, model: str, completion: Completion) -> None:
        """Store an answer with the next batch."""
        self._raise_if_broken()
        self._unwritten[key] = (model, completion)
        if len(self._unwritten) >= BATCH:
            self.flush()
        else:
            self._remind("flush", FLUSH_S)

    def give_up(self, key: str) -> None:
        """There will be no answer from us: others may ask, after the next batch."""
        if key not in self._unwritten:
            self._given_up.add(key)
            self._remind("flush", FLUSH_S)

    def flush(self) -> None:
        """Write what is not written; durable when this returns."""
        self._forget("flush")
        rows = [
            {"key": key, "model": model, "answer": _written(key, completion)}
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
        """What is being asked stays claimed."""
        self._forget("renew")
        if self._claims.asking:
            self._transact(self._claims.renew)
            self._remind("renew", RENEW_S)

    def close(self) -> None:
        """Write what is not written; what was claimed and not asked is free again."""
        for work in list(self._timers):
            self._forget(work)
        if self._look:
            self._look.cancel()
        try:
            self.flush()
            self._transact(self._claims.drop_all)
        finally:
            self._engine.dispose()

    def _remind(self, work: str, seconds: float) -> None:
        if work not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[work] = loop.call_later(seconds, self._in_time, work)

    def _forget(self, work: str) -> None:
        if timer := self._timers.pop(work, None):
            timer.cancel()

    def _in_time(self, work: str) -> None:
        try:
            getattr(self, work)()
        except CounterfoilError as error:
            self._broken = error

    def _raise_if_broken(self) -> None:
        if self._broken:
            raise self._broken

    def _transact(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        """Where a database server breaks a deadlock or starts again, the work is done again."""
        from sqlalchemy.exc import OperationalError

        retries = Retries(DATABASE_RETRIES)
        with self._explained():
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
    def _explained(self) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            reason = str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error)
            raise InputError(
                f"the response cache cannot be used: {without_password(reason.strip(), self._url)}",
                place=place_of(self._url),
                hint=_what_to_do(reason) if is_file(self._url) else HINT_DATABASE,
            ) from None


AGAIN = "then run the same command again"
HINTS_FILE = {
    r"full": f"make room on the disk, {AGAIN}",
    r"readonly|permission|unable to open": f"make the file and its folder writable, {AGAIN}",
    r"malformed|not a database|corrupt|disk I/O": f"move the file away, {AGAIN}: finished steps keep their "
    "answers, others are asked and paid for again",
}
HINT_OTHERWISE = f"check the disk and the file's permissions, {AGAIN}"
HINT_DATABASE = f"check that the server runs and takes this user and password, {AGAIN}"


def _what_to_do(reason: str) -> str:
    """About a file."""
    fitting = (hint for pattern, hint in HINTS_FILE.items() if re.search(pattern, reason, re.IGNORECASE))
    return next(fitting, HINT_OTHERWISE)


def _recall(keys: Sequence[str], connection: sqlalchemy.Connection) -> dict[str, Completion]:
    """The stored answers to these keys. Damaged ones are deleted."""
    rows = connection.execute(_select(), {"keys": list(keys)}).all() if keys else []
    found = {row.key: _read(row.key, row.answer) for row in rows}
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


def _written(key: str, completion: Completion) -> bytes:
    """As JSON, after a checksum over it and its key."""
    import orjson

    content = orjson.dumps(completion)
    return zlib.crc32(content, zlib.crc32(key.encode())).to_bytes(4) + content


def _read(key: str, answer: bytes) -> Completion | None:
    """None where it is damaged."""
    import orjson

    checksum, content = answer[:4], answer[4:]
    if zlib.crc32(content, zlib.crc32(key.encode())).to_bytes(4) != checksum:
        return None
    values = orjson.loads(content) | ANYONES
    values["logprobs"] = tuple(
        TokenLogprob(entry["token"], entry["logprob"], tuple((t, lp) for t, lp in entry["top"]))
        for entry in values["logprobs"]
    )
    for name in ("option_logprobs", "prompt_logprobs"):
        values[name] = tuple(values[name])
    return Completion(**values)


# The key of an answer in the response cache.
#
# It holds everything that can change what a model answers: the model as configured with the endpoint that
# serves it, the messages, the decoding (length, temperature, top-p, seed, stop words, alternatives, and the
# choices where there are any), the JSON schema, the sample index, because the second answer to one question
# is
# another answer, and whether the text itself is scored instead of answered.
#
# It ignores, on purpose:
#
# - `tag` and `stage`: the caller's bookkeeping. One question asked by two stages is paid for once.
# - limits, timeouts, attempts, how many requests are in flight: they say when an answer comes, not which.
# - which endpoints serve a model that has several, how many they are, and which of them answered: naming them
#   together says that they serve one model. One endpoint alone is part of the key, because two servers may
#   give one name to different weights; so answers from before the second endpoint was added are not reused.
# - API keys, and the environment variables that hold them: who pays does not change the answer. They must
#   never be stored either.
# - prices and budget: the cost of a stored answer is computed when it is read.
# - what the server turned out not to support (`seed`, `logprobs`, …): it is a property of the model named.
# - the revision that the server reports: it is known only after asking, so it is stored with the answer.


VERSION = 1
"""Raise it when the meaning of a stored answer changes."""


def fingerprint(model: str, request: Request) -> str:
    """sha256 (hex) of what decides the answer. `model` is the name with its resolved endpoint."""
    decoding, schema = request.decoding, request.json_schema
    return content_hash(
        [
            VERSION,
            model,
            [[message.role, message.content] for message in request.messages],
            [decoding.max_tokens, float(decoding.temperature), float(decoding.top_p), decoding.seed],
            [list(decoding.stop), decoding.top_logprobs, *filter(None, [list(decoding.choices)])],
            [schema.name, json.dumps(schema.schema)] if schema else None,  # in its order: answers follow it
            request.sample,
            *(["score_prompt"] if request.score_prompt else []),
        ]
    )
