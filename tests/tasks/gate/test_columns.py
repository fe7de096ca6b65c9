"""Vectorised steps agree with the plain definition."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.checks.columns import are_permutations, find_positions

ORDERS = st.lists(
    st.tuples(st.lists(st.integers(-2, 60), max_size=6), st.integers(0, 6)), min_size=1, max_size=20
)


@settings(deadline=None)
@given(ORDERS)
def test_orders_are_exactly_the_permutations(cases: list[tuple[list[int], int]]) -> None:
    lists = pa.array([order for order, _ in cases], pa.list_(pa.int64()))
    sizes = np.array([size for _, size in cases])
    assert are_permutations(lists, sizes).tolist() == [sorted(o) == list(range(n)) for o, n in cases]


@settings(deadline=None)
@given(st.permutations(range(30)))
def test_long_orders_are_recognised(order: list[int]) -> None:
    lists = pa.array([order, [*order[:-1], order[0]]], pa.list_(pa.int64()))
    assert are_permutations(lists, np.array([30, 30])).tolist() == [True, False]


def test_lookup_gives_positions_and_minus_one() -> None:
    assert find_positions(pa.array(["b", None, "x"]), pa.array(["a", "b"])).tolist() == [1, -1, -1]
