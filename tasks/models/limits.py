"""Limits on the requests to a model: one limiter per model and process, shared by all threads.

Requests and tokens per minute are token buckets with bursts of a sixth of a minute. Unannounced rate limits
are inferred from 429 responses (`adaptive_rate`). The number of requests in flight adapts to the server
between 1 and `max_in_flight`: additive increase, multiplicative decrease (Jacobson 1988) if more than one in
ten requests finds it overloaded. A `Retry-After` pauses the whole model, not only the request that received
it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock

from schemas.errors import ModelError
from schemas.recipe import Limits
from tasks.models.adaptive_rate import AdaptiveRate
from tasks.models.circuit_breaker import CircuitBreaker
from tasks.models.protocol import (
    EMPTY_KINDS,
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

OVERLOAD_SHARE = 0.1
"""Share of overloads among the last outcomes that cuts the window. Fewer requests may hang or fail for their
own reasons. The average covers twice as many outcomes as may be in flight: timeouts arrive between answers,
so a shorter one would show too many."""


@dataclass
class TokenBucket:
    """A token bucket.

    A demand larger than the bucket is met when the bucket is full, and leaves it negative.
    """

    per_minute: int
    level: float = 0.0
    updated: float = 0.0
    starts_full: bool = True

    def __post_init__(self) -> None:
        self.size = max(1.0, self.per_minute / 6)
        self.level = self.size if self.starts_full else 0.0

    def wait_s(self, amount: float, now: float) -> float:
        """Return the seconds until `amount` may be taken."""
        self.level = min(self.size, self.level + (now - self.updated) * self.per_minute / 60)
        self.updated = now
        missing = min(amount, self.size) - self.level
        return max(0.0, missing * 60 / self.per_minute)


@dataclass
class RequestSlot:
    """One request in flight."""

    window_cuts: int
    """Number of cuts of the window when the request was sent."""
    rate_cuts: int
    """Number of cuts of the rate when the request was sent."""
    tokens: int


class QueuedWaiter:
    """A queued waiter. Any thread may wake it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.signal: asyncio.Future[None] = loop.create_future()
        self.woken = False

    def wake(self) -> bool:
        """Wake the waiter. Return False if it does not wait any more."""
        try:
            same_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:  # a thread without a loop
            same_loop = False
        if same_loop and self.signal.done():
            return False
        try:
            if same_loop:
                self._resolve()
            else:
                self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:  # its loop is closed
            return False
        self.woken = True
        return True

    def _resolve(self) -> None:
        if not self.signal.done():
            self.signal.set_result(None)


class Limiter:
    """Decides when a request may be sent. Thread-safe."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.window = float(limits.max_in_flight)
        """Number of requests that may be in flight now."""
        self.in_flight = 0
        self._slow_start_until = 0.0
        """Below this value the window grows by one per answer (slow start), above it by one per round
        trip."""
        self._cuts = 0
        self._overload_share = 0.0
        self._paused_until = 0.0
        now = time.monotonic()
        rpm, tpm = limits.requests_per_minute, limits.tokens_per_minute
        # Full buckets of many processes would allow their bursts at the same time.
        bucket = partial(TokenBucket, updated=now, starts_full=_processes == 1)
        self._requests = bucket(rpm) if rpm else None
        self._tokens = bucket(tpm) if tpm else None
        self.rate = AdaptiveRate(now)
        self._answered_at = now
        self._unreached_since: float | None = None
        self._next_report = 0.0
        self._waiting: deque[QueuedWaiter] = deque()
        self._woken = 0
        """Waiters that were woken and have not checked again."""
        self._sleeper: QueuedWaiter | None = None
        """The waiter that waits for the clock: the first in the queue."""
        self._lock = Lock()

    @asynccontextmanager
    async def slot(self, tokens: int) -> AsyncIterator[RequestSlot]:
        """Wait until a request of about `tokens` tokens may be sent, and hold a slot for it."""
        slot = await self._enter(tokens)
        try:
            yield slot
        finally:
            with self._lock:
                self.in_flight -= 1
                self._wake_next()

    async def _enter(self, tokens: int) -> RequestSlot:
        """Queue in the order of arrival. A woken waiter keeps its place until it has checked again."""
        woken = False
        while True:
            with self._lock:
                self._woken -= woken
                if self._sleeper or not self._has_free_slot() or (self._waiting and not woken):
                    waiter = QueuedWaiter(asyncio.get_running_loop())
                    (self._waiting.appendleft if woken else self._waiting.append)(waiter)
                    self._wake_next()
                    wait = None
                else:
                    wait = self._wait_s(tokens, time.monotonic())
                    if wait <= 0:
                        return self._take_slot(tokens)
                    self._sleeper = waiter = QueuedWaiter(asyncio.get_running_loop())
            if wait is None:
                await self._wait_for_turn(waiter)
            else:
                await self._sleep(waiter, wait)
            woken = True

    def _has_free_slot(self) -> bool:
        return self.in_flight + self._woken < max(1, int(self.window))

    async def _sleep(self, waiter: QueuedWaiter, seconds: float) -> None:
        """Wait for the given time, or until that time has changed."""
        try:
            await asyncio.wait([waiter.signal], timeout=seconds)
        except BaseException:
            with self._lock:
                self._sleeper = None
                self._wake_next()
            raise
        with self._lock:
            self._sleeper = None
            self._woken += 1

    async def _wait_for_turn(self, waiter: QueuedWaiter) -> None:
        try:
            await waiter.signal
        except BaseException:
            with self._lock:
                if waiter.woken:
                    self._woken -= 1
                else:
                    self._waiting = deque(other for other in self._waiting if other is not waiter)
                self._wake_next()
            raise

    def _wait_s(self, tokens: int, now: float) -> float:
        return max(
            self._paused_until - now,
            self._requests.wait_s(1, now) if self._requests else 0.0,
            self._tokens.wait_s(tokens, now) if self._tokens else 0.0,
            self.rate.wait_s(now),
        )

    def _take_slot(self, tokens: int) -> RequestSlot:
        self.in_flight += 1
        if self._requests:
            self._requests.level -= 1
        if self._tokens:
            self._tokens.level -= tokens
        self.rate.sent(time.monotonic())
        self._wake_next()
        return RequestSlot(self._cuts, self.rate.cuts, tokens)

    def _wake_next(self) -> None:
        """Wake the first waiter if a slot is free. It wakes the one behind it after it took the slot."""
        if self._sleeper or not self._has_free_slot():
            return
        while self._waiting:
            if self._waiting.popleft().wake():
                self._woken += 1
                return

    def succeeded(self, slot: RequestSlot, tokens: int) -> None:
        """Record an answer. `tokens` is the real number of tokens."""
        with self._lock:
            if self._tokens:
                self._tokens.level += slot.tokens - tokens
            self._accepted()
            self._overload_share -= self._overload_share / max(1.0, 2 * self.window)
            step = 1.0 if self.window < self._slow_start_until else 1 / max(1.0, self.window)
            self.window = min(float(self.limits.max_in_flight), self.window + step)
            self._wake_next()

    def rejected(self) -> None:
        """Record a request that the server accepted and found invalid (status 400 and similar)."""
        with self._lock:
            self._accepted()

    def _accepted(self) -> None:
        self._answered_at = time.monotonic()
        if self.rate.accepted(self._answered_at):
            self._wake_sleeper()

    def refused(self, slot: RequestSlot, retry_after_s: float | None) -> None:
        """Record a refusal (429)."""
        with self._lock:
            self.rate.refused(time.monotonic(), slot.rate_cuts, retry_after_s, self.in_flight)
            self._wake_sleeper()

    def _wake_sleeper(self) -> None:
        if self._sleeper:
            self._sleeper.wake()

    def overloaded(self, slot: RequestSlot) -> None:
        """Record that the server could not keep up. Requests from before the last cut do not cut again."""
        with self._lock:
            if slot.window_cuts != self._cuts:
                return
            self._overload_share += (1 - self._overload_share) / max(1.0, 2 * self.window)
            if self._overload_share > OVERLOAD_SHARE:
                self._cuts += 1
                self._overload_share = 0.0
                self._slow_start_until = self.window / 2
                self.window = max(1.0, min(self.window, self.in_flight) / 2)

    def silent_s(self, now: float) -> float:
        """Return the seconds since the server last answered any request."""
        return now - self._answered_at

    def unreached_s(self, now: float, *, reached: bool) -> float:
        """Return the seconds for which the server has not been reached. 0 if it is `reached` now."""
        with self._lock:
            if reached:
                self._unreached_since = None
                return 0.0
            if self._unreached_since is None:
                self._unreached_since = now
            return now - self._unreached_since

    def may_report(self, now: float, seconds: float) -> bool:
        """Return whether a wait may be reported now. Reports are at least `seconds` apart."""
        with self._lock:
            due = now >= self._next_report
            if due:
                self._next_report = now + seconds
            return due

    def pause(self, seconds: float) -> None:
        """Send nothing to this model for `seconds`."""
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)


# Limits of processes that ask the same models at the same time.

_processes = 1
_DIVIDED = ("max_in_flight", "requests_per_minute", "tokens_per_minute")


def most_processes(limits: Iterable[Limits]) -> int | None:
    """Return the largest number of processes that can share limits: each may send at least one request.

    Args:
        limits: Limits of the models that all processes ask.

    Returns:
        `None` if there are no limits.
    """
    shared = [getattr(one, name) for one in limits for name in _DIVIDED]
    return min((value for value in shared if value is not None), default=None)


def divide_limits(processes: int) -> None:
    """Set the number of processes that ask the same models now, with this one. Each gets an equal part."""
    global _processes
    _processes = max(1, processes)


def own_part(limits: Limits) -> Limits:
    """Return the part of limits that this process may use."""
    if _processes == 1:
        return limits
    values = {name: getattr(limits, name) for name in _DIVIDED}
    parts = {name: value and max(1, value // _processes) for name, value in values.items()}
    return limits.model_copy(update=parts)


_limiters: dict[tuple[str, Limits], Limiter] = {}
_limiters_lock = Lock()


def limiter_of(model: str, limits: Limits) -> Limiter:
    """Return this process's limiter of a model."""
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
REPORT_FROM_S, REPORT_EVERY_S = 5.0, 10.0
"""Waits of at least this length are reported to the progress display; an outage is reported this often."""


EMPTY_ATTEMPTS = 3
"""Attempts of a call if the answers have no content. Every one is paid for."""


async def send_with_retries(ask: Try, limiter: Limiter, breaker: CircuitBreaker, request: Request) -> Outcome:
    """Send a request within the limits, and retry it up to `limits.attempts` times.

    A server that cannot be reached at all is retried for `limits.outage_s`, whatever the number of attempts:
    nothing has been asked yet.

    Raises:
        ModelError: If the breaker stops the model, or the server cannot be reached for longer than
            `limits.outage_s`.
    """
    await breaker.admit()
    outcome = await _outcome_of(ask, limiter, breaker, request)
    breaker.finished(outcome)
    return outcome


async def _outcome_of(ask: Try, limiter: Limiter, breaker: CircuitBreaker, request: Request) -> Outcome:
    retries = Retries(RetryPolicy(limiter.limits.attempts, BACKOFF, LONGEST_REQUESTED_WAIT_S))
    received = [0, 0]
    tokens = estimate_prompt_tokens(request.messages) + request.decoding.max_tokens
    while True:
        result = await _try_once(ask, limiter, breaker, request, tokens)
        if isinstance(result, Completion):
            return result
        if _is_unreached(result):
            await breaker.sleep(_unreached_wait_s(limiter, breaker, result))
            continue
        if result.usage is not None:
            received = [received[0] + result.usage[0], received[1] + result.usage[1]]
        requested_s = result.retry_after_s
        wait_s = retries.next_wait_s(
            requested_s,
            weight=_weight(result, limiter.limits.attempts),
            silent_s=limiter.silent_s(time.monotonic()),
        )
        message = f"{result.message}; it asks to wait {requested_s or 0.0:.0f} s"
        if result.final or wait_s is None:
            too_long = retries.policy.is_too_long(requested_s)
            return Failure(
                request.tag,
                result.kind,
                message if too_long else result.message,
                retries.failures,
                *received,
            )
        if requested_s is not None:
            _report(limiter, requested_s, message, every_s=requested_s)
        await breaker.sleep(wait_s)


async def _try_once(
    ask: Try, limiter: Limiter, breaker: CircuitBreaker, request: Request, tokens: int
) -> Completion | FailedAttempt:
    async with breaker.guarded(limiter.slot(tokens)) as slot:
        breaker.check()
        try:
            async with asyncio.timeout(limiter.limits.timeout_s):
                result = await ask(request)
        except TimeoutError:
            message = f"no answer within {limiter.limits.timeout_s:g} s"
            result = FailedAttempt("timeout", message, overload=True)
        limiter.unreached_s(time.monotonic(), reached=not _is_unreached(result))
        if isinstance(result, Completion):
            limiter.succeeded(slot, result.tokens_in + result.tokens_out)
            breaker.attempted(result)
            return result
        wait = result.retry_after_s if (result.retry_after_s or 0.0) <= LONGEST_REQUESTED_WAIT_S else None
        if result.kind == "rate_limit" and not result.final:
            limiter.refused(slot, wait)
        elif result.overload:
            limiter.overloaded(slot)
            limiter.pause(wait or 0.0)
        elif result.kind in ("bad_request", *EMPTY_KINDS):
            limiter.rejected()
        breaker.attempted(result)
        return result


def _weight(failure: FailedAttempt, attempts: int) -> float:
    """Return the share of an attempt that a failure counts as."""
    if failure.kind in EMPTY_KINDS:
        return max(1.0, attempts / EMPTY_ATTEMPTS)
    return RATE_LIMITED_WEIGHT if _is_rate_limited(failure) else 1.0


def _is_unreached(result: Completion | FailedAttempt) -> bool:
    return isinstance(result, FailedAttempt) and result.kind == "connection" and not result.may_be_billed


def _unreached_wait_s(limiter: Limiter, breaker: CircuitBreaker, failure: FailedAttempt) -> float:
    """Return the seconds until the next attempt. Stop the model if the outage is too long."""
    outage_s = limiter.unreached_s(time.monotonic(), reached=False)
    if outage_s >= limiter.limits.outage_s:
        breaker.stop(
            ModelError(
                f"{failure.message}; the server could not be reached for {outage_s:.0f} s",
                place=breaker.model,
                hint="start the server and run the same command again: received answers are kept; "
                "or raise limits.outage_s",
            )
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
