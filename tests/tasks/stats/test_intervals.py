"""Intervals cover, never have zero width, and are absent if there are too few clusters."""

import numpy as np
import pytest

from tasks.stats.intervals import (
    MIN_CLUSTERS,
    SHARE_BOUNDS,
    SIGNED_BOUNDS,
    mean_interval,
    statistic_interval,
)
from tasks.stats.resampling import ratio_of_sums


def coverage(draw, mean, n, *, bounds=None, runs=600, clusters=None):
    generator = np.random.default_rng(n)
    intervals = [mean_interval(draw(generator, n), bounds=bounds, clusters=clusters) for _ in range(runs)]
    printed = [i for i in intervals if i.low is not None]
    assert all(i.high > i.low for i in printed)
    return np.mean([i.low <= mean <= i.high for i in printed])


@pytest.mark.parametrize("n", [7, 10, 20, 60])
def test_continuous_scores_are_covered_neither_too_rarely_nor_too_often(n):
    assert 0.92 < coverage(lambda g, n: g.normal(size=n), 0, n) < 0.98
    assert 0.90 < coverage(lambda g, n: g.exponential(size=n), 1, n) < 0.98


@pytest.mark.parametrize("n", [7, 10, 30, 100])
def test_scores_that_are_mostly_zero_are_covered(n):
    def draw(generator, n):
        return (generator.random(n) > 0.85) * generator.beta(2, 5, n)

    assert coverage(draw, 0.15 * 2 / 7, n, bounds=SHARE_BOUNDS) > 0.95


def test_a_constant_sample_has_an_interval_only_if_its_bounds_are_known():
    bounded = mean_interval([0.0] * 20, bounds=SHARE_BOUNDS)
    assert bounded.low == 0
    assert 0.1 < bounded.high < 0.4
    assert mean_interval([0.0] * 20).low is None
    ones = mean_interval([1.0] * 20, bounds=SIGNED_BOUNDS)
    assert ones.high == 1
    assert ones.low < 0.8


def test_few_clusters_have_no_interval():
    assert mean_interval(np.arange(MIN_CLUSTERS - 1.0)).low is None
    assert mean_interval(np.arange(MIN_CLUSTERS * 1.0)).low is not None
    twins = mean_interval(np.arange(10.0), clusters=[i // 2 for i in range(10)])
    assert (twins.low, twins.n) == (None, 5)


def test_twins_are_one_cluster():
    generator = np.random.default_rng(1)
    clusters = [i // 2 for i in range(40)]

    def hits(clusters):
        found = 0
        for _ in range(400):
            interval = mean_interval(np.repeat(generator.normal(size=20), 2), clusters=clusters)
            found += interval.low <= 0 <= interval.high
        return found / 400

    assert hits(clusters) > 0.92
    assert hits(None) < 0.87


def test_weights_make_a_ratio():
    assert mean_interval([1.0, 0.0], weights=[3, 1]).value == 0.75
    with pytest.raises(ValueError, match="weight above 0"):
        mean_interval([1.0, 0.0], weights=[3, 0])
    # weights that go with the value
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        w = generator.integers(1, 6, size=25)
        interval = mean_interval(w / 5 + generator.normal(size=25) / 5, weights=w)
        covered += interval.low <= 55 / 15 / 5 <= interval.high
    assert covered / 300 > 0.91


def test_values_out_of_bounds_are_an_error():
    with pytest.raises(ValueError, match="out of bounds"):
        mean_interval([0.5] * 7 + [1.5], bounds=SHARE_BOUNDS)
    with pytest.raises(ValueError, match="no clusters"):
        mean_interval([])


def test_a_ratio_has_the_same_interval_as_a_statistic():
    generator = np.random.default_rng(3)
    totals = np.column_stack([generator.normal(size=30), generator.integers(1, 9, size=30)])
    as_mean = mean_interval(totals[:, 0] / totals[:, 1], weights=totals[:, 1])
    as_statistic = statistic_interval(totals, ratio_of_sums)
    assert as_statistic.low == pytest.approx(as_mean.low)
    assert as_statistic.high == pytest.approx(as_mean.high)


def test_more_clusters_narrow_a_betting_interval():
    widths = [
        (i := mean_interval([0.0] * (n - 1) + [0.6], bounds=SHARE_BOUNDS)).high - i.low
        for n in (8, 20, 80, 300)
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.05
