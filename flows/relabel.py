"""The Prefect flow of `relabel`, for deployments. The command does the same without Prefect."""

from __future__ import annotations

from typing import Any

from flows.files import run_relabel
from flows.lazy_flow import lazy_flow
from flows.options import takes
from schemas.options import RelabelOptions


@lazy_flow("relabel")
@takes(RelabelOptions)
def relabel(options: RelabelOptions) -> dict[str, Any]:
    """Find false negatives in a retrieval training set, write the cleaned set and return the report.

    An interrupted run resumes when run again.
    """
    return run_relabel(options)
