"""The completion score: does the side that is given go with the side that is chosen? (arXiv 2309.08902)"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.stats.permutation import DRAWS, EXACT_UP_TO, p_value


def kendall_tau_c(given: Sequence[int], chosen: Sequence[int]) -> float:
    """Stuart's tau-c between the valence of the given side (±1) and of the choice (+1, 0, −1).

    In [−1, 1]; positive where like goes with like. NaN where either does not vary.
    """
    from scipy.stats import kendalltau

    if len(set(given)) < 2 or len(set(chosen)) < 2:
        return nan
    return float(kendalltau(given, chosen, variant="c").statistic)


def tau_c_of_counts(tables: ArrayLike) -> NDArray[np.float64]:
    """Tau-c for many 2 × 3 count tables at once: array (…, 2, 3), rows −1/+1, columns −1/0/+1 → array (…).

    With two rows and C the pairs ordered alike, D unlike: `2m(C − D) / (n²(m − 1))`, m = 2 rows or
    choices that occur, whichever is fewer. Tables that do not vary give NaN.
    """
    counts = np.asarray(tables, dtype=float)
    low, high = counts[..., 0, :], counts[..., 1, :]
    alike = low[..., 0] * (high[..., 1] + high[..., 2]) + low[..., 1] * high[..., 2]
    unlike = low[..., 2] * (high[..., 0] + high[..., 1]) + low[..., 1] * high[..., 0]
    n = counts.sum(axis=(-2, -1))
    varied = (low.sum(-1) > 0) & (high.sum(-1) > 0) & (((low + high) > 0).sum(-1) > 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(varied, 4 * (alike - unlike) / n**2, np.nan)


def tau_c_of_totals(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """As `tau_c_of_counts`, from flat counts (…, 6): a statistic for `cluster_bootstrap`."""
    return tau_c_of_counts(totals.reshape(*totals.shape[:-1], 2, 3))


def side_flip_p_value(tables: ArrayLike, seed: int) -> float:
    """Two-sided p that sides do not matter: array (questions, 2, 3) of counts, whose two rows are exchanged
    question by question, exactly where there are few. 1 where tau-c is not defined."""
    counts = np.asarray(tables, dtype=float)
    observed = float(tau_c_of_counts(counts.sum(axis=0)))
    if not np.isfinite(observed):
        return 1.0
    flips = _flips(len(counts), seed)
    kept = np.tensordot(1 - flips, counts, axes=1)
    flipped = np.tensordot(flips, counts[:, ::-1, :], axes=1)
    return p_value(np.nan_to_num(tau_c_of_counts(kept + flipped)), "both")


def _flips(n: int, seed: int) -> NDArray[np.float64]:
    """0/1 per question, array (ways, n); the first row flips nothing."""
    if 2**n <= EXACT_UP_TO:
        return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)
    drawn = np.random.default_rng(seed).integers(0, 2, size=(DRAWS, n))
    return np.vstack([np.zeros(n), drawn]).astype(float)
