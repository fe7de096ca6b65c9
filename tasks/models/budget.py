"""The ledger of a run: money is reserved before a call, settled after it, and survives a kill.

`<folder>/spend.json` holds an upper bound of the spending of a run, or of one period of a refresh. A process
takes a slice of the budget from the file before it spends from that slice, and gives the rest back when it
closes. After a kill the file is too high by at most one slice and the calls that were in flight. Several
processes may share it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from schemas.errors import BudgetError, InputError
from tasks.models.prices import FREE, TokenPrice
from tasks.models.protocol import Completion, FailedAttempt, Request, Try, estimate_prompt_tokens
from tasks.run.store import write_bytes

if TYPE_CHECKING:
    from tasks.models.settings import ModelSettings

SLICE = 0.01
"""Share of the budget that a process takes at a time."""
ROUNDING_USD = 1e-9


class Ledger:
    """Spending of one run and the rest of its budget, in USD. Thread-safe."""

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
        """Return the money that is reserved for calls in flight."""
        return self._reserved

    def spent_usd(self) -> float:
        """Return the spending of this run, other processes' slices included."""
        with self._lock, self._file() as (total, _):
            return total - self._taken + self._spent

    def reserve(self, usd: float) -> bool:
        """Reserve money for a call. Return False if the budget does not suffice."""
        with self._lock:
            missing = self._spent + self._reserved + usd - self._taken
            if missing > ROUNDING_USD and not self._take(missing):
                return False
            self._reserved += usd
            return True

    def settle(self, reserved_usd: float, actual_usd: float) -> None:
        """Release the reservation of a finished call and record its cost."""
        with self._lock:
            self._reserved -= reserved_usd
            self._spent += actual_usd
            excess = self._spent + self._reserved - self._taken
            if excess > ROUNDING_USD:
                self._take(excess, over_limit=True)

    def leave(self, reserved_usd: float) -> None:
        """Leave a reservation on disk for a later process to `adopt`: its call goes on."""
        with self._lock:
            self._taken -= reserved_usd
            self._reserved -= reserved_usd

    def adopt(self, reserved_usd: float) -> None:
        """Take over a reservation that an earlier process of this run left."""
        with self._lock:
            self._taken += reserved_usd
            self._reserved += reserved_usd

    def close(self) -> None:
        """Give unspent money back."""
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
                "the spending record of this run cannot be read",
                place=str(self.path),
                hint='write the spending into it as {"usd": 1.23}, or build with --fresh',
            ) from None


class _Write:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, usd: float) -> None:
        write_bytes(self.path, json.dumps({"usd": round(max(0.0, usd), 9)}).encode())


_ledgers: dict[tuple[str, float], Ledger] = {}
_ledgers_lock = Lock()


def ledger_of(folder: Path, limit_usd: float) -> Ledger:
    """Return this process's ledger in a folder."""
    path = folder.absolute() / "spend.json"
    with _ledgers_lock:
        return _ledgers.setdefault((str(path), limit_usd), Ledger(path, limit_usd))


def spent_in(folder: Path) -> float:
    """Return the recorded spending of all processes, in USD.

    Args:
        folder: `RunContext.spending_path`.
    """
    return Ledger(folder.absolute() / "spend.json", 0.0).spent_usd()


def within_budget(ask: Try, ledger: Ledger, price: TokenPrice) -> Try:
    """Wrap `ask` so that every attempt is paid for.

    An attempt whose answer was lost (malformed, broken connection) costs its worst case, because the server
    may bill it.
    """

    async def ask_and_pay(request: Request) -> Completion | FailedAttempt:
        worst = price.cost_usd(estimate_prompt_tokens(request.messages), request.decoding.max_tokens)
        if not await _reserve(ledger, worst):
            return over_budget(ledger, worst)
        actual = worst
        try:
            result = await ask(request)
            if isinstance(result, Completion):
                actual = price.cost_usd(result.tokens_in, result.tokens_out, result.tokens_in_cached)
            elif result.usage is not None:
                actual = price.cost_usd(*result.usage)
            elif not result.may_be_billed:
                actual = 0.0
            return result
        finally:
            ledger.settle(worst, actual)

    return ask_and_pay


@dataclass
class Paid:
    """Single requests outside a stage, such as those of a probe, paid for from the budget of a run."""

    ask: Try
    ledger: Ledger | None = None
    """`None` if the model is free."""
    spent_usd: float = 0.0

    @classmethod
    def of(cls, ask: Try, name: str, settings: ModelSettings) -> Paid:
        """Return a payer for one model.

        Raises:
            BudgetError: If the price of the model is unknown.
        """
        price = settings.price(name)
        if price == FREE:
            return cls(ask)
        ledger = ledger_of(settings.spending_path, settings.budget_usd)
        paid = cls(within_budget(ask, ledger, price), ledger)
        pay = paid.ask

        async def ask_and_sum(request: Request) -> Completion | FailedAttempt:
            outcome = await pay(request)
            if isinstance(outcome, Completion):
                spent = price.cost_usd(outcome.tokens_in, outcome.tokens_out, outcome.tokens_in_cached)
                paid.spent_usd += spent
            return outcome

        paid.ask = ask_and_sum
        return paid

    def close(self) -> None:
        """Give unspent money back."""
        if self.ledger is not None:
            self.ledger.close()


def over_budget(ledger: Ledger, needed_usd: float) -> FailedAttempt:
    """Return the failure of a call that the budget does not cover."""
    left = max(0.0, ledger.limit_usd - ledger.spent_usd())
    message = (
        f"the budget of ${ledger.limit_usd:g} has ${left:.4f} left; this call may need ${needed_usd:.4f}"
    )
    return FailedAttempt("budget", message, final=True)


def reserve_batch(settings: ModelSettings, name: str, worst_usd: float, work: str) -> Ledger:
    """Reserve the money for many calls at once, and return the ledger in which to settle them.

    Args:
        settings: The run's budget.
        name: The model.
        worst_usd: Upper bound of the cost.
        work: The calls in words, such as `scoring 12 passages`.

    Raises:
        BudgetError: If less is left.
    """
    ledger = ledger_of(settings.spending_path, settings.budget_usd)
    if not ledger.reserve(worst_usd):
        left = max(0.0, ledger.limit_usd - ledger.spent_usd())
        raise BudgetError(
            f"{work} may cost ${worst_usd:.4f}, and ${left:.4f} of the budget is left",
            place=name,
            hint="raise the budget, or leave this step out",
        )
    return ledger


async def _reserve(ledger: Ledger, usd: float) -> bool:
    """Reserve money, and wait for the calls in flight if they hold the rest of the budget."""
    while not ledger.reserve(usd):
        if ledger.reserved_usd <= ROUNDING_USD or usd > ledger.limit_usd:
            return False
        await asyncio.sleep(0.02)
    return True
