"""The adaptive rate finds and follows a server's limit, and recognises unrelated refusals."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest

from tasks.models.adaptive_rate import AdaptiveRate

WORKERS = 64
Server = Callable[[float], float | None]
"""Receives one request at a time. Returns `None` if it accepts, or the seconds to wait."""


@dataclass
class Bucket:
    """Accepts `rate` requests per second, with bursts of one second."""

    rate: float
    level: float = 0.0
    updated: float = 0.0

    def __call__(self, now: float) -> float | None:
        self.level = min(self.rate, self.level + (now - self.updated) * self.rate)
        self.updated = now
        if self.level < 1:
            return max(1.0, (1 - self.level) / self.rate)
        self.level -= 1
        return None


@dataclass
class Minutes:
    """Accepts a number of requests in each calendar minute."""

    requests: int
    taken: dict[int, int] = field(default_factory=dict)

    def __call__(self, now: float) -> float | None:
        minute = int(now // 60)
        if self.taken.get(minute, 0) >= self.requests:
            return (minute + 1) * 60 - now
        self.taken[minute] = self.taken.get(minute, 0) + 1
        return None


@dataclass
class Found:
    """The outcome: time of each response, and whether it was an answer."""

    answers: list[tuple[float, bool]]

    def rate(self, start: float, end: float) -> float:
        return sum(taken for t, taken in self.answers if start <= t < end) / (end - start)

    def refused(self, start: float, end: float) -> float:
        seen = [taken for t, taken in self.answers if start <= t < end]
        return seen.count(False) / max(1, len(seen))


def play(server: Server, seconds: float, *, latency: float, says_when: bool = True) -> Found:
    """Run as many workers as may be in flight. Each sends as fast as the limiter allows."""
    pace, found = AdaptiveRate(0.0), Found([])
    dice, number = random.Random(0), count()
    queue: deque[int] = deque()
    events: list[tuple[float, int, str, int]] = []
    asleep, in_flight = False, 0

    def at(time: float, what: str, cuts: int = 0) -> None:
        heapq.heappush(events, (time, next(number), what, cuts))

    for _ in range(WORKERS):
        at(0.0, "ask")
    while events and (now := events[0][0]) < seconds:
        _, _, what, cuts = heapq.heappop(events)
        if what == "wake":
            asleep, what = False, "ask"
        if what == "ask" and asleep:
            queue.append(0)
        elif what == "ask" and (wait := pace.wait_s(now)) > 0:
            asleep = True
            at(now + wait + dice.uniform(0, 0.002), "wake")
        elif what == "ask":
            pace.sent(now)
            in_flight += 1
            at(now + latency, "answer", pace.cuts)
            if queue:
                queue.pop()
                at(now, "ask")
        else:
            in_flight -= 1
            requested = server(now)
            found.answers.append((now, requested is None))
            if requested is None:
                pace.accepted(now)
            else:
                pace.refused(now, cuts, requested if says_when else None, in_flight)
            at(now + (0.0 if requested is None else requested if says_when else dice.uniform(0, 0.5)), "ask")
    return found


@pytest.mark.parametrize("says_when", [True, False])
@pytest.mark.parametrize("latency", [0.05, 0.5])
@pytest.mark.parametrize("rate", [2, 10, 40])
def test_an_unannounced_limit_is_found_and_respected(rate: float, latency: float, says_when: bool) -> None:
    settled, end = 1500 / rate, 3000 / rate
    found = play(Bucket(rate), end, latency=latency, says_when=says_when)
    assert 0.9 * rate <= found.rate(settled, end) <= 1.02 * rate
    assert found.refused(settled, end) <= 0.02


def test_requests_a_minute_by_the_clock_are_used_up_evenly() -> None:
    found = play(Minutes(600), 360, latency=0.05)
    assert found.rate(120, 360) >= 9
    assert found.refused(120, 360) <= 0.02


def test_a_limit_that_rises_is_noticed() -> None:
    server = Bucket(10)

    def risen(now: float) -> float | None:
        server.rate = 10 if now < 120 else 20
        return server(now)

    found = play(risen, 400, latency=0.05)
    assert found.rate(60, 120) <= 10.5
    assert found.rate(250, 400) >= 18
    assert found.refused(60, 400) <= 0.02


def test_a_limit_that_falls_is_followed() -> None:
    server = Bucket(20)

    def fallen(now: float) -> float | None:
        server.rate = 20 if now < 120 else 8
        return server(now)

    found = play(fallen, 300, latency=0.05)
    assert 7.2 <= found.rate(160, 300) <= 8.2
    assert found.refused(120, 300) <= 0.02


@pytest.mark.parametrize("requested", [0.1, None])
def test_refusals_that_do_not_depend_on_the_rate_reduce_nothing(requested: float | None) -> None:
    dice = random.Random(3)
    found = play(
        lambda now: 0.1 if dice.random() < 0.2 else None, 15, latency=0.05, says_when=bool(requested)
    )
    assert found.rate(8, 15) >= 300


def test_a_server_that_refuses_everything_is_asked_one_at_a_time() -> None:
    found = play(lambda now: 0.5, 20, latency=0.05, says_when=False)
    assert len(found.answers) <= WORKERS + 20 / 0.25


def test_old_refusals_do_not_cut_again() -> None:
    pace = AdaptiveRate(0.0)
    for _ in range(30):
        pace.accepted(1.0)
    for _ in range(30):
        pace.refused(2.0, 0, None, 30)
    assert pace.cuts == 1
    assert pace.rate is not None
    assert 12 <= pace.rate <= 15


def test_refusals_that_arrive_before_answers_stay_rate_independent() -> None:
    pace = AdaptiveRate(0.0, rate_independent=True)
    for second in range(20):
        for _ in range(60):
            pace.refused(float(second), pace.cuts, None, 256)
        for _ in range(196):
            pace.accepted(second + 0.05)
    assert pace.rate_independent
    for _ in range(600):
        pace.refused(30.0, pace.cuts, None, 256)
    assert not pace.rate_independent
