"""Figures of recorded answers, with the share of rows that could be used.

A figure below the required coverage is not measured. Neither is one that its rows do not define.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.errors import InputError
from tasks.families import Figures
from tasks.families.effects import figure
from tasks.files.recorded import RecordedRows

NOT_MEASURED = "not_measured"


def cover(found: Figures, read: float, asked: float, least: float) -> Figures:
    """Return the figure if enough of its rows could be used, or else the figure without a value.

    Args:
        found: A figure with `value`, `low`, `high` and `n`.
        read: Number of rows that could be used.
        asked: Number of rows that were asked for.
        least: Smallest share of usable rows.
    """
    if asked and read >= least * asked:
        return found
    reason = f"coverage: {read:,g} of {asked:,g} rows can be used; at least {least:.0%} are required"
    return without_value(found, reason) | {"asked": int(asked), "read": int(read)}


def without_value(found: Figures, reason: str) -> Figures:
    """Return a figure without its numbers, with the reason why it was not measured."""
    empty = {name: None for name in ("value", "low", "high", "p_value") if name in found}
    return found | empty | {"status": NOT_MEASURED, "reason": reason}


def with_rows(
    result: Figures,
    rows: RecordedRows,
    read: float,
    asked: float | None = None,
    notes: Iterable[str] = (),
) -> Figures:
    """Add the coverage of a file to its figures.

    Args:
        result: The figures.
        rows: The file.
        read: Number of answers that could be used.
        asked: Number of answers that were asked for. Default: the number of rows.
        notes: Other remarks on the rows.

    Returns:
        The figures, `coverage` (share of the rows that could be used), `invalid_rows` (number of cells by
        column and reason) and `notes`. Each figure without a value has the status `not_measured`.
    """
    asked = len(rows.every) if asked is None else asked
    coverage = figure(read / asked if asked else 0.0, n=int(asked))
    return _explain(result) | {
        "coverage": coverage,
        "invalid_rows": {name: dict(counts) for name, counts in rows.invalid.items()},
        "notes": [*rows.notes, *notes],
    }


def require_baseline(
    present: Iterable[str],
    baselines: Iterable[str],
    column: str,
    rows: RecordedRows,
    *,
    choosable: bool = False,
) -> str:
    """Return the first documented baseline that occurs, whatever its case.

    Args:
        present: Values of the column.
        baselines: Documented baselines, in order of preference.
        column: Name of the column.
        rows: The file.
        choosable: Whether the option `baseline` can choose another value.

    Raises:
        InputError: If there is none.
    """
    values = sorted(set(present))
    wanted = list(baselines)
    for name in wanted:
        for value in values:
            if value.casefold() == name.casefold():
                return value
    step = f"name one of them with --baseline {column}=VALUE" if choosable else "add the rows of the baseline"
    raise InputError(
        f"the column {column} has no baseline {' or '.join(map(repr, wanted))}",
        place=str(rows.path),
        hint=f"the values are: {', '.join(values) or '(none)'}; {step}",
    )


def _explain(figures: Mapping[str, Any]) -> dict[str, Any]:
    explained: dict[str, Any] = {}
    for name, value in figures.items():
        if not isinstance(value, Mapping):
            explained[name] = value
        elif "value" not in value:
            explained[name] = _explain(value)
        elif value["value"] is None and "status" not in value:
            explained[name] = without_value(dict(value), "the rows do not contain what the figure compares")
        else:
            explained[name] = dict(value)
    return explained
