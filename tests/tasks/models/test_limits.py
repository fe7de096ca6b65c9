"""Requests stay within the limits, and back off if the server cannot keep up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.recipe import Limits
from tasks.models.limits import Limiter, TokenBucket, divide_limits, limiter_of, most_processes, own_part
from tasks.models.protocol import Completion, Failure
from tests.servers.openai_server import HANG, HiddenLimit, OpenAIServer, status, storm
from tests.tasks.models.asking import answers, questions, settings_for


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), max_size=60))
def test_a_bucket_never_gives_more_than_its_rate_and_one_burst(
    per_minute: int, demands: list[tuple[float, int]]
) -> None:
    bucket, now, taken, largest = TokenBucket(per_minute), 0.0, 0.0, 0.0
    bucket.level = bucket.size
    for pause, amount in demands:
        now += pause
        if bucket.wait_s(amount, now) <= 0:
            bucket.level -= amount
            taken += amount
            largest = max(largest, amount)
    assert taken <= bucket.size + now * per_minute / 60 + largest


def test_a_demand_larger_than_the_bucket_is_met_when_it_is_full() -> None:
    bucket = TokenBucket(60, level=10.0)
    assert bucket.wait_s(1000, 0.0) == 0.0
    bucket.level -= 1000
    assert bucket.wait_s(1, 0.0) == pytest.approx(991)


@given(st.integers(1, 500), st.integers(1, 64), st.one_of(st.none(), st.integers(1, 5000)))
def test_the_parts_of_limits_are_at_most_the_limits(in_flight: int, workers: int, rpm: int | None) -> None:
    limits = Limits(max_in_flight=in_flight, requests_per_minute=rpm)
    processes = min(workers, most_processes([limits, Limits()]) or workers)
    divide_limits(processes)
    try:
        part = own_part(limits)
    finally:
        divide_limits(1)
    assert 1 <= part.max_in_flight * processes <= in_flight
    assert (part.requests_per_minute is None) == (rpm is None)
    assert (part.requests_per_minute or 0) * processes <= (rpm or 0)
    assert (part.attempts, part.timeout_s) == (limits.attempts, limits.timeout_s)
    assert own_part(limits) is limits


def test_one_of_many_processes_does_not_start_with_a_burst() -> None:
    divide_limits(3)
    try:
        limiter = Limiter(own_part(Limits(requests_per_minute=180)))
    finally:
        divide_limits(1)
    now = limiter._requests.updated if limiter._requests else 0.0
    assert limiter._wait_s(1, now) == pytest.approx(1.0)
    assert Limiter(Limits(requests_per_minute=180))._wait_s(1, time.monotonic()) == 0.0


def test_the_window_halves_on_overload_once_a_round_and_grows_by_one_a_round() -> None:
    async def play() -> None:
        limiter = Limiter(Limits(max_in_flight=8))
        slots = [await limiter._enter(1) for _ in range(8)]
        for slot in slots:
            limiter.overloaded(slot)
        assert limiter.window == 4
        limiter.in_flight = 4
        later = await asyncio.wait_for(_entered(limiter), 1)
        limiter.overloaded(later)
        assert limiter.window == 2
        for _ in range(100):
            limiter.succeeded(later, 1)
        assert limiter.window == 8

    async def _entered(limiter: Limiter):  # type: ignore[no-untyped-def]
        limiter.in_flight = 3
        return await limiter._enter(1)

    asyncio.run(play())


def test_after_an_overload_with_few_in_flight_the_window_recovers_quickly() -> None:
    async def play() -> None:
        limiter = Limiter(Limits(max_in_flight=64))
        slot = await limiter._enter(1)
        for _ in range(14):
            limiter.overloaded(slot)
        assert limiter.window == 1
        for _ in range(31):
            limiter.succeeded(slot, 1)
        assert limiter.window == 32
        limiter.succeeded(slot, 1)
        assert limiter.window < 32.1

    asyncio.run(play())


def test_simultaneous_timeouts_are_no_overload() -> None:
    async def play() -> None:
        limiter = Limiter(Limits(max_in_flight=256))
        slot = await limiter._enter(1)
        for _ in range(2000):
            limiter.succeeded(slot, 1)
        for _ in range(40):  # 2 % of them
            limiter.overloaded(slot)
        assert limiter.window == 256
        for _ in range(256 - 40):  # all that are in flight
            limiter.overloaded(slot)
        assert limiter.window < 256

    asyncio.run(play())


def test_waiters_are_served_in_order_and_a_cancelled_one_blocks_no_other() -> None:
    order: list[int] = []

    async def play() -> None:
        limiter = Limiter(Limits(max_in_flight=2))

        async def work(number: int) -> None:
            async with limiter.slot(1):
                order.append(number)
                await asyncio.sleep(0)

        async def worker(numbers: Iterator[int]) -> None:
            for number in numbers:
                await work(number)

        numbers = iter(range(60))
        workers = [asyncio.create_task(worker(numbers)) for _ in range(7)]
        await asyncio.sleep(0)
        workers[3].cancel()
        await asyncio.wait_for(asyncio.gather(*workers, return_exceptions=True), 10)
        assert limiter.in_flight == 0

    asyncio.run(play())
    assert order == [number for number in range(60) if number != 3]


def test_threads_share_a_models_limit(tmp_path: Path) -> None:
    limits = Limits(max_in_flight=4, timeout_s=10)
    with OpenAIServer("yes", latency_s=0.02) as server:

        def ask(part: int) -> None:
            settings = settings_for(tmp_path / str(part), server.model(), limits=limits)
            answers(server.model(), settings, questions(40))

        with ThreadPoolExecutor(3) as threads:
            list(threads.map(ask, range(3)))
        assert server.answered == 120
        assert server.peak_in_flight <= 4


def test_one_limiter_a_model_and_process() -> None:
    limits = Limits()
    assert limiter_of("a", limits) is limiter_of("a", limits)
    assert limiter_of("a", limits) is not limiter_of("b", limits)


@pytest.mark.parametrize("says_when", [True, False])
def test_an_unannounced_limit_is_respected(tmp_path: Path, says_when: bool) -> None:
    limits = Limits(max_in_flight=16, attempts=20, timeout_s=10)
    hidden = HiddenLimit(per_minute=3600, says_when=says_when)
    with OpenAIServer("yes", limit=hidden) as server:
        settings = settings_for(tmp_path, server.model(), limits=limits)
        found = answers(server.model(), settings, questions(400))
        assert all(isinstance(outcome, Completion) for outcome in found.values())
        assert server.answered == 400
        assert server.refused <= 120  # 990 if no limit is learnt


@pytest.mark.slow
def test_a_storm_of_429s_loses_nothing(tmp_path: Path) -> None:
    limits = Limits(max_in_flight=32, attempts=4, timeout_s=10)
    faults = [status(429, retry_after="0.2")] * 60
    with OpenAIServer("yes", faults=faults) as server:
        settings = settings_for(tmp_path, server.model(), limits=limits)
        found = answers(server.model(), settings, questions(100))
        assert all(isinstance(outcome, Completion) for outcome in found.values())
        assert len(server.requests) == 160


def test_a_server_that_always_refuses_is_given_up(tmp_path: Path) -> None:
    limits = Limits(max_in_flight=4, attempts=2, timeout_s=10)
    with OpenAIServer("yes", faults=lambda n, b: status(429, retry_after="0.01")) as server:
        settings = settings_for(tmp_path, server.model(), limits=limits)
        found = answers(server.model(), settings, questions(3))
    assert {(o.kind, o.attempts) for o in found.values() if isinstance(o, Failure)} == {("rate_limit", 8)}


def test_a_day_long_requested_wait_ends_the_retries(tmp_path: Path) -> None:
    with OpenAIServer("yes", faults=[status(429, retry_after="86400")] * 9) as server:
        found = answers(server.model(), settings_for(tmp_path, server.model()), questions(1))
    assert [(o.kind, o.attempts) for o in found.values() if isinstance(o, Failure)] == [("rate_limit", 1)]


def test_attempts_bound_the_tries(tmp_path: Path) -> None:
    limits = Limits(max_in_flight=4, attempts=2, timeout_s=0.2)
    for fault in (status(500), HANG):
        with OpenAIServer("yes", faults=[fault] * 9) as server:
            settings = settings_for(tmp_path, server.model(), limits=limits)
            (outcome,) = answers(server.model(), settings, questions(1)).values()
            assert len(server.requests) == 2
        assert isinstance(outcome, Failure)
        assert outcome.attempts == 2


def test_final_failures_are_not_retried(tmp_path: Path) -> None:
    with OpenAIServer("yes", faults=[status(400)] * 9) as server:
        answers(server.model(), settings_for(tmp_path, server.model()), questions(1))
        assert len(server.requests) == 1


def test_every_request_has_one_outcome_among_random_faults(tmp_path: Path) -> None:
    weather = storm(0.3, status(500), status(429, retry_after="0.05"), status(400), seed=5)
    with OpenAIServer("yes", faults=weather) as server:
        found = answers(server.model(), settings_for(tmp_path, server.model()), questions(60))
    assert set(found) == {f"tag {i}" for i in range(60)}
    assert {o.kind for o in found.values() if isinstance(o, Failure)} == {"bad_request"}


def test_requests_that_are_declined_do_not_slow_the_others() -> None:
    limiter = Limiter(Limits(max_in_flight=8))
    limiter.rate.refused(limiter.rate.started, limiter.rate.cuts, None, 1)
    assert limiter.rate.wait_s(time.monotonic()) > 0
    limiter.rejected()
    assert limiter.rate.wait_s(time.monotonic()) == 0
