"""Waits between attempts grow, end, and yield to the server's own request."""

from __future__ import annotations

from email.utils import formatdate

from tasks.run.retries import Backoff, Retries, RetryPolicy, parse_retry_after


def test_waits_double_up_to_a_limit() -> None:
    backoff = Backoff(first_s=1.0, longest_s=5.0)
    assert [backoff.wait_s(failures) for failures in range(1, 6)] == [1, 2, 4, 5, 5]


def test_jitter_draws_a_wait_below_the_bound() -> None:
    backoff = Backoff(first_s=1.0, longest_s=30.0, jitter=True)
    waits = [backoff.wait_s(4) for _ in range(200)]
    assert 0 <= min(waits) < max(waits) <= 8
    assert max(backoff.wait_s(4, silent_s=0.0) for _ in range(200)) <= 1


def test_attempts_are_used_up_by_weight() -> None:
    policy = RetryPolicy(attempts=2, backoff=Backoff(1.0, 1.0))
    assert [Retries(policy).next_wait_s(), Retries(policy).next_wait_s(7.0)] == [1, 7]
    retries = Retries(policy)
    assert [retries.next_wait_s(weight=0.25) is None for _ in range(8)] == [False] * 7 + [True]
    assert retries.failures == 8


def test_a_requested_wait_above_the_limit_ends_the_retries() -> None:
    policy = RetryPolicy(attempts=5, backoff=Backoff(1.0, 1.0), longest_wait_s=60.0)
    assert Retries(policy).next_wait_s(60.0) == 60
    assert Retries(policy).next_wait_s(61.0) is None


def test_retry_after_is_read_in_seconds_and_as_a_date() -> None:
    assert parse_retry_after("7", 0) == 7
    assert parse_retry_after("0.5", 0) == 0.5
    assert parse_retry_after(formatdate(1_000_030, usegmt=True), 1_000_000) == 30
    assert parse_retry_after(formatdate(1_000, usegmt=True), 1_000_000) == 0
    for nonsense in (None, "", "soon", "-3", "nan", "inf", "Thu, 99 Foo 1"):
        assert parse_retry_after(nonsense, 0) is None
