"""The response cache: one SQLite file of answers by fingerprint, shared by runs and processes.

Write-ahead log, `synchronous=FULL`, an ordinary rowid table, answers written in batches: every `BATCH`
answers, every `FLUSH_S` seconds, and at the end. A killed process loses one batch at most. Failures are never
stored. Where two processes answer one request, the first answer stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import CounterfoilError, InputError
from tasks.models.protocol import Completion, TokenLogprob

if TYPE_CHECKING:
    import sqlalchemy

BATCH = 200
FLUSH_S = 2.0
BUSY_S = 60


class ResponseCache:
    """Answers by fingerprint. Belongs to one thread; open one for each.

    Raises `InputError` naming the file where it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unwritten: dict[str, tuple[str, Completion]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._broken: CounterfoilError | None = None
        from sqlalchemy.schema import CreateTable

        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._engine = _engine(path)
            self._connection = self._engine.connect()
            with self._connection.begin():
                self._connection.execute(CreateTable(_answers(), if_not_exists=True))

    def get(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The answers that there are, with an empty tag and no cost yet."""
        found = {key: self._unwritten[key][1] for key in keys if key in self._unwritten}
        wanted = [key for key in keys if key not in found]
        if wanted:
            with self._explained(), self._connection.begin():
                rows = self._connection.execute(_select(), {"keys": wanted}).all()
                found |= {row.key: _read(row.answer) for row in rows}
        return found

    def put(self, key: str, model: str, completion: Completion) -> None:
        """Store an answer with the next batch."""
        if self._broken:
            raise self._broken
        self._unwritten[key] = (model, replace(completion, tag="", cost_usd=0.0, cached=True))
        if len(self._unwritten) >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush_in_time)

    def flush(self) -> None:
        """Write what is not written; durable when this returns."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        rows = [
            {"key": key, "model": model, "answer": _written(completion)}
            for key, (model, completion) in self._unwritten.items()
        ]
        if rows:
            with self._explained(), self._connection.begin():
                self._connection.execute(_insert(), rows)
            self._unwritten.clear()

    def _flush_in_time(self) -> None:
        try:
            self.flush()
        except CounterfoilError as error:
            self._broken = error

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._connection.close()
            self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, OSError, ValueError) as error:
            reason = str(getattr(error, "orig", None) or getattr(error, "strerror", None) or "bad content")
        else:
            return
        raise InputError(
            f"the response cache cannot be used: {reason}",
            place=str(self.path),
            hint="check the disk and the file's permissions; a damaged file can be moved away (its answers "
            "are then asked and paid for again)",
        )


@lru_cache(maxsize=1)
def _answers() -> sqlalchemy.Table:
    from sqlalchemy import Column, LargeBinary, MetaData, String, Table

    return Table(
        "answers",
        MetaData(),
        Column("key", String(64), primary_key=True),
        Column("model", String, nullable=False),
        Column("answer", LargeBinary, nullable=False),
    )


@lru_cache(maxsize=1)
def _select() -> sqlalchemy.Select[Any]:
    from sqlalchemy import bindparam, select

    table = _answers()
    return select(table.c.key, table.c.answer).where(table.c.key.in_(bindparam("keys", expanding=True)))


@lru_cache(maxsize=1)
def _insert() -> Any:
    from sqlalchemy.dialects.sqlite import insert

    return insert(_answers()).on_conflict_do_nothing()


def _engine(path: Path) -> sqlalchemy.Engine:
    from sqlalchemy import URL, create_engine, event

    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": BUSY_S}, hide_parameters=True)

    def configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    event.listen(engine, "connect", configure)
    return engine


def _written(completion: Completion) -> bytes:
    import orjson

    return orjson.dumps(completion)


def _read(answer: bytes) -> Completion:
    import orjson

    values = orjson.loads(answer)
    try:
        values["logprobs"] = tuple(
            TokenLogprob(entry["token"], entry["logprob"], tuple((t, lp) for t, lp in entry["top"]))
            for entry in values["logprobs"]
        )
        values["option_logprobs"] = tuple(values["option_logprobs"])
        values["prompt_logprobs"] = tuple(values.get("prompt_logprobs", ()))
        return Completion(**values)
    except (KeyError, TypeError) as error:
        raise ValueError("an answer in it is damaged") from error
