"""The request rate that a server accepts, inferred from its refusals (429).

The algorithm is CUBIC (Ha, Rhee & Xu 2008; RFC 9438) on requests per second instead of a window, as in the
AWS SDKs, with two changes. The ceiling is the rate that the server accepted since the last refusal, pauses
included, and not the rate at which the refusal came: for a token bucket, as for requests per minute, this is
the limit itself. And the curve runs over requests instead of seconds, so that the cost of probing is a share
of the requests, whatever the limit.

If fewer requests do not reduce the refusals, they do not depend on the rate, and no rate is enforced.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from tasks.run.retries import Backoff

CUT = 0.1
"""Share by which the rate falls below the ceiling after a refusal."""
PLATEAU, PLATEAU_PER_IN_FLIGHT, SHORTEST_PLATEAU = 150, 12, 5
"""Requests until the rate is back at the ceiling. The same number probes above it, then the rate rises ever
faster. The plateau is longer with more requests in flight, because a refusal may cost all of them, and
shorter if fewer requests were measured."""
PROBE_PLATEAUS = 3.0
"""Number of plateaus without a refusal after which the limit must have risen."""
MIN_ACCEPTED = 20
"""Accepted requests that are needed for a measurement."""
MIN_RATE_SHARE = 0.7
"""Share of the rate that a cut without a measurement leaves."""
FUTILE_CUTS = 5
"""Cuts in a row without effect, after which refusals count as independent of the rate."""
MIN_WINDOW, MOSTLY_REFUSED = 20, 0.5
"""A server that refuses more than this share of the last outcomes has a rate limit. The window is at least
`MIN_WINDOW` outcomes, and twice the requests in flight. Refusals arrive before answers, so a shorter window
would show too many."""
MAX_LAG_S = 0.05
"""Delay with which a busy machine may wake the caller."""
PAUSE = Backoff(first_s=0.25, longest_s=5.0)


@dataclass
class AdaptiveRate:
    """Rate limit of one model, in requests per second.

    Every method takes `now`, in seconds on the caller's clock.
    """

    started: float
    """Start of the current measurement."""
    rate: float | None = None
    """Requests per second. `None`: no limit."""
    cuts: int = 0
    """Number of cuts so far. A refusal of a request from before the last cut does not cut again."""
    rate_independent: bool = False
    """Refusals do not depend on the rate."""
    _ceiling: float = math.inf
    _previous: tuple[float, int] = (0.0, 0)
    """Start and accepted requests of the previous measurement."""
    _next_at: float = 0.0
    _accepted: int = 0
    """Accepted requests since the last cut."""
    _paced: int = 0
    """Requests since the last cut that had to wait."""
    _waited: bool = False
    _plateau: float = SHORTEST_PLATEAU
    _short_cuts: int = 0
    """Cuts in a row with fewer than `MIN_ACCEPTED` accepted requests before them."""
    _refusal_streak: int = 0
    """Cuts in a row with no accepted request before them."""
    _accepted_at: deque[float] = field(default_factory=lambda: deque(maxlen=4 * PLATEAU))
    """Times of the last accepted requests."""
    _refusal_share: float = 0.0
    """Exponentially weighted share of refusals among the last outcomes."""
    _window: float = MIN_WINDOW

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next request may be sent."""
        wait = max(0.0, self._next_at - now)
        self._waited = self._waited or wait > 0
        return wait

    def sent(self, now: float) -> None:
        """Record that a request was sent. One that is a little late does not delay those behind it."""
        if self._refusal_streak:
            self._next_at = now + PAUSE.longest_s  # one request at a time, until one is accepted
        if self.rate is None:
            return
        gap = 1 / self.rate
        self._next_at = max(self._next_at, now - max(gap, MAX_LAG_S)) + gap
        self._paced += self._waited
        self._waited = False
        self.rate = self._rate_on_curve()

    def accepted(self, now: float) -> bool:
        """Record that the server accepted a request.

        Return whether the next one may be sent earlier than announced.
        """
        self._refusal_share -= self._refusal_share / self._window
        self._accepted += 1
        self._accepted_at.append(now)
        if self._refusal_streak:  # the server refused everything, and that time counts
            started, accepted = self._previous
            if accepted >= MIN_ACCEPTED:
                self._ceiling = min(self._ceiling, accepted / (now - started))
            self._refusal_streak, self._next_at = 0, now
            return True
        return False

    def refused(self, now: float, cuts: int, retry_after_s: float | None, in_flight: int) -> None:
        """Record a refusal.

        Args:
            now: The time.
            cuts: Value of `cuts` when the request was sent.
            retry_after_s: Requested wait.
            in_flight: Number of requests in flight.
        """
        self._window = max(MIN_WINDOW, 2.0 * in_flight)
        self._refusal_share += (1 - self._refusal_share) / self._window
        if self.rate_independent and self._refusal_share > MOSTLY_REFUSED:
            self.rate_independent = False
            self._reset(now)
        elif not self.rate_independent and cuts == self.cuts:
            self._cut(now, retry_after_s, in_flight)

    def _cut(self, now: float, retry_after_s: float | None, in_flight: int) -> None:
        self.cuts += 1
        pause = self._own_pause_s() if retry_after_s is None else retry_after_s
        self._next_at = now + pause
        if not self._accepted:
            self._refusal_streak += 1
            return
        measured = self._measured_rate(now + pause)
        short = self._accepted < MIN_ACCEPTED and self.rate is not None
        self._short_cuts = self._short_cuts + 1 if short else 0
        if self._short_cuts == FUTILE_CUTS:
            self._short_cuts = 0
            if self._refusal_share <= MOSTLY_REFUSED:
                self.rate_independent, self.rate, self._next_at = True, None, now
                return
        self._previous = (self.started, self._accepted)
        if self.rate is not None and short:
            measured = min(max(measured, self.rate * MIN_RATE_SHARE), self.rate)
        self._ceiling = measured
        minimum = SHORTEST_PLATEAU if self.rate is None else MIN_ACCEPTED
        self._plateau = min(max(PLATEAU, PLATEAU_PER_IN_FLIGHT * in_flight), max(minimum, self._accepted))
        self._reset(now + pause)
        self.rate = self._rate_on_curve()

    def _measured_rate(self, now: float) -> float:
        """Return the accepted requests per second since the last cut, or in the later half if higher."""
        whole = self._accepted / max(1e-3, now - self.started)
        later = self._accepted // 2
        if later < MIN_ACCEPTED or later >= len(self._accepted_at):
            return whole
        return max(whole, later / max(1e-3, now - self._accepted_at[-later]))

    def _reset(self, now: float) -> None:
        self.started, self._accepted, self._paced, self._refusal_streak = now, 0, 0, 0

    def _own_pause_s(self) -> float:
        """Return the pause if the server requests none: 0 unless it refuses everything."""
        if self._accepted:
            return 0.0
        return PAUSE.wait_s(self._refusal_streak + 1)

    def _rate_on_curve(self) -> float:
        plateaus = self._paced / self._plateau
        if plateaus >= PROBE_PLATEAUS:
            self._ceiling *= (1 + CUT * (PROBE_PLATEAUS - 1) ** 3) / (1 - CUT)
            self._paced, plateaus = 0, 0.0
        return self._ceiling * (1 + CUT * (plateaus - 1) ** 3)
