"""Split tables by question, so that a stage can work on one group of questions after the other.

The parts are files in a temporary folder. A part holds all rows of its questions, and the questions of a part
come before those of the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from schemas.tables import R, Table
from tasks.run.store import TableRef

QUESTIONS_PER_PART = 4_096
MAX_PARTS = 400
"""Maximum number of parts, because the files of all parts are open at once."""
BATCH_ROWS = 8_192


@dataclass(frozen=True)
class TablePart:
    """The rows of one table that belong to some of the questions."""

    path: Path

    def rows(self, table: Table[R]) -> list[R]:
        """Return the rows in the order of the table."""
        with pa.memory_map(str(self.path)) as stream:
            return list(table.from_arrow(ipc.open_file(stream).read_all()))


def first_questions(questions: TableRef, column: str = "id", size: int = QUESTIONS_PER_PART) -> list[str]:
    """Return the first question id of every part but the first, sorted."""
    ids = sorted(pq.read_table(questions.path, columns=[column])[column].to_pylist())
    size = max(size, -(-len(ids) // MAX_PARTS))
    return ids[size::size]


def split_by_question(
    ref: TableRef, column: str, bounds: Sequence[str], folder: Path, **equal: str
) -> list[TablePart]:
    """Write the rows of a table to `len(bounds) + 1` parts by their question.

    Args:
        ref: The table.
        column: Column with the question id.
        bounds: Result of `first_questions`.
        folder: Folder for the parts.
        **equal: Columns and the values that the rows must have.
    """
    parts = [TablePart(folder / f"{ref.table}-{i:04}.arrow") for i in range(len(bounds) + 1)]
    edges = np.array(bounds, dtype=object)
    with pq.ParquetFile(ref.path) as file, ExitStack() as stack:
        schema = file.schema_arrow
        writers = [stack.enter_context(ipc.new_file(str(part.path), schema)) for part in parts]
        for batch in _filtered(file, equal):
            ids = np.array(batch.column(column).to_pylist(), dtype=object)
            numbers = np.searchsorted(edges, ids, side="right") if len(edges) else np.zeros(len(ids), int)
            for number in np.unique(numbers).tolist():
                writers[number].write_batch(batch.filter(pa.array(numbers == number)))
    return parts


def _filtered(file: pq.ParquetFile, equal: dict[str, Any]) -> Iterator[pa.RecordBatch]:
    for batch in file.iter_batches(batch_size=BATCH_ROWS):
        for name, value in equal.items():
            batch = batch.filter(pc.equal(batch.column(name), value))
        if batch.num_rows:
            yield batch
