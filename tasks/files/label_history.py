"""The label history of a relabelled file. Entries are added to it and never removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.errors import InputError
from schemas.labels import LABEL_HISTORY, LabelChange
from tasks.files.bounded import read_parquet
from tasks.files.records import write_records


def append_history(path: Path, changes: Callable[[], Iterable[LabelChange]]) -> None:
    """Add label changes to a history file. Earlier entries are kept, and none is written twice.

    Raises:
        InputError: If the file exists and is not a label history.
    """
    earlier = read_history(path)

    def records() -> Iterator[dict[str, Any]]:
        known = set(earlier["id"].to_pylist()) if earlier is not None else set()
        yield from earlier.to_pylist() if earlier is not None else ()
        yield from (change.model_dump() for change in changes() if change.id not in known)

    write_records(path, records, LABEL_HISTORY.arrow_schema)


def read_history(path: Path) -> pa.Table | None:
    """Return the rows of a history file, or `None` if there is none.

    Raises:
        InputError: If the file is not a label history.
    """
    if not path.exists():
        return None
    try:
        return read_parquet(path).select(LABEL_HISTORY.arrow_schema.names).cast(LABEL_HISTORY.arrow_schema)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(
            "the file is not a label history, so the changes cannot be added to it",
            place=str(path),
            hint="move it away, or write the result to another place",
        ) from error
