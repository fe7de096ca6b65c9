"""Where answers are kept: one SQLite file, or the PostgreSQL database of `COUNTERFOIL_CACHE_URL`.

Both are spoken to with the same SQLAlchemy Core statements. The address of a database may hold a password, so
it is read from the environment where a connection is made, and is never part of a context, a key or an error.

SQLite: write-ahead log, `synchronous=FULL`, ordinary rowid tables.
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
    """The database that the environment names, else the file. Raises `InputError`, without the address."""
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    given = os.environ.get(CACHE_URL, "").strip()
    if not given:
        return URL.create("sqlite", database=str(path))
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() not in ("postgresql", "postgres") or _misread(given):
        raise InputError(
            "it is not the address of a PostgreSQL database",
            place=CACHE_URL,
            hint=f"{EXAMPLE}; write @ / : ? # in a password as %40 %2F %3A %3F %23",
        )
    return url.set(drivername="postgresql+psycopg")


def _misread(given: str) -> bool:
    """Whether a part of the password would be taken for something else, and shown."""
    address = given.partition("://")[2]
    return "@" in address and not re.match(r"[^@/?#]*@[^@]*$", address)


def is_file(url: sqlalchemy.URL) -> bool:
    return url.get_backend_name() == "sqlite"


def cache_exists(path: Path) -> bool:
    """Whether there is a cache at all; a file is only made when there is something to remember."""
    return not is_file(cache_url(path)) or path.exists()


def place_of(url: sqlalchemy.URL) -> str:
    """The address as a person may see it: without user, password and options."""
    if is_file(url):
        return str(url.database)
    return f"{CACHE_URL} ({url.host or 'this machine'}:{url.port or 5432}/{url.database or ''})"


def without_password(text: str, url: sqlalchemy.URL) -> str:
    """What a driver said, without the password and the options of the address."""
    options = [value for values in url.normalized_query.values() for value in values]
    return redact_secrets(text, url.password, *options)


def open_engine(url: sqlalchemy.URL) -> sqlalchemy.Engine:
    """A pool of connections. Raises `InputError` where PostgreSQL's driver is not installed."""
    from sqlalchemy import create_engine, event

    if is_file(url):
        engine = create_engine(url, connect_args={"timeout": BUSY_S}, hide_parameters=True)
        event.listen(engine, "connect", _write_ahead)
        return engine
    options = {"connect_timeout": CONNECT_S, "options": f"-c statement_timeout={BUSY_S}s"}
    try:
        return create_engine(url, connect_args=options, hide_parameters=True, pool_pre_ping=True)
    except ImportError:
        hint = "uv pip install --python .venv/bin/python -e '.[postgres]'"
        raise InputError("PostgreSQL needs the extra [postgres]", place=CACHE_URL, hint=hint) from None


def _write_ahead(connection: Any, _record: Any) -> None:
    """A file that others open in the same moment cannot be switched, and SQLite says so without waiting."""
    import sqlite3

    patience = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > patience:
                raise
            time.sleep(BUSY_PAUSE_S)
    connection.execute("PRAGMA synchronous=FULL")


def create_tables(engine: sqlalchemy.Engine) -> None:
    """Make what is not there yet; several workers may do so at once."""
    from sqlalchemy import inspect
    from sqlalchemy.exc import IntegrityError
    from sqlalchemy.schema import CreateTable

    for table in (answers(), claims()):
        if inspect(engine).has_table(table.name):
            continue
        try:
            with engine.begin() as connection:
                connection.execute(CreateTable(table, if_not_exists=True))
        except IntegrityError:  # PostgreSQL, where another worker made it in this moment
            continue


@lru_cache(maxsize=1)
def _metadata() -> sqlalchemy.MetaData:
    from sqlalchemy import MetaData

    return MetaData()


@lru_cache(maxsize=1)
def answers() -> sqlalchemy.Table:
    """Answers by fingerprint; each with a checksum, see `cache`."""
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
    """Who is asking what, and until when that counts (seconds since 1970 by the database's clock)."""
    from sqlalchemy import BigInteger, Column, String, Table

    return Table(
        "claims",
        _metadata(),
        Column("key", String(64), primary_key=True),
        Column("owner", String, nullable=False),
        Column("expires", BigInteger, nullable=False),
    )


def insert_into(table: sqlalchemy.Table, engine: sqlalchemy.Engine) -> Any:
    """An INSERT that can say what happens on conflict, which SQLAlchemy has by dialect."""
    if engine.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert(table)


class BulkStatement:
    """A statement for many rows at once, compiled once: SQLAlchemy compiles an INSERT that minds conflicts
    every time, which takes as long as a hundred rows."""

    def __init__(self, statement: Any, engine: sqlalchemy.Engine, *columns: str) -> None:
        compiled = statement.compile(dialect=engine.dialect, column_keys=columns)
        self._sql, self._order = str(compiled), compiled.positiontup
        self._constants = compiled.params

    def execute(self, connection: sqlalchemy.Connection, rows: list[dict[str, Any]]) -> None:
        if rows:
            values = [self._constants | row for row in rows]
            order = self._order  # where the driver goes by position
            by_place = [tuple(row[name] for name in order) for row in values] if order else values
            connection.exec_driver_sql(self._sql, by_place)


# Claims: a worker that is about to ask says so first, so that no two workers pay for one request.
#
# A claim counts for `EXPIRY_S`, and is renewed while its request is out. When a worker dies, its claims
# expire
# and others take them over; at once where they can see that it is dead, being on the same machine. A claim
# that
# expires later than any could is void, too: then the clock was set back.


EXPIRY_S = 30
RENEW_S = 10.0
FRESH_S = 15.0
"""So long after it was made, a claim is relied on without a look at the database."""


class Claims:
    """The claims of one worker. Every method is one statement or two in the transaction that it is given."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        pid = os.getpid()
        self.owner = f"{_machine()}/{_started(pid)}/{pid}/{uuid4().hex}"
        self.asking: set[str] = set()
        """Whose requests are out, or whose answers are not written yet."""
        self._made: dict[str, float] = {}
        self._claimed = False
        self._claim = _claim(engine)

    def make(self, keys: Collection[str], connection: sqlalchemy.Connection) -> set[str]:
        """Claim what nobody else has claimed; returns what is ours now."""
        ours = self._make(keys, connection)
        if len(ours) < len(keys) and self._bury_the_dead(set(keys) - ours, connection):
            ours |= self._make(set(keys) - ours, connection)
        now = time.monotonic()
        self._made |= dict.fromkeys(ours, now)
        return ours

    def hold(self, key: str) -> bool:
        """Whether we may ask this now; if so, it stays ours until `drop`."""
        made = self._made.get(key)
        if made is None or time.monotonic() - made > FRESH_S:
            self._made.pop(key, None)
            return False
        self.asking.add(key)
        return True

    def renew(self, connection: sqlalchemy.Connection) -> None:
        """What is out stays ours."""
        table = claims()
        if self.asking:
            mine = (table.c.owner == self.owner) & table.c.key.in_(self.asking)
            connection.execute(table.update().where(mine).values(expires=_now() + EXPIRY_S))

    def drop(self, keys: Iterable[str], connection: sqlalchemy.Connection) -> None:
        """These are answered, or given up."""
        table, dropped = claims(), list(keys)
        if dropped:
            mine = (table.c.owner == self.owner) & table.c.key.in_(dropped)
            connection.execute(table.delete().where(mine))
        for key in dropped:
            self._made.pop(key, None)
        self.asking.difference_update(dropped)

    def drop_all(self, connection: sqlalchemy.Connection) -> None:
        """The worker closes. What others left behind for good goes, too."""
        if self._claimed:
            owner, expires = claims().c.owner, claims().c.expires
            connection.execute(claims().delete().where((owner == self.owner) | (expires < _now())))
        self._made.clear()
        self.asking.clear()

    def _make(self, keys: Collection[str], connection: sqlalchemy.Connection) -> set[str]:
        from sqlalchemy import select

        self._claimed, table = True, claims()
        # in order, so that two workers wait for each other instead of locking each other out
        self._claim.execute(connection, [{"key": key, "owner": self.owner} for key in sorted(keys)])
        mine = (table.c.owner == self.owner) & table.c.key.in_(keys)
        return set(connection.execute(select(table.c.key).where(mine)).scalars())

    def _bury_the_dead(self, keys: set[str], connection: sqlalchemy.Connection) -> bool:
        """Forget the claims on these keys of workers of this machine that are no more."""
        from sqlalchemy import select

        table = claims()
        owners = connection.execute(select(table.c.owner).distinct().where(table.c.key.in_(keys))).scalars()
        dead = [owner for owner in owners if _is_dead(owner)]
        if dead:
            connection.execute(table.delete().where(table.c.owner.in_(dead) & table.c.key.in_(keys)))
        return bool(dead)


def _now() -> Any:
    """The database's own clock: the workers' may differ."""
    from sqlalchemy import Integer, cast, extract, func

    # not func.now(): Prefect's server, in this process, makes it another function of SQLite's
    return cast(extract("epoch", func.current_timestamp()), Integer)


def _claim(engine: sqlalchemy.Engine) -> BulkStatement:
    """Claim a key for an owner, unless another owner's claim on it counts."""
    from sqlalchemy import bindparam

    table, until = claims(), _now() + EXPIRY_S
    insert = insert_into(table, engine).values(key=bindparam("key"), owner=bindparam("owner"), expires=until)
    free = ~table.c.expires.between(_now(), until) | (table.c.owner == insert.excluded.owner)
    changes = {"owner": insert.excluded.owner, "expires": insert.excluded.expires}
    statement = insert.on_conflict_do_update(index_elements=["key"], set_=changes, where=free)
    return BulkStatement(statement, engine, "key", "owner")


def _is_dead(owner: str) -> bool:
    """Whether the process of a claim is known to have ended; False for processes that cannot be seen."""
    machine, started, pid, _ = owner.split("/")
    return bool(machine) and machine == _machine() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process of this machine began; empty where it has ended."""
    try:
        state, *more = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else more[18]


@lru_cache(maxsize=1)
def _machine() -> str:
    """The running kernel and the numbering of processes that we see; empty where that is not told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}-{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
