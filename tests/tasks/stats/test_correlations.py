"""The interval of a rank correlation covers, and a constant or perfect order has none."""

from __future__ import annotations

from math import asin, pi

import numpy as np
import pytest

from tasks.stats.correlations import correlation_interval, pearson, spearman


def test_interval_covers_with_pairs_in_clusters() -> None:
    """A percentile bootstrap of seven clusters covers in about .85."""
    generator = np.random.default_rng(1)
    clusters = [str(i // 2) for i in range(16)]
    truth = 6 / pi * asin(0.5 / 2)
    covered = []
    for _ in range(300):
        x = generator.normal(size=(16, 2))
        pairs = np.column_stack([x[:, 0], 0.5 * x[:, 0] + 0.75**0.5 * x[:, 1]])
        found = correlation_interval(pairs, clusters, spearman)
        assert found.n == 8
        assert found.low is not None
        assert found.high is not None
        assert -1 < found.low < found.value < found.high < 1
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) >= 0.93


def test_few_clusters_and_perfect_order_have_no_interval() -> None:
    rising = np.column_stack([np.arange(10.0), np.arange(10.0)])
    perfect = correlation_interval(rising, [str(i) for i in range(10)], spearman)
    assert (perfect.value, perfect.low, perfect.high) == (pytest.approx(1), None, None)
    few = correlation_interval(rising[:6, ::-1] ** 2, [str(i) for i in range(6)], spearman)
    assert (few.low, few.n) == (None, 6)
    constant = correlation_interval(np.ones((10, 2)), [str(i) for i in range(10)], spearman)
    assert np.isnan(constant.value)


def test_single_cluster_and_no_pairs_have_a_value_at_most() -> None:
    single = correlation_interval(np.array([[0.0, 1.0], [1.0, 3.0]]), ["a", "a"], pearson)
    assert (single.value, single.low, single.n) == (pytest.approx(1), None, 1)
    assert np.isnan(correlation_interval(np.zeros((0, 2)), [], spearman).value)
