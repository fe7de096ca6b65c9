"""Sums are identical to the last bit for every memory alignment."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.stats import resampling as steady
from tasks.stats.resampling import column_totals, row_sums


def moved(array: NDArray[np.float64], offset: int) -> NDArray[np.float64]:
    """Copy the numbers to an address that is `offset` doubles further."""
    room = np.empty(array.size + offset)
    place = room[offset:].reshape(array.shape)
    place[...] = array
    return place


@pytest.mark.parametrize("offset", range(1, 8))
def test_place_in_memory_does_not_matter(offset: int) -> None:
    generator = np.random.default_rng(offset)
    rows, weights = generator.normal(size=(280, 36)), generator.normal(size=36)
    here = row_sums(rows, weights)
    assert (row_sums(moved(rows, offset), moved(weights, 8 - offset)) == here).all()


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    rows, weights = generator.normal(size=(50, 7)), generator.normal(size=7)
    whole = row_sums(rows, weights)
    monkeypatch.setattr(steady, "CELLS", 20)
    assert (row_sums(rows, weights) == whole).all()


def test_steady_products_equal_plain_products() -> None:
    generator = np.random.default_rng(2)
    rows, columns = generator.normal(size=(9, 5)), generator.normal(size=(5, 3))
    assert column_totals(rows, columns) == pytest.approx(rows @ columns)
    assert row_sums(rows > 0, columns[:, 0]) == pytest.approx((rows > 0) @ columns[:, 0])


def test_no_rows_give_no_sums() -> None:
    assert row_sums(np.zeros((0, 4)), np.ones(4)).shape == (0,)
