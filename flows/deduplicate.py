"""Deduplicate a table on more than this process: the parts of the work are Prefect tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from flows.engine import submit_each
from tasks.deduplicate.file import deduplicate_file


@flow(name="deduplicate", persist_result=False, validate_parameters=False)
def deduplicate(input: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Remove near-duplicates from a Parquet, JSON lines or CSV file, on this flow's task runner. Every worker
    must see the output folder under the same path.

    Args:
        input: The file.
        options: As `tasks.deduplicate.file.deduplicate_file` takes them.
    """
    return deduplicate_file(input, **{**options, "out": options["out"].resolve()}, each=submit_each)
