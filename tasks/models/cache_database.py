"""The database of the response cache: an SQLite file, or the PostgreSQL database of `COUNTERFOIL_CACHE_URL`.

Both use the same SQLAlchemy Core statements. The address of a database may contain a password, so it is read
from the environment when a connection is made, and is never part of a context, a key or an error. SQLite runs
with a write-ahead log and `synchronous=FULL`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from schemas.errors import InputError
from tasks.text.redaction import redact_secrets

if TYPE_CHECKING:
    import sqlalchemy


CACHE_URL = "COUNTERFOIL_CACHE_URL"
BUSY_S = 60
BUSY_PAUSE_S = 0.01
CONNECT_S = 10
EXAMPLE = f"{CACHE_URL}=postgresql://user:password@host:5432/database"


def cache_url(path: Path) -> sqlalchemy.URL:
    """Return the database that the environment names, otherwise the file.

    Raises:
        InputError: If the address is invalid. The error does not contain it.
    """
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    given = os.environ.get(CACHE_URL, "").strip()
    if not given:
        return URL.create("sqlite", database=str(path))
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() not in ("postgresql", "postgres") or _is_misparsed(given):
        raise InputError(
            "this is not the address of a PostgreSQL database",
            place=CACHE_URL,
            hint=f"{EXAMPLE}; write @ / : ? # in a password as %40 %2F %3A %3F %23",
        )
    return url.set(drivername="postgresql+psycopg")


def _is_misparsed(given: str) -> bool:
    """Return whether a part of the password would be parsed as another part of the address, and shown."""
    address = given.partition("://")[2]
    return "@" in address and not re.match(r"[^@/?#]*@[^@]*$", address)


def is_file(url: sqlalchemy.URL) -> bool:
    """Return whether the cache is an SQLite file."""
    return url.get_backend_name() == "sqlite"


def cache_exists(path: Path) -> bool:
    """Return whether there is a cache. The file is created with the first write."""
    if not os.environ.get(CACHE_URL, "").strip():
        return path.exists()
    return not is_file(cache_url(path)) or path.exists()


def place_of(url: sqlalchemy.URL) -> str:
    """Return the address for messages: without user, password and options."""
    if is_file(url):
        return str(url.database)
    return f"{CACHE_URL} ({url.host or 'this machine'}:{url.port or 5432}/{url.database or ''})"


def without_password(text: str, url: sqlalchemy.URL) -> str:
    """Return the text of a driver without the password and the options of the address."""
    options = [value for values in url.normalized_query.values() for value in values]
    return redact_secrets(text, url.password, *options)


def open_engine(url: sqlalchemy.URL) -> sqlalchemy.Engine:
    """Return a pool of connections.

    Raises:
        InputError: If the driver of PostgreSQL is not installed.
    """
    from sqlalchemy import create_engine, event

    if is_file(url):
        engine = create_engine(url, connect_args={"timeout": BUSY_S}, hide_parameters=True)
        event.listen(engine, "connect", _enable_write_ahead_log)
        return engine
    options = {"connect_timeout": CONNECT_S, "options": f"-c statement_timeout={BUSY_S}s"}
    try:
        return create_engine(url, connect_args=options, hide_parameters=True, pool_pre_ping=True)
    except ImportError:
        hint = "uv pip install --python .venv/bin/python -e '.[postgres]'"
        raise InputError("PostgreSQL needs the extra [postgres]", place=CACHE_URL, hint=hint) from None


def _enable_write_ahead_log(connection: Any, _record: Any) -> None:
    """Switch a connection to the write-ahead log.

    SQLite fails at once, without its usual timeout, if another process opens the file at the same moment.
    """
    import sqlite3

    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_PAUSE_S)
    connection.execute("PRAGMA synchronous=FULL")


def create_tables(engine: sqlalchemy.Engine) -> None:
    """Create missing tables. Several workers may do so at once."""
    from sqlalchemy import inspect
    from sqlalchemy.exc import IntegrityError
    from sqlalchemy.schema import CreateTable

    for table in (answers(), claims()):
        if inspect(engine).has_table(table.name):
            continue
        try:
            with engine.begin() as connection:
                connection.execute(CreateTable(table, if_not_exists=True))
        except IntegrityError:  # PostgreSQL: another worker created it at the same moment
            continue


@lru_cache(maxsize=1)
def _metadata() -> sqlalchemy.MetaData:
    from sqlalchemy import MetaData

    return MetaData()


@lru_cache(maxsize=1)
def answers() -> sqlalchemy.Table:
    """Return the table of answers by fingerprint. Each has a checksum, see `cache`."""
    from sqlalchemy import Column, LargeBinary, String, Table

    return Table(
        "answers",
        _metadata(),
        Column("key", String(64), primary_key=True),
        Column("model", String, nullable=False),
        Column("answer", LargeBinary, nullable=False),
    )


@lru_cache(maxsize=1)
def claims() -> sqlalchemy.Table:
    """Return the table of claims. `expires` is in seconds since 1970 by the database's clock."""
    from sqlalchemy import BigInteger, Column, String, Table

    return Table(
        "claims",
        _metadata(),
        Column("key", String(64), primary_key=True),
        Column("owner", String, nullable=False),
        Column("expires", BigInteger, nullable=False),
    )


def insert_into(table: sqlalchemy.Table, engine: sqlalchemy.Engine) -> Any:
    """Return an INSERT with an ON CONFLICT clause, which SQLAlchemy has per dialect."""
    if engine.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert(table)


class BulkStatement:
    """A statement for many rows at once, compiled once.

    SQLAlchemy compiles an INSERT with ON CONFLICT on every execution, which takes as long as a hundred rows.
    """

    def __init__(self, statement: Any, engine: sqlalchemy.Engine, *columns: str) -> None:
        compiled = statement.compile(dialect=engine.dialect, column_keys=columns)
        self._sql, self._order = str(compiled), compiled.positiontup
        self._constants = compiled.params

    def execute(self, connection: sqlalchemy.Connection, rows: list[dict[str, Any]]) -> None:
        """Execute the statement with one set of parameters per row."""
        if rows:
            values = [self._constants | row for row in rows]
            order = self._order  # the driver binds by position
            rows_in_order = [tuple(row[name] for name in order) for row in values] if order else values
            connection.exec_driver_sql(self._sql, rows_in_order)


EXPIRY_S = 30
RENEW_S = 10.0
FRESH_S = 15.0
"""Seconds after its creation in which a claim is trusted without a lookup."""


class Claims:
    """The requests that one worker is about to send, so that no two workers pay for one request.

    A claim expires after `EXPIRY_S` and is renewed while its request is in flight. If a worker dies, its
    claims expire and others take them over; at once if the worker ran on the same machine. A claim that
    expires later than any new claim could is void too: the clock was set back.

    Every method executes one or two statements in the given transaction.
    """

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        pid = os.getpid()
        self.owner = f"{_machine()}/{_started(pid)}/{pid}/{uuid4().hex}"
        self.asking: set[str] = set()
        """Keys of requests in flight and of answers that are not written yet."""
        self._made: dict[str, float] = {}
        self._claimed = False
        self._claim = _claim(engine)

    def make(self, keys: Collection[str], connection: sqlalchemy.Connection) -> set[str]:
        """Claim keys that nobody else holds, and return the set of keys that this worker holds now."""
        ours = self._make(keys, connection)
        if len(ours) < len(keys) and self._delete_of_dead_workers(set(keys) - ours, connection):
            ours |= self._make(set(keys) - ours, connection)
        now = time.monotonic()
        self._made |= dict.fromkeys(ours, now)
        return ours

    def hold(self, key: str) -> bool:
        """Return whether this worker may send the request now. If so, its claim is kept until `drop`."""
        made = self._made.get(key)
        if made is None or time.monotonic() - made > FRESH_S:
            self._made.pop(key, None)
            return False
        self.asking.add(key)
        return True

    def renew(self, connection: sqlalchemy.Connection) -> None:
        """Extend the claims of requests in flight."""
        table = claims()
        if self.asking:
            mine = (table.c.owner == self.owner) & table.c.key.in_(self.asking)
            connection.execute(table.update().where(mine).values(expires=_now() + EXPIRY_S))

    def drop(self, keys: Iterable[str], connection: sqlalchemy.Connection) -> None:
        """Release claims of requests that are answered or given up."""
        table, dropped = claims(), list(keys)
        if dropped:
            mine = (table.c.owner == self.owner) & table.c.key.in_(dropped)
            connection.execute(table.delete().where(mine))
        for key in dropped:
            self._made.pop(key, None)
        self.asking.difference_update(dropped)

    def drop_all(self, connection: sqlalchemy.Connection) -> None:
        """Release all claims of this worker, and delete expired ones of others."""
        if self._claimed:
            owner, expires = claims().c.owner, claims().c.expires
            connection.execute(claims().delete().where((owner == self.owner) | (expires < _now())))
        self._made.clear()
        self.asking.clear()

    def _make(self, keys: Collection[str], connection: sqlalchemy.Connection) -> set[str]:
        from sqlalchemy import select

        self._claimed, table = True, claims()
        # Sorted, so that two workers wait for each other and do not deadlock.
        self._claim.execute(connection, [{"key": key, "owner": self.owner} for key in sorted(keys)])
        mine = (table.c.owner == self.owner) & table.c.key.in_(keys)
        return set(connection.execute(select(table.c.key).where(mine)).scalars())

    def _delete_of_dead_workers(self, keys: set[str], connection: sqlalchemy.Connection) -> bool:
        """Delete the claims on these keys by workers of this machine that have ended.

        Return whether there were any.
        """
        from sqlalchemy import select

        table = claims()
        owners = connection.execute(select(table.c.owner).distinct().where(table.c.key.in_(keys))).scalars()
        dead = [owner for owner in owners if _is_dead(owner)]
        if dead:
            connection.execute(table.delete().where(table.c.owner.in_(dead) & table.c.key.in_(keys)))
        return bool(dead)


def _now() -> Any:
    """Return the time by the database's own clock. The clocks of workers may differ."""
    from sqlalchemy import Integer, cast, extract, func

    # Not func.now(): Prefect's server replaces it by another function of SQLite in this process.
    return cast(extract("epoch", func.current_timestamp()), Integer)


def _claim(engine: sqlalchemy.Engine) -> BulkStatement:
    """Return the statement that claims a key for an owner, unless the claim of another owner is valid."""
    from sqlalchemy import bindparam

    table, until = claims(), _now() + EXPIRY_S
    insert = insert_into(table, engine).values(key=bindparam("key"), owner=bindparam("owner"), expires=until)
    free = ~table.c.expires.between(_now(), until) | (table.c.owner == insert.excluded.owner)
    changes = {"owner": insert.excluded.owner, "expires": insert.excluded.expires}
    statement = insert.on_conflict_do_update(index_elements=["key"], set_=changes, where=free)
    return BulkStatement(statement, engine, "key", "owner")


def _is_dead(owner: str) -> bool:
    """Return whether the process of a claim is known to have ended. False for processes on other machines."""
    machine, started, pid, _ = owner.split("/")
    return bool(machine) and machine == _machine() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """Return the start time of a process of this machine, or an empty string if it has ended."""
    try:
        state, *more = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else more[18]


@lru_cache(maxsize=1)
def _machine() -> str:
    """Return an id of the running kernel and the process namespace, or an empty string if it is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}-{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
