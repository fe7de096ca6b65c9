"""Patience: try again where another try can help, never for ever.

Tries that failed count against `attempts`. Being told to wait (429, or 503 with `Retry-After`) is no fault
of the request and counts a quarter, so that a storm does not use a request up; four times `attempts` tries
is the bound. A server that wants more than `LONGEST_WAIT_S` is not waited for. One that cannot be reached at
all is no fault of the request either: it is tried for `outage_s`, and then the stage stops, because what
cannot be reached is no answer.
"""

from __future__ import annotations

import asyncio
import random
import time

from schemas.errors import ModelError
from tasks.models.backend import Setback, Try, estimate_prompt_tokens
from tasks.models.limits import Limiter
from tasks.models.protocol import Completion, Failure, Outcome, Request
from tasks.progress import say

LONGEST_WAIT_S = 600.0
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
LONGEST_UNREACHED_S = 5.0
TOLD_TO_WAIT = 0.25
SAID_FROM_S, SAID_AGAIN_S = 5.0, 30.0
"""Waits so long are said to whoever watches; that a server is still out of reach, so often."""


async def ask_patiently(ask: Try, limiter: Limiter, request: Request) -> Outcome:
    """Ask within the limiter's limits until there is an answer, a final setback, or no attempt left. Raises
    `ModelError` where the server cannot be reached for longer than the limits allow."""
    limits = limiter.limits
    tokens = estimate_prompt_tokens(request.messages) + request.decoding.max_tokens
    tries, used = 0, 0.0
    while True:
        result = await _try_once(ask, limiter, request, tokens)
        if isinstance(result, Completion):
            return result
        if _never_reached(result):
            await asyncio.sleep(_until_next_try(limiter, result))
            continue
        tries += 1
        used += TOLD_TO_WAIT if _told_to_wait(result) else 1.0
        wait_s = result.retry_after_s or 0.0
        too_long = wait_s > LONGEST_WAIT_S
        asked_to_wait = f"{result.message}; it asks to wait {wait_s:.0f} s"
        if result.final or too_long or used >= limits.attempts:
            message = asked_to_wait if too_long else result.message
            return Failure(request.tag, result.kind, message, tries)
        _tell(limiter, wait_s, asked_to_wait, again_s=wait_s)
        silent = limiter.silent_s(time.monotonic())
        await asyncio.sleep(
            backoff_s(tries, silent) if result.retry_after_s is None else result.retry_after_s
        )


async def _try_once(ask: Try, limiter: Limiter, request: Request, tokens: int) -> Completion | Setback:
    async with limiter.slot(tokens) as slot:
        try:
            async with asyncio.timeout(limiter.limits.timeout_s):
                result = await ask(request)
        except TimeoutError:
            message = f"no answer within {limiter.limits.timeout_s:g} s"
            result = Setback("timeout", message, overload=True)
        limiter.out_of_reach_s(time.monotonic(), reached=not _never_reached(result))
        if isinstance(result, Completion):
            limiter.succeeded(slot, result.tokens_in + result.tokens_out)
            return result
        wait = result.retry_after_s if (result.retry_after_s or 0.0) <= LONGEST_WAIT_S else None
        if result.kind == "rate_limit" and not result.final:
            limiter.refused(slot, wait)
        elif result.overload:
            limiter.overloaded(slot)
            limiter.pause(wait or 0.0)
        elif result.kind == "bad_request":
            limiter.declined()
        return result


def _never_reached(result: Completion | Setback) -> bool:
    return isinstance(result, Setback) and result.kind == "connection" and not result.may_be_billed


def _until_next_try(limiter: Limiter, setback: Setback) -> float:
    gone_s = limiter.out_of_reach_s(time.monotonic(), reached=False)
    if gone_s >= limiter.limits.outage_s:
        raise ModelError(
            f"{setback.message}; the server could not be reached for {gone_s:.0f} s",
            hint="start the server and run the same command again: answers that came are kept; "
            "or raise limits.outage_s",
        )
    left_s = limiter.limits.outage_s - gone_s
    said = f"{setback.message}, for {gone_s:.0f} s now; it is tried for {left_s:.0f} s more"
    _tell(limiter, gone_s, said, again_s=SAID_AGAIN_S)
    bound = min(LONGEST_UNREACHED_S, max(FIRST_BACKOFF_S, gone_s))
    return min(random.uniform(0.0, bound), left_s)


def _tell(limiter: Limiter, waited_s: float, why: str, *, again_s: float) -> None:
    if waited_s >= SAID_FROM_S and limiter.is_news(time.monotonic(), again_s):
        say(why)


def _told_to_wait(setback: Setback) -> bool:
    return setback.kind == "rate_limit" or (setback.kind == "server" and setback.retry_after_s is not None)


def backoff_s(tries: int, silent_s: float) -> float:
    """Exponential, with full jitter: any time up to the bound. Where the server has answered others
    meanwhile, it is not the server that needs a rest, and the bound stays at its first."""
    bound: float = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (tries - 1))
    return random.uniform(0.0, bound if silent_s >= bound / 2 else FIRST_BACKOFF_S)
