"""The pace that a server bears without saying so, learnt from what it refuses (429).

CUBIC (Ha, Rhee & Xu 2008; RFC 9438) on requests a second instead of a window, as the AWS SDKs limit
themselves, with two changes. The ceiling is not the pace at which the refusal came but what the server
accepted since the last one, its pauses counted in: for a token bucket, as for requests a minute, that is the
limit itself. And the curve runs over requests, not seconds, so that what looking for the limit costs is a
share of the requests, whatever the limit.

Refusals that fewer requests do not lessen are weather, not a limit: then nothing is held back.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from tasks.run.retries import Backoff

CUT = 0.1
"""Share by which the pace falls below the ceiling at a refusal."""
PLATEAU, IN_FLIGHT_FOLD, SHORTEST = 150, 12, 5
"""Requests until the pace is at the ceiling again; as many above it look for a higher one, then ever faster.
More where more are in flight, which is how many a refusal may cost; fewer where fewer were measured."""
RISEN = 3.0
"""Plateaus without a refusal after which the limit must have risen."""
ENOUGH = 20
"""Accepted requests that make a measurement."""
LEAST = 0.7
"""Without a measurement, a cut leaves so much of the pace."""
FUTILE_CUTS = 5
"""Cuts in a row that did not help."""
RECENT, MOSTLY = 20, 0.5
"""Share of the last outcomes, so many or twice as many as are in flight: a server that refuses more than that
has a limit, and no weather. Refusals come at once and answers later, so fewer outcomes show too many."""
LATE_S = 0.05
"""So late a busy machine may wake us."""
PAUSE = Backoff(first_s=0.25, longest_s=5.0)


@dataclass
class Pace:
    """Requests a second for one model, on the caller's clock: every method takes `now`, in seconds."""

    started: float
    """When the count of what was accepted began."""
    rate: float | None = None
    """Requests a second; `None`: as many as the caller likes."""
    cuts: int = 0
    """How often the pace has been cut. A refusal of what was sent before the last cut does not cut again."""
    weather: bool = False
    """Refusals do not depend on the pace."""
    _ceiling: float = math.inf
    _before: tuple[float, int] = (0.0, 0)
    """When the count before this one began, and how many it was."""
    _next_at: float = 0.0
    _accepted: int = 0
    """Since the last cut."""
    _tested: int = 0
    """Of those sent since the last cut, how many had to wait for their turn."""
    _waited: bool = False
    _plateau: float = SHORTEST
    _short: int = 0
    """Cuts in a row with fewer than `ENOUGH` accepted before them."""
    _refusals: int = 0
    """Cuts in a row with nothing accepted before them."""
    _times: deque[float] = field(default_factory=lambda: deque(maxlen=4 * PLATEAU))
    """When the last requests were accepted."""
    _refused_share: float = 0.0
    """Of the last outcomes, exponentially weighted."""
    _memory: float = RECENT

    def wait_s(self, now: float) -> float:
        """Seconds until the next request may be sent."""
        wait = max(0.0, self._next_at - now)
        self._waited = self._waited or wait > 0
        return wait

    def sent(self, now: float) -> None:
        """A request goes out. One that is a little late does not delay those behind it."""
        if self._refusals:
            self._next_at = now + PAUSE.longest_s  # one at a time, until one is taken
        if self.rate is None:
            return
        gap = 1 / self.rate
        self._next_at = max(self._next_at, now - max(gap, LATE_S)) + gap
        self._tested += self._waited
        self._waited = False
        self.rate = self._on_the_curve()

    def accepted(self, now: float) -> bool:
        """The server took a request. Whether the next one may be sent sooner than was said before."""
        self._refused_share -= self._refused_share / self._memory
        self._accepted += 1
        self._times.append(now)
        if self._refusals:  # it refused everything for a while, and that while counts
            started, accepted = self._before
            if accepted >= ENOUGH:
                self._ceiling = min(self._ceiling, accepted / (now - started))
            self._refusals, self._next_at = 0, now
            return True
        return False

    def refused(self, now: float, cuts: int, retry_after_s: float | None, in_flight: int) -> None:
        """The server refused a request that was sent after `cuts` cuts, one of so many `in_flight`."""
        self._memory = max(RECENT, 2.0 * in_flight)
        self._refused_share += (1 - self._refused_share) / self._memory
        if self.weather and self._refused_share > MOSTLY:
            self.weather = False
            self._begin(now)
        elif not self.weather and cuts == self.cuts:
            self._cut(now, retry_after_s, in_flight)

    def _cut(self, now: float, retry_after_s: float | None, in_flight: int) -> None:
        self.cuts += 1
        pause = self._pause_s() if retry_after_s is None else retry_after_s
        self._next_at = now + pause
        if not self._accepted:
            self._refusals += 1
            return
        measured = self._measured(now + pause)
        short = self._accepted < ENOUGH and self.rate is not None
        self._short = self._short + 1 if short else 0
        if self._short == FUTILE_CUTS:
            self._short = 0
            if self._refused_share <= MOSTLY:
                self.weather, self.rate, self._next_at = True, None, now
                return
        self._before = (self.started, self._accepted)
        if self.rate is not None and short:
            measured = min(max(measured, self.rate * LEAST), self.rate)
        self._ceiling = measured
        least = SHORTEST if self.rate is None else ENOUGH
        self._plateau = min(max(PLATEAU, IN_FLIGHT_FOLD * in_flight), max(least, self._accepted))
        self._begin(now + pause)
        self.rate = self._on_the_curve()

    def _measured(self, now: float) -> float:
        """Accepted a second since the last cut; or in the later half, where the limit has risen meanwhile."""
        whole = self._accepted / max(1e-3, now - self.started)
        later = self._accepted // 2
        if later < ENOUGH or later >= len(self._times):
            return whole
        return max(whole, later / max(1e-3, now - self._times[-later]))

    def _begin(self, now: float) -> None:
        self.started, self._accepted, self._tested, self._refusals = now, 0, 0, 0

    def _pause_s(self) -> float:
        """Where the server does not say: none, unless it refuses everything."""
        if self._accepted:
            return 0.0
        return PAUSE.wait_s(self._refusals + 1)

    def _on_the_curve(self) -> float:
        plateaus = self._tested / self._plateau
        if plateaus >= RISEN:
            self._ceiling *= (1 + CUT * (RISEN - 1) ** 3) / (1 - CUT)
            self._tested, plateaus = 0, 0.0
        return self._ceiling * (1 + CUT * (plateaus - 1) ** 3)
