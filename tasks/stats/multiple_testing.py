"""False discovery rate over many tests (Benjamini and Hochberg 1995)."""

from __future__ import annotations

from collections.abc import Sequence


def q_values(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini-Hochberg q per p, in the same order. `None` (not tested) stays and does not count."""
    from scipy.stats import false_discovery_control

    tested = [p for p in p_values if p is not None]
    if not tested:
        return [None] * len(p_values)
    corrected = iter(false_discovery_control(tested, method="bh").tolist())
    return [None if p is None else next(corrected) for p in p_values]
