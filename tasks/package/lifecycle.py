"""When questions entered the benchmark and when they left it, by version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from schemas.question import QUESTIONS, Question
from tasks.package.compare import question_records
from tasks.release import (
    ERRATUM,
    QUESTION_CONFIGS,
    RETIRED,
    Contents,
    ReleaseDirectory,
    bump_version,
)


def with_lifecycle(contents: Contents, previous: ReleaseDirectory | None, version: str) -> Contents:
    """Return the tables with the versions in which questions were released and retired.

    Args:
        contents: Tables of the new release.
        previous: The last release.
        version: The new version.
    """
    first = first_versions(previous)
    tables = {
        config: _stamp(table, first, version) if config in QUESTION_CONFIGS else table
        for config, table in contents.tables.items()
    }
    retired = retired_questions(contents, previous, first, version)
    return Contents({**tables, RETIRED.name: RETIRED.to_arrow(retired)})


def version_history(previous: ReleaseDirectory | None, version: str) -> tuple[str, ...]:
    """Return the versions that added, retired or measured questions. Corrections of texts are left out."""
    if previous is None:
        return (version,)
    earlier = previous.manifest.history or (previous.manifest.version,)
    return earlier if version == bump_version(previous.manifest.version, "patch") else (*earlier, version)


def first_versions(previous: ReleaseDirectory | None) -> dict[str | None, str]:
    """Return the first version of every question of the last release, retired ones included."""
    if previous is None:
        return {}
    records = [
        *previous.contents.records(RETIRED.name),
        *question_records(previous.contents).values(),
    ]
    return {row["id"]: row.get("released_in") or previous.manifest.version for row in records}


def _stamp(table: pa.Table, first: Mapping[str | None, str], version: str) -> pa.Table:
    if "released_in" not in table.column_names or not table.num_rows:
        return table
    rows = table.select(["id", "parent_id", "operator"]).to_pylist()
    released = [
        first.get(row["id"])
        or (first.get(row["parent_id"]) if row["operator"] == ERRATUM else None)
        or version
        for row in rows
    ]
    index = table.column_names.index("released_in")
    return table.set_column(index, "released_in", pa.array(released, pa.string()))


def retired_questions(
    contents: Contents, previous: ReleaseDirectory | None, first: Mapping[str | None, str], version: str
) -> list[Question]:
    """Return the questions of earlier versions that are not in the new one, sorted by id.

    Corrected questions are not retired. Rows that this version of the program cannot read are left out.
    """
    if previous is None:
        return []
    present = question_records(contents)
    corrected = {q["parent_id"] for q in present.values() if q.get("operator") == ERRATUM}
    found: dict[str, Question] = {}
    for config in (RETIRED.name, QUESTIONS.name):
        for row in previous.contents.records(config):
            if row["id"] in present or row["id"] in corrected:
                continue
            question = _read(row)
            if question is not None:
                stamps = {
                    "released_in": first[row["id"]],
                    "retired_in": question.retired_in or version,
                }
                found[question.id] = question.model_copy(update=stamps)
    return [found[i] for i in sorted(found)]


def _read(row: Mapping[str, Any]) -> Question | None:
    try:
        return Question.model_validate(row)
    except ValidationError:
        return None
