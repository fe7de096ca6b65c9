from __future__ import annotations

import numpy as np
import pytest

from tasks.stats.agreement import confusion_by_cluster, kappa_with_interval, weighted_kappa


def test_kappa_is_that_of_the_two_lists() -> None:
    rng = np.random.default_rng(3)
    key = [int(k) for k in rng.integers(0, 3, 300)]
    given = [k if rng.random() < 0.7 else int(rng.integers(0, 3)) for k in key]
    rows = [(f"c{i % 20}", k, g) for i, (k, g) in enumerate(zip(key, given, strict=True))]
    table = confusion_by_cluster(rows, 3)
    found = kappa_with_interval(table)
    assert table.shape == (20, 9)
    assert found is not None
    assert found.value == pytest.approx(weighted_kappa(key, given))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_nothing_to_confuse_has_no_kappa() -> None:
    assert kappa_with_interval(confusion_by_cluster([("a", 1, 1), ("b", 1, 1)], 2)) is None
    assert kappa_with_interval(confusion_by_cluster([], 2)) is None
