"""The Prefect flow of `deduplicate`: the parts of the work run on a task runner."""

from __future__ import annotations

from typing import Any

from flows.engine import submit_each
from flows.files import deduplicate_table
from flows.lazy_flow import lazy_flow
from flows.options import takes
from schemas.options import DeduplicateOptions


@lazy_flow("deduplicate")
@takes(DeduplicateOptions)
def deduplicate(options: DeduplicateOptions) -> dict[str, Any]:
    """Remove near-duplicates from a Parquet, JSON Lines or CSV file.

    Every worker must see the input and the output folder under the same absolute path.
    """
    paths = {"input": options.input.resolve(), "out": options.out.resolve()}
    return deduplicate_table(options.model_copy(update=paths), run_parts=submit_each)
