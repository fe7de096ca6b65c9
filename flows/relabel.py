"""The Prefect flow of `relabel`: the parts of the file run on a task runner.

Without `--runner`, the command does the same in one process.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from flows.engine import on_prefect, submit_each
from flows.files import relabel_set
from flows.lazy_flow import lazy_flow
from flows.options import takes
from schemas.options import RelabelOptions
from schemas.places import read_address
from schemas.recipe import Limits


@lazy_flow("relabel")
@takes(RelabelOptions)
def relabel(options: RelabelOptions) -> dict[str, Any]:
    """Find false negatives in a retrieval training set, write the cleaned set and return the report.

    An interrupted run resumes when run again. Every worker must see the files under the same absolute paths.
    """
    limits = [Limits(max_in_flight=options.max_in_flight or Limits().max_in_flight)]
    submit = partial(submit_each, models=options.judges, limits=limits) if on_prefect() else None
    return relabel_set(absolute(options), run_parts=submit)


def absolute(options: RelabelOptions) -> RelabelOptions:
    """Return the options with absolute paths. Addresses of object storage stay."""
    values = {name: getattr(options, name) for name in RelabelOptions.model_fields}
    paths = {
        name: value.resolve()
        for name, value in values.items()
        if isinstance(value, Path) and not read_address(value)
    }
    return options.model_copy(update=paths)
