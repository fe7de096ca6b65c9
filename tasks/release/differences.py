"""Differences between the tables of two releases, whichever program versions wrote them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from tasks.release.configs import CONFIGS, QUESTION_CONFIGS
from tasks.release.reading import Contents

Records = Mapping[str, Mapping[str, Any]]
"""Question rows by id, as they were written: an older release may lack a column."""

ERRATUM = "erratum"
"""Operator of a question that mends its parent's text."""

TEXT = ("template", "variants", "options")
"""Columns that make up what a question says."""


def question_records(contents: Contents) -> Records:
    """Every released question by id, whichever config it is in."""
    return {row["id"]: row for config in QUESTION_CONFIGS for row in contents.records(config)}


def measured_again(old: Contents, new: Contents, mended: Collection[str]) -> bool:
    """Whether questions whose text stands were answered or scored otherwise than before."""
    if not mended and _lines(old, new, "effects") != _lines(new, old, "effects"):
        return True
    return any(
        [r for r in before if r["question_id"] not in mended]
        != [r for r in after if r["question_id"] not in mended]
        for config in ("responses", "judgements")
        for before, after in [(_lines(old, new, config), _lines(new, old, config))]
    )


def column_changes(old: Contents, new: Contents) -> list[str]:
    """Columns that came, went, or hold another type."""
    changes = []
    for config in CONFIGS:
        before, after = column_types(old, config), column_types(new, config)
        for column in sorted(before.keys() | after.keys()):
            was, now = before.get(column), after.get(column)
            if was is None:
                changes.append(f"{config}.{column} is new")
            elif now is None:
                changes.append(f"{config}.{column} is gone")
            elif was != now:
                changes.append(f"{config}.{column} holds {now} instead of {was}")
    return changes


def column_types(contents: Contents, config: str) -> dict[str, pa.DataType]:
    table = contents.tables.get(config)
    return {field.name: field.type for field in table.schema} if table is not None else {}


def instrument_changes(old: Contents, new: Contents, *, mended: bool = False) -> list[str]:
    """Judges that came or went, and metrics that went: scores are not comparable across such a change.
    A metric that came leaves the others as they are; and one may go along with the answers to a mended
    text."""
    judges = _lost_and_found(_judges(old), _judges(new))
    metrics, _ = _differences(_metrics(old), _metrics(new))
    return judges + [f"metric {name} is no longer reported" for name in metrics if not mended]


def _judges(contents: Contents) -> set[str]:
    return {
        f"judge {j['judge']} with rubric {j['rubric']} ({j['rubric_hash'][:12]}), {j['fitness_form']} fitness"
        + (", pairwise" if j.get("pair") else "")
        for j in contents.records("judgements")
    }


def _metrics(contents: Contents) -> set[str]:
    return {f"{e['metric']} of {e['family']} in {e['unit']}" for e in contents.records("effects")}


def _differences(old: set[str], new: set[str]) -> tuple[list[str], list[str]]:
    return sorted(old - new), sorted(new - old)


def _lost_and_found(old: set[str], new: set[str]) -> list[str]:
    lost, found = _differences(old, new) if old and new else ([], [])
    return [f"{name} is gone" for name in lost] + [f"{name} is new" for name in found]


def row_changes(old: Contents, new: Contents) -> list[str]:
    """Per config: how many rows came, went or hold something else. Of questions only what else is known of
    them counts here: their ids, texts and labels are compared one by one."""
    changes = []
    for config, table in CONFIGS.items():
        before, after = ({r[table.key]: r for r in _lines(a, b, config)} for a, b in ((old, new), (new, old)))
        numbers = {
            "added": len(after.keys() - before.keys()),
            "removed": len(before.keys() - after.keys()),
            "with other content": sum(before[key] != after[key] for key in before.keys() & after.keys()),
        }
        told = [f"{n:,} {word}" for word, n in numbers.items() if n]
        if config in QUESTION_CONFIGS:
            told = [t for t in told if t.endswith("content")]
        if told:
            changes.append(f"{config}: rows " + ", ".join(told))
    return changes


def _lines(contents: Contents, other: Contents, config: str) -> list[dict[str, Any]]:
    """A config's rows, in the columns that both sides have: others are the schema's matter."""
    shared = column_types(contents, config).keys() & column_types(other, config).keys()
    if config in QUESTION_CONFIGS:
        shared = shared - {*TEXT, "label"}
    return [{name: row[name] for name in sorted(shared)} for row in contents.records(config)]
