"""Short names of models, without backend, organisation and endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def short_name(model: str) -> str:
    """Return the name of a model without backend, organisation, folder and endpoint."""
    return full_name(model).rstrip("/").rpartition("/")[2] or model


def full_name(model: str) -> str:
    """Return the name of a model without backend and endpoint. Return other names unchanged."""
    return model.partition(":")[2].partition("@")[0] or model


def short_names(models: Iterable[str]) -> dict[str, str]:
    """Return the short name of each model. Models with the same short name are numbered."""
    distinct = sorted(set(models))
    counts = Counter(map(short_name, distinct))
    numbers: Counter[str] = Counter()
    names = {}
    for model in distinct:
        short = short_name(model)
        numbers[short] += 1
        names[model] = f"{short} ({numbers[short]})" if counts[short] > 1 else short
    return names
