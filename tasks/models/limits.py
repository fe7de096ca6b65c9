"""How hard a model may be asked: one limiter per model and process, shared by all threads and event loops.

Requests and tokens a minute are token buckets (a sixth of a minute may come in one burst); what a server
bears without saying so is learnt (`adaptive_rate`). How many requests are in flight follows the server:
additive increase, multiplicative decrease (Jacobson 1988) between 1 and `max_in_flight`, where more than one
in ten finds it overloaded. A `Retry-After` stops the whole model, not only the request that received it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import Lock

from schemas.errors import ModelError
from schemas.recipe import Limits
from tasks.models.adaptive_rate import Pace
from tasks.models.protocol import (
    Completion,
    FailedAttempt,
    Failure,
    Outcome,
    Request,
    Try,
    estimate_prompt_tokens,
)
from tasks.run.progress import say
from tasks.run.retries import Backoff, Retries, RetryPolicy

OVERLOADED = 0.1
"""Share of the last outcomes, twice as many as may be in flight, that makes an overload. Fewer may hang or
fail for their own reasons; over fewer outcomes they look too many when they are given up between answers."""


@dataclass
class Bucket:
    """A token bucket. A demand larger than the bucket is met when it is full, and leaves it in debt."""

    per_minute: int
    level: float = 0.0
    updated: float = 0.0

    def __post_init__(self) -> None:
        self.size = max(1.0, self.per_minute / 6)
        self.level = self.size

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken."""
        self.level = min(self.size, self.level + (now - self.updated) * self.per_minute / 60)
        self.updated = now
        missing = min(amount, self.size) - self.level
        return max(0.0, missing * 60 / self.per_minute)


@dataclass
class RequestSlot:
    """One request in flight."""

    window: int
    """How often the window had been cut when the request was sent."""
    pace: int
    """How often the pace had been cut."""
    tokens: int


class QueuedWaiter:
    """Somebody's turn, which may come from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.comes: asyncio.Future[None] = loop.create_future()
        self.called = False

    def call(self) -> bool:
        """False where nobody waits for it any more."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:  # a thread without a loop
            here = False
        if here and self.comes.done():
            return False
        try:
            if here:
                self._come()
            else:
                self._loop.call_soon_threadsafe(self._come)
        except RuntimeError:  # its loop is closed
            return False
        self.called = True
        return True

    def _come(self) -> None:
        if not self.comes.done():
            self.comes.set_result(None)


class Limiter:
    """Decides when a request may be sent. Thread-safe."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.window = float(limits.max_in_flight)
        """How many requests may be in flight now."""
        self.in_flight = 0
        self._slow_from = 0.0
        """Up to here the window grows by one an answer (slow start), then by one a round."""
        self._cuts = 0
        self._share_overloaded = 0.0
        self._paused_until = 0.0
        now = time.monotonic()
        rpm, tpm = limits.requests_per_minute, limits.tokens_per_minute
        self._requests = Bucket(rpm, updated=now) if rpm else None
        self._tokens = Bucket(tpm, updated=now) if tpm else None
        self.pace = Pace(now)
        self._answered_at = now
        self._out_of_reach_since: float | None = None
        self._told_until = 0.0
        self._waiting: deque[QueuedWaiter] = deque()
        self._called = 0
        """Waiters who were called and have not looked yet."""
        self._sleeper: QueuedWaiter | None = None
        """Who waits for the clock. Only the first in the queue does; the others wait for the one before."""
        self._lock = Lock()

    @asynccontextmanager
    async def slot(self, tokens: int) -> AsyncIterator[RequestSlot]:
        """Wait until a request of about so many tokens may be sent; hold its place while it is in flight."""
        slot = await self._enter(tokens)
        try:
            yield slot
        finally:
            with self._lock:
                self.in_flight -= 1
                self._wake()

    async def _enter(self, tokens: int) -> RequestSlot:
        """In the order of coming: who was called keeps a place until it has looked."""
        called = False
        while True:
            with self._lock:
                self._called -= called
                if self._sleeper or not self._has_room() or (self._waiting and not called):
                    turn = QueuedWaiter(asyncio.get_running_loop())
                    (self._waiting.appendleft if called else self._waiting.append)(turn)
                    self._wake()
                    wait = None
                else:
                    wait = self._wait_s(tokens, time.monotonic())
                    if wait <= 0:
                        return self._taken(tokens)
                    self._sleeper = turn = QueuedWaiter(asyncio.get_running_loop())
            if wait is None:
                await self._turn_comes(turn)
            else:
                await self._sleep(turn, wait)
            called = True

    def _has_room(self) -> bool:
        return self.in_flight + self._called < max(1, int(self.window))

    async def _sleep(self, turn: QueuedWaiter, seconds: float) -> None:
        """Until it is time, or until that time has changed."""
        try:
            await asyncio.wait([turn.comes], timeout=seconds)
        except BaseException:
            with self._lock:
                self._sleeper = None
                self._wake()
            raise
        with self._lock:
            self._sleeper = None
            self._called += 1

    async def _turn_comes(self, turn: QueuedWaiter) -> None:
        try:
            await turn.comes
        except BaseException:
            with self._lock:
                if turn.called:
                    self._called -= 1
                else:
                    self._waiting = deque(other for other in self._waiting if other is not turn)
                self._wake()
            raise

    def _wait_s(self, tokens: int, now: float) -> float:
        return max(
            self._paused_until - now,
            self._requests.wait_s(1, now) if self._requests else 0.0,
            self._tokens.wait_s(tokens, now) if self._tokens else 0.0,
            self.pace.wait_s(now),
        )

    def _taken(self, tokens: int) -> RequestSlot:
        self.in_flight += 1
        if self._requests:
            self._requests.level -= 1
        if self._tokens:
            self._tokens.level -= tokens
        self.pace.sent(time.monotonic())
        self._wake()
        return RequestSlot(self._cuts, self.pace.cuts, tokens)

    def _wake(self) -> None:
        """Call the next waiter, where there is a place; who takes it lets the one behind look."""
        if self._sleeper or not self._has_room():
            return
        while self._waiting:
            if self._waiting.popleft().call():
                self._called += 1
                return

    def succeeded(self, slot: RequestSlot, tokens: int) -> None:
        """An answer came; `tokens` is what it really took."""
        with self._lock:
            if self._tokens:
                self._tokens.level += slot.tokens - tokens
            self._let_through()
            self._share_overloaded -= self._share_overloaded / max(1.0, 2 * self.window)
            step = 1.0 if self.window < self._slow_from else 1 / max(1.0, self.window)
            self.window = min(float(self.limits.max_in_flight), self.window + step)
            self._wake()

    def declined(self) -> None:
        """The server let a request through and will have none of it (400 and the like)."""
        with self._lock:
            self._let_through()

    def _let_through(self) -> None:
        self._answered_at = time.monotonic()
        if self.pace.accepted(self._answered_at):
            self._rouse()

    def refused(self, slot: RequestSlot, retry_after_s: float | None) -> None:
        """Too many requests, the server says (429)."""
        with self._lock:
            self.pace.refused(time.monotonic(), slot.pace, retry_after_s, self.in_flight)
            self._rouse()

    def _rouse(self) -> None:
        if self._sleeper:
            self._sleeper.call()

    def overloaded(self, slot: RequestSlot) -> None:
        """The server could not keep up. Requests sent before the last cut do not cut again."""
        with self._lock:
            if slot.window != self._cuts:
                return
            self._share_overloaded += (1 - self._share_overloaded) / max(1.0, 2 * self.window)
            if self._share_overloaded > OVERLOADED:
                self._cuts += 1
                self._share_overloaded = 0.0
                self._slow_from = self.window / 2
                self.window = max(1.0, min(self.window, self.in_flight) / 2)

    def silent_s(self, now: float) -> float:
        """Seconds since the server last answered anything."""
        return now - self._answered_at

    def out_of_reach_s(self, now: float, *, reached: bool) -> float:
        """Seconds since the first of the tries that did not reach the server, where none has since."""
        with self._lock:
            if reached:
                self._out_of_reach_since = None
                return 0.0
            if self._out_of_reach_since is None:
                self._out_of_reach_since = now
            return now - self._out_of_reach_since

    def may_report(self, now: float, seconds: float) -> bool:
        """Whether to tell why nothing moves: not again for so many seconds."""
        with self._lock:
            news = now >= self._told_until
            if news:
                self._told_until = now + seconds
            return news

    def pause(self, seconds: float) -> None:
        """Send nothing to this model for so long."""
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)


_limiters: dict[tuple[str, Limits], Limiter] = {}
_limiters_lock = Lock()


def limiter_of(model: str, limits: Limits) -> Limiter:
    """This process's limiter of a model."""
    with _limiters_lock:
        return _limiters.setdefault((model, limits), Limiter(limits))


# Retries

LONGEST_REQUESTED_WAIT_S = 600.0
"""A server that asks for a longer wait (`Retry-After`) is not retried."""
BACKOFF = Backoff(first_s=0.5, longest_s=30.0, jitter=True)
LONGEST_UNREACHED_WAIT_S = 5.0
"""Longest wait between two attempts to reach a server that is down."""
RATE_LIMITED_WEIGHT = 0.25
"""Share of an attempt that a rate-limited call counts as. The request is not at fault, and a burst of 429
responses must not use its attempts up. Four times `limits.attempts` is still the bound."""
REPORT_FROM_S, REPORT_EVERY_S = 5.0, 30.0
"""Waits of at least this length are reported to the progress display; an outage is reported this often."""


async def send_with_retries(ask: Try, limiter: Limiter, request: Request) -> Outcome:
    """Send a request within the limits, and retry it up to `limits.attempts` times.

    A server that cannot be reached at all is retried for `limits.outage_s`, whatever the number of attempts:
    nothing has been asked yet.

    Raises:
        ModelError: If the server cannot be reached for longer than `limits.outage_s`.
    """
    retries = Retries(RetryPolicy(limiter.limits.attempts, BACKOFF, LONGEST_REQUESTED_WAIT_S))
    tokens = estimate_prompt_tokens(request.messages) + request.decoding.max_tokens
    while True:
        result = await _try_once(ask, limiter, request, tokens)
        if isinstance(result, Completion):
            return result
        if _is_unreached(result):
            await asyncio.sleep(_unreached_wait_s(limiter, result))
            continue
        requested_s = result.retry_after_s
        wait_s = retries.next_wait_s(
            requested_s,
            weight=RATE_LIMITED_WEIGHT if _is_rate_limited(result) else 1.0,
            silent_s=limiter.silent_s(time.monotonic()),
        )
        message = f"{result.message}; it asks to wait {requested_s or 0.0:.0f} s"
        if result.final or wait_s is None:
            too_long = retries.policy.is_too_long(requested_s)
            return Failure(
                request.tag, result.kind, message if too_long else result.message, retries.failures
            )
        if requested_s is not None:
            _report(limiter, requested_s, message, every_s=requested_s)
        await asyncio.sleep(wait_s)


async def _try_once(ask: Try, limiter: Limiter, request: Request, tokens: int) -> Completion | FailedAttempt:
    async with limiter.slot(tokens) as slot:
        try:
            async with asyncio.timeout(limiter.limits.timeout_s):
                result = await ask(request)
        except TimeoutError:
            message = f"no answer within {limiter.limits.timeout_s:g} s"
            result = FailedAttempt("timeout", message, overload=True)
        limiter.out_of_reach_s(time.monotonic(), reached=not _is_unreached(result))
        if isinstance(result, Completion):
            limiter.succeeded(slot, result.tokens_in + result.tokens_out)
            return result
        wait = result.retry_after_s if (result.retry_after_s or 0.0) <= LONGEST_REQUESTED_WAIT_S else None
        if result.kind == "rate_limit" and not result.final:
            limiter.refused(slot, wait)
        elif result.overload:
            limiter.overloaded(slot)
            limiter.pause(wait or 0.0)
        elif result.kind == "bad_request":
            limiter.declined()
        return result


def _is_unreached(result: Completion | FailedAttempt) -> bool:
    return isinstance(result, FailedAttempt) and result.kind == "connection" and not result.may_be_billed


def _unreached_wait_s(limiter: Limiter, failure: FailedAttempt) -> float:
    """Return the seconds until the next attempt. Raise `ModelError` if the outage is too long."""
    outage_s = limiter.out_of_reach_s(time.monotonic(), reached=False)
    if outage_s >= limiter.limits.outage_s:
        raise ModelError(
            f"{failure.message}; the server could not be reached for {outage_s:.0f} s",
            hint="start the server and run the same command again: received answers are kept; "
            "or raise limits.outage_s",
        )
    left_s = limiter.limits.outage_s - outage_s
    message = f"{failure.message}, for {outage_s:.0f} s so far; retrying for another {left_s:.0f} s"
    _report(limiter, outage_s, message, every_s=REPORT_EVERY_S)
    longest_s = min(LONGEST_UNREACHED_WAIT_S, max(BACKOFF.first_s, outage_s))
    return min(random.uniform(0.0, longest_s), left_s)


def _report(limiter: Limiter, waited_s: float, message: str, *, every_s: float) -> None:
    if waited_s >= REPORT_FROM_S and limiter.may_report(time.monotonic(), every_s):
        say(message)


def _is_rate_limited(failure: FailedAttempt) -> bool:
    """Return whether the server asks to wait: 429, or 503 with `Retry-After`."""
    return failure.kind == "rate_limit" or (failure.kind == "server" and failure.retry_after_s is not None)
