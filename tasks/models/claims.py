"""Claims: a worker that is about to ask says so first, so that no two workers pay for one request.

A claim counts for `EXPIRY_S`, and is renewed while its request is out. When a worker dies, its claims expire
and others take them over; at once where they can see that it is dead, being on the same machine. A claim that
expires later than any could is void, too: then the clock was set back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tasks.models.cache_database import Prepared, claims, insert_into

if TYPE_CHECKING:
    import sqlalchemy

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


def _claim(engine: sqlalchemy.Engine) -> Prepared:
    """Claim a key for an owner, unless another owner's claim on it counts."""
    from sqlalchemy import bindparam

    table, until = claims(), _now() + EXPIRY_S
    insert = insert_into(table, engine).values(key=bindparam("key"), owner=bindparam("owner"), expires=until)
    free = ~table.c.expires.between(_now(), until) | (table.c.owner == insert.excluded.owner)
    changes = {"owner": insert.excluded.owner, "expires": insert.excluded.expires}
    statement = insert.on_conflict_do_update(index_elements=["key"], set_=changes, where=free)
    return Prepared(statement, engine, "key", "owner")


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
