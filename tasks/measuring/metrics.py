"""How a metric is reported: its value, its interval, what it rests on."""

from __future__ import annotations

from math import isfinite
from typing import Any


def figure(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    n: int,
    clusters: int | None = None,
) -> dict[str, Any]:
    """`value`, `low`, `high`, `n`; `None` where it is not defined. `clusters`: independent units, where they
    are fewer than rows."""
    numbers = {"value": value, "low": low, "high": high}
    shown: dict[str, Any] = {k: v if v is None or isfinite(v) else None for k, v in numbers.items()}
    return shown | {"n": n} | ({} if clusters is None else {"clusters": clusters})
