"""Agreement of a judge with a key: kappa of a confusion table, with an interval by cluster."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan

import numpy as np
from numpy.typing import NDArray

from tasks.stats.bootstrap import Interval, cluster_bootstrap

Floats = NDArray[np.float64]


def confusion_by_cluster(rows: Iterable[tuple[str, int, int]], grades: int) -> Floats:
    """Array (clusters, grades²) of counts, clusters sorted; `rows` are (cluster, grade in the key, grade
    given), grades from 0. Cell `key · grades + given`."""
    counts: dict[str, Floats] = {}
    for cluster, key, given in rows:
        counts.setdefault(cluster, np.zeros(grades * grades))[key * grades + given] += 1
    return np.array([cells for _, cells in sorted(counts.items())]).reshape(len(counts), grades * grades)


def kappa_with_interval(table: Floats, seed: int) -> Interval | None:
    """Cohen's kappa (1968, quadratic weights; of two grades the plain one), resampled by cluster. `None`
    without a row, or where key and judge both gave one grade throughout."""
    if not len(table):
        return None
    grades = round(table.shape[1] ** 0.5)
    place = np.arange(grades)
    weights = (place[:, None] - place[None, :]) ** 2

    def kappa(cells: Floats) -> Floats:
        square = cells.reshape(*cells.shape[:-1], grades, grades)
        n = square.sum(axis=(-2, -1))
        expected = square.sum(axis=-1)[..., :, None] * square.sum(axis=-2)[..., None, :] / n[..., None, None]
        chance = (weights * expected).sum(axis=(-2, -1))
        return np.asarray(1 - (weights * square).sum(axis=(-2, -1)) / np.where(chance > 0, chance, np.nan))

    found = cluster_bootstrap(table, kappa, seed)
    return None if isnan(found.value) else found
