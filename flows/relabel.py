"""The Prefect flow of `relabel`, for deployments. The command does the same without Prefect."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.files import run_relabel
from flows.options import takes
from schemas.options import RelabelOptions


@flow(name="relabel", persist_result=False)
@takes(RelabelOptions)
def relabel(options: RelabelOptions) -> dict[str, Any]:
    """Find false negatives in a retrieval training set, write the cleaned set and return the report.

    An interrupted run resumes when run again.
    """
    return run_relabel(options)
