"""Stop asking a model that cannot answer, before more is sent or spent.

The first calls of a stage are a probe. One call goes first, then at most `PROBE_CALLS` until one succeeds. If
all of them fail in the same way, the stage stops with the server's words. After the probe it stops if the
server refuses everything for `limits.patience_s`, or if one refusal means that no other call can succeed
(wrong key, no credit). Calls in flight are finished, the rest is never sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn, TypeVar

from schemas.errors import ModelError, join_steps
from schemas.recipe import Limits
from tasks.models.protocol import EMPTY_KINDS, Completion, FailedAttempt, Failure, FailureKind, Outcome
from tasks.run.progress import say

T = TypeVar("T")

PROBE_CALLS = 20
LONGEST_LEAD_S = 2.0
"""Longest time that the other calls of a probe wait for the first one."""
REPORT_EVERY_S = 10.0
"""A server that refuses everything is reported this often."""
RERUN = "then run the same command again: received answers are kept"


class CircuitBreaker:
    """Decides whether a model may be asked. Belongs to one open model, and so to one event loop."""

    def __init__(self, model: str, limits: Limits, *, probe: bool = True) -> None:
        self.model = model
        self.answered = 0
        self._patience_s = limits.patience_s
        self._outage_s = limits.outage_s
        self._error: ModelError | None = None
        self._probing = probe
        self._leading = probe
        self._sent = 0
        self._finished = 0
        self._failures: Counter[FailureKind] = Counter()
        self._words: dict[FailureKind, tuple[str, str | None]] = {}
        """Message and hint of the last failure of each kind."""
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._refused_since: float | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._awaited = ""
        self._waiting: set[asyncio.Task[Any]] = set()
        self._interrupted: set[asyncio.Task[Any]] = set()

    async def admit(self) -> None:
        """Wait until a call may be sent.

        Raises:
            ModelError: If the model was stopped.
        """
        while True:
            self.check()
            if not self._probing or self._sent < (1 if self._leading else PROBE_CALLS):
                self._sent += 1
                if self._leading:
                    asyncio.get_running_loop().call_later(LONGEST_LEAD_S, self._end_lead)
                return
            await self._changed.wait()

    def check(self) -> None:
        """Raise the error that stopped the model, if it was stopped."""
        if self._error is not None:
            raise self._error

    async def sleep(self, seconds: float) -> None:
        """Wait before the next attempt of a call.

        Raises:
            ModelError: If the model is stopped meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return
        self.check()

    @asynccontextmanager
    async def guarded(self, manager: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
        """Enter a context that may have to wait. The wait ends if the model is stopped.

        Raises:
            ModelError: If the model is stopped before the context is entered.
        """
        value = await self._unless_stopped(manager.__aenter__())
        try:
            yield value
        finally:
            await manager.__aexit__(None, None, None)

    async def _unless_stopped(self, entering: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            return await entering
        except asyncio.CancelledError:
            if task in self._interrupted:
                self._interrupted.discard(task)
                task.uncancel()
                self.check()
            raise
        finally:
            self._waiting.discard(task)

    def attempted(self, result: Completion | FailedAttempt) -> None:
        """Record one attempt.

        Raises:
            ModelError: If the attempt shows that no other can succeed.
        """
        self._end_lead()
        if isinstance(result, Completion):
            self.answered += 1
            self._probing = False
            self._refused_since = None
            self._notify()
            return
        self._words[result.kind] = (result.message, result.hint)
        if result.stops:
            self.stop(self._error_of(result.kind, result.message))
        if result.kind in EMPTY_KINDS:
            self._refused_since = None  # the server answers
            self._count(result.kind)
        elif _is_refusal(result):
            self._stop_if_out_of_time(result)

    def finished(self, outcome: Outcome) -> None:
        """Record the outcome of a call after all its attempts.

        Raises:
            ModelError: If the probe is over and every call of it failed in the same way.
        """
        self._finished += 1
        if isinstance(outcome, Failure) and outcome.kind == "budget":
            self._probing = False
        elif isinstance(outcome, Failure) and outcome.kind not in EMPTY_KINDS:
            self._count(outcome.kind)
        if self._finished >= PROBE_CALLS:
            self._probing = False
        self._notify()

    def stop(self, error: ModelError) -> NoReturn:
        """Stop the model and raise the error."""
        if self._error is None:
            self._error = error
        self._stopped.set()
        self._notify()
        self.close()
        for task in self._waiting - self._interrupted:
            self._interrupted.add(task)
            task.cancel()
        raise self._error

    def close(self) -> None:
        """Stop reporting."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def _count(self, kind: FailureKind) -> None:
        if not self._probing:
            return
        self._failures[kind] += 1
        if self._failures[kind] >= PROBE_CALLS and len(self._failures) == 1:
            message, _ = self._words.get(kind, ("", None))
            self.stop(
                self._error_of(
                    kind, f"the first {PROBE_CALLS} calls all failed in the same way ({kind}): {message}"
                )
            )

    def _error_of(self, kind: FailureKind, message: str) -> ModelError:
        fix = self._words.get(kind, ("", None))[1] or "read the server's log, and repair the endpoint"
        return ModelError(
            message,
            place=self.model,
            hint=fix if "run the same command" in fix else join_steps(fix, RERUN),
        )

    def _stop_if_out_of_time(self, result: FailedAttempt) -> None:
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        refused_s = now - self._refused_since
        if refused_s >= self._patience_s:
            self.stop(
                ModelError(
                    f"{result.message}; no call has succeeded for {refused_s:.0f} s while the server refuses",
                    place=self.model,
                    hint=join_steps(
                        result.hint or "wait until the server accepts requests",
                        "or raise limits.patience_s",
                        RERUN,
                    ),
                )
            )
        self._awaited = result.message
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().create_task(self._report())

    async def _report(self) -> None:
        """Show a line every `REPORT_EVERY_S` seconds while the server refuses everything."""
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            if self._refused_since is None:
                continue
            refused_s = time.monotonic() - self._refused_since
            if refused_s < REPORT_EVERY_S:
                continue
            left_s = max(0.0, self._patience_s - refused_s)
            say(
                f"{self.model}: waiting for the server, {refused_s:.0f} s so far ({self._awaited}); "
                f"{self.answered:,} calls were answered; it stops in {left_s:.0f} s without an answer"
            )

    def _end_lead(self) -> None:
        if self._leading:
            self._leading = False
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed.clear()


def _is_refusal(result: FailedAttempt) -> bool:
    """Return whether the server was reached and did not answer, for a cause that may pass."""
    if result.kind == "connection":
        return result.may_be_billed
    return result.kind in ("rate_limit", "server", "timeout", "malformed")
