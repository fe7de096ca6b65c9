"""The change since a base release goes through the most precise chain, and its error grows."""

from __future__ import annotations

import pytest

from tasks.report.chain import add_changes, best_chain
from tasks.stats.equating import Estimate


def ids(first: int, last: int) -> frozenset[str]:
    return frozenset(map(str, range(first, last)))


def test_a_direct_link_is_taken_if_it_is_the_most_precise() -> None:
    assert best_chain([ids(0, 40), ids(10, 50), ids(20, 60)]) == [0, 2]
    assert best_chain([ids(0, 40), ids(20, 60), ids(39, 80)]) == [0, 1, 2]
    assert best_chain([ids(0, 40), ids(1, 41), ids(31, 71), ids(32, 72)]) == [0, 1, 2, 3]
    assert best_chain([ids(0, 40), ids(31, 80)]) is None
    assert best_chain([ids(0, 40), ids(100, 140), ids(5, 30)]) == [0, 2]


def test_errors_of_a_chain_are_added_in_quadrature() -> None:
    links = [
        Estimate(0.5, 0.3, -0.2, 1.2, 0.1, "measured"),
        Estimate(-0.1, 0.4, -1.1, 0.9, 0.8, "measured"),
    ]
    total = add_changes(links)
    assert (total.value, total.standard_error) == pytest.approx((0.4, 0.5))
    assert total.high is not None
    assert total.low is not None
    assert total.high - total.low == pytest.approx((1.4**2 + 2.0**2) ** 0.5)
    unknown = add_changes([links[0], Estimate(reason="too few models")])
    assert (unknown.status, unknown.value, unknown.reason) == ("not_measured", None, "too few models")
