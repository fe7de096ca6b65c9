"""The ledger: money is reserved before a call and settled after it, and survives a kill.

`<run>/spend.json` holds what may have been spent. A process takes a slice of the budget from it, durably,
before it spends from that slice, and gives the rest back when it closes. So the file never says too little:
after a kill it says too much by one slice and what was in flight, at most. Several processes may share it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from schemas.errors import InputError
from tasks.models.prices import TokenPrice
from tasks.models.protocol import Completion, FailedAttempt, Request, Try, estimate_prompt_tokens
from tasks.run.store import write_bytes

SLICE = 0.01
"""Share of the budget that a process takes at a time."""
ROUNDING_USD = 1e-9


class Ledger:
    """What one run has spent and may still spend, in USD. Thread-safe."""

    def __init__(self, path: Path, limit_usd: float) -> None:
        self.path = path
        self.limit_usd = limit_usd
        self._taken = 0.0
        """Slices that this process holds: spent, reserved or unused."""
        self._spent = 0.0
        self._reserved = 0.0
        self._lock = Lock()

    @property
    def reserved_usd(self) -> float:
        return self._reserved

    def spent_usd(self) -> float:
        """What this run has spent so far, other processes' slices included."""
        with self._lock, self._file() as (total, _):
            return total - self._taken + self._spent

    def reserve(self, usd: float) -> bool:
        """Set money aside for a call. False where it would pass the limit."""
        with self._lock:
            missing = self._spent + self._reserved + usd - self._taken
            if missing > ROUNDING_USD and not self._take(missing):
                return False
            self._reserved += usd
            return True

    def settle(self, reserved_usd: float, actual_usd: float) -> None:
        """The call is over: what was set aside is free again, what it cost is spent."""
        with self._lock:
            self._reserved -= reserved_usd
            self._spent += actual_usd
            excess = self._spent + self._reserved - self._taken
            if excess > ROUNDING_USD:
                self._take(excess, over_limit=True)

    def leave(self, reserved_usd: float) -> None:
        """What was set aside stays so on disk, for a later process to `adopt`: its call goes on."""
        with self._lock:
            self._taken -= reserved_usd
            self._reserved -= reserved_usd

    def adopt(self, reserved_usd: float) -> None:
        """Take over what an earlier process of this run set aside and could not settle."""
        with self._lock:
            self._taken += reserved_usd
            self._reserved += reserved_usd

    def close(self) -> None:
        """Give back what is not spent."""
        with self._lock:
            unused = self._taken - self._spent - self._reserved
            if unused > ROUNDING_USD:
                with self._file() as (total, write):
                    write(total - unused)
                self._taken -= unused

    def _take(self, missing: float, over_limit: bool = False) -> bool:
        with self._file() as (total, write):
            left = self.limit_usd - total
            if missing > left + ROUNDING_USD and not over_limit:
                return False
            more = max(missing, min(left, self.limit_usd * SLICE))
            write(total + more)
            self._taken += more
            return True

    @contextmanager
    def _file(self) -> Iterator[tuple[float, _Write]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / ".spend.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._read(), _Write(self.path)

    def _read(self) -> float:
        try:
            usd = json.loads(self.path.read_bytes())["usd"]
            return float(usd)
        except FileNotFoundError:
            return 0.0
        except (ValueError, KeyError, TypeError):
            raise InputError(
                "the record of what this run has spent cannot be read",
                place=str(self.path),
                hint='write what was spent as {"usd": 1.23}, or build with --fresh',
            ) from None


class _Write:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, usd: float) -> None:
        write_bytes(self.path, json.dumps({"usd": round(max(0.0, usd), 9)}).encode())


_ledgers: dict[tuple[str, float], Ledger] = {}
_ledgers_lock = Lock()


def ledger_of(run_dir: Path, limit_usd: float) -> Ledger:
    """This process's ledger of a run."""
    path = run_dir.absolute() / "spend.json"
    with _ledgers_lock:
        return _ledgers.setdefault((str(path), limit_usd), Ledger(path, limit_usd))


def spent_in(run_dir: Path) -> float:
    """What a run has spent in USD, over all its processes so far."""
    return Ledger(run_dir.absolute() / "spend.json", 0.0).spent_usd()


def within_budget(ask: Try, ledger: Ledger, price: TokenPrice) -> Try:
    """Tries that are paid for. A try whose answer was lost (garbage, a broken connection) counts at its
    worst case, because the server may bill it."""

    async def ask_and_pay(request: Request) -> Completion | FailedAttempt:
        worst = price.cost_usd(estimate_prompt_tokens(request.messages), request.decoding.max_tokens)
        if not await _reserve(ledger, worst):
            left = max(0.0, ledger.limit_usd - ledger.spent_usd())
            message = (
                f"the budget of ${ledger.limit_usd:g} has ${left:.4f} left; this call may need ${worst:.4f}"
            )
            return FailedAttempt("budget", message, final=True)
        actual = worst
        try:
            result = await ask(request)
            if isinstance(result, Completion):
                actual = price.cost_usd(result.tokens_in, result.tokens_out, result.tokens_in_cached)
            elif not result.may_be_billed:
                actual = 0.0
            return result
        finally:
            ledger.settle(worst, actual)

    return ask_and_pay


async def _reserve(ledger: Ledger, usd: float) -> bool:
    """As `ledger.reserve`; where other calls hold the rest, wait for what they leave."""
    while not ledger.reserve(usd):
        if ledger.reserved_usd <= ROUNDING_USD or usd > ledger.limit_usd:
            return False
        await asyncio.sleep(0.02)
    return True
