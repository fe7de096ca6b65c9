"""Where a number of the report comes from: a file of the release, and the query that gives it again."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tasks.release.configs import CONFIGS, data_file
from tasks.release.picture_style import CONTROL_CHARACTERS

MANIFEST = "manifest.json"
VIEWS: Mapping[str, str] = MappingProxyType(
    {**{config: data_file(config) for config in CONFIGS}, "manifest": MANIFEST}
)
"""What queries call the files of a release; data/report/tables.sql adds `released`, `judged`, `lost`."""


def sql_literal(value: object) -> str:
    """A value as a query writes it: text between quotes, however hostile it is; characters that a page cannot
    show as they are by their number."""
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return str(value)
    quoted = "'" + str(value).replace("'", "''") + "'"
    return CONTROL_CHARACTERS.sub(lambda found: f"' || chr({ord(found.group())}) || '", quoted)


def sql_where(**columns: object) -> str:
    """`a = 'x' and b = 1`, with `is null` where there is no value."""
    return " and ".join(
        f"{name} is null" if value is None else f"{name} = {sql_literal(value)}"
        for name, value in columns.items()
    )


def row_query(column: str, view: str, row_id: str) -> str:
    """The query for one column of one row."""
    return f"select {column} from {view} where {sql_where(id=row_id)}"  # noqa: S608 - shown, never run


FLOOR_ENDS: Mapping[str, str] = MappingProxyType(
    {
        "low": "least(min(low), min(value))",
        "high": "greatest(max(high), max(value))",
        "n": "cast(sum(n) as bigint)",
    }
)


def floor_query(end: str, metric: str, **columns: object) -> str:
    """The query for the `low` or `high` end of what A/A controls show in a metric, or for their number."""
    slices = sql_where(level="control", name="a_a", **columns)
    pairs = f"split_part(metric, ':', 1) = {sql_literal(metric)}"
    return f"select {FLOOR_ENDS[end]} from effects where {slices} and {pairs}"  # noqa: S608 - shown, never run
