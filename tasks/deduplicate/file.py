"""Deduplicate any table: write the kept rows to one file, and the dropped rows with their reasons to another.

Rows are read, compared and written in parts through files in a temporary folder of the output folder. Memory
is bounded by the size of a part plus a few numbers per row.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.errors import InputError
from schemas.recipe import Deduplicate
from tasks.deduplicate import find_earlier_files, source_name
from tasks.deduplicate.rows import (
    ColumnRoles,
    RankedUnits,
    RowPart,
    rank_units,
    read_units,
    rows_to_units,
    split_rows,
)
from tasks.files.limits import RowLimit
from tasks.files.tables import TableFile
from tasks.near_duplicates.parts import Indices, TextFiles, work_folder
from tasks.near_duplicates.search import SearchFactory
from tasks.near_duplicates.units import KINDS, UnitOutcomes, duplicate_reason, resolve_duplicates
from tasks.run.parts import PartRunner, run_sequentially
from tasks.run.store import sync_path

NO_TEXT = "no_text"
"""Reason code of rows without text. They are dropped and never compared."""
VERDICT_COLUMNS = pa.schema(
    [("because_of", pa.string()), ("similarity", pa.float64()), ("reason", pa.string())]
)
"""Columns of dropped.parquet in addition to those of the input."""
ROWS_PER_PART = 100_000
ROWS_WRITTEN_AT_ONCE = 131_072
BYTES_WRITTEN_AT_ONCE = 128 << 20
EXAMPLES = 10
EXAMPLE_CHARACTERS = 300


def deduplicate_file(
    input: Path,
    *,
    text: str,
    slots: Sequence[str] = (),
    group: str | None = None,
    rank: str | None = None,
    threshold: float = Deduplicate().threshold,
    against: Sequence[Path] = (),
    out: Path,
    run_parts: PartRunner = run_sequentially,
    second_search: SearchFactory | None = None,
    rows_per_part: int = ROWS_PER_PART,
) -> dict[str, object]:
    """Deduplicate a Parquet, JSON lines or CSV file. Write `out/kept.parquet` and `out/dropped.parquet`.

    Args:
        input: The file.
        text: Column with the text.
        slots: Columns that must be equal in duplicates.
        group: Column whose equal values mark rows that are kept or dropped together.
        rank: Numeric column. The row with the greatest value is kept.
        threshold: Minimum `ratio` of near-duplicates, in (0, 100].
        against: Earlier files and releases. Rows that match one of their texts are dropped.
        out: Output folder. It is created if it does not exist.
        run_parts: Runs the parts of each job.
        second_search: Creates a second search, such as `SemanticOptions`.
        rows_per_part: Maximum number of rows per part.

    Raises:
        InputError: If the file or one of the columns cannot be read.
    """
    started = time.perf_counter()
    file = TableFile(input)
    columns = ColumnRoles(text, tuple(slots), group, rank)
    check_input_columns(file, columns, input)
    out.mkdir(parents=True, exist_ok=True)
    with work_folder("parts", out) as folder:
        sources, parts = split_inputs(input, file, columns, against, folder, rows_per_part)
        list(run_parts(read_units, parts))
        units = rank_units(parts)
        np.save(folder / "locations.npy", units.locations)
        outcomes = resolve_duplicates(
            TextFiles(folder),
            units.guards,
            units.first,
            units.text_of,
            threshold=threshold,
            earlier=_count_earlier(units, sources),
            run_parts=run_parts,
            second_search=second_search,
        )
        verdicts = row_verdicts(file.rows, units, outcomes, sources, parts)
        kept, dropped = write_kept_and_dropped(file, verdicts, out)
        examples = _example_pairs(TextFiles(folder), units, outcomes)
    return {
        "rows": file.rows,
        "kept": kept,
        "dropped": dropped,
        "duplicate_ratio": round(dropped / file.rows, 6),
        "clusters": verdicts.clusters,
        "pairs_verified": outcomes.pairs_verified,
        "reasons": verdicts.counts(),
        "seconds": round(time.perf_counter() - started, 3),
        **examples,
    }


def check_input_columns(file: TableFile, columns: ColumnRoles, place: Path) -> None:
    """Raise `InputError` if a column is missing, has the wrong type, or has the name of an output column."""
    taken = sorted({field.name for field in VERDICT_COLUMNS} & set(file.schema.names))
    if taken:
        raise InputError(
            f"{place.name} has a column {taken[0]!r}, which is reserved for dropped.parquet",
            place=str(place),
            hint="rename the column",
        )
    rows_to_units(file.schema.empty_table(), columns, place=place)


def split_inputs(
    input: Path,
    file: TableFile,
    columns: ColumnRoles,
    against: Sequence[Path],
    folder: Path,
    rows_per_part: int,
) -> tuple[list[str], list[RowPart]]:
    """Split all files into parts, those of the input last.

    Return the names of the earlier files and the parts.
    """
    earlier = sorted((source_name(place), path) for place in against for path in find_earlier_files(place))
    sources = sorted({name for name, _ in earlier})
    limit = RowLimit()
    files = [(sources.index(name), path, TableFile(path, limit)) for name, path in earlier]
    parts: list[RowPart] = []
    for source, path, table in [*files, (len(sources), input, file)]:
        parts += split_rows(
            table,
            columns,
            folder=folder,
            place=path,
            source=source,
            first=len(parts),
            rows_per_part=rows_per_part,
        )
    return sources, parts


def _count_earlier(units: RankedUnits, sources: Sequence[str]) -> int:
    return int(pc.sum(pc.less(units.table["source"], len(sources))).as_py() or 0)


@dataclass(frozen=True)
class Verdicts:
    """The verdict on every row of the input. Arrays have shape (rows,)."""

    dropped: NDArray[np.bool_]
    winner: Indices
    """Index of the unit that a row lost to in the table of units, or -1."""
    similarity: NDArray[np.float64]
    reason: NDArray[np.int32]
    """Index into `reasons`."""
    reasons: tuple[str, ...]
    ids: pa.ChunkedArray
    """Id of every unit."""
    clusters: int

    def counts(self) -> dict[str, int]:
        """Return the number of dropped rows by reason."""
        found = Counter(self.reason[self.dropped].tolist())
        return {self.reasons[i]: n for i, n in sorted(found.items(), key=lambda item: self.reasons[item[0]])}

    def columns(self, rows: Indices) -> list[pa.Array]:
        """Return `VERDICT_COLUMNS` of these dropped rows."""
        no_winner = self.winner[rows] < 0
        unit = pa.array(self.winner[rows], mask=no_winner)
        similarity = pa.array(self.similarity[rows], mask=no_winner)
        reason = pa.array(self.reasons).take(pa.array(self.reason[rows]))
        return [self.ids.take(unit), similarity, reason]


def row_verdicts(
    count: int,
    units: RankedUnits,
    outcomes: UnitOutcomes,
    sources: Sequence[str],
    parts: Sequence[RowPart],
) -> Verdicts:
    """Derive the verdict on each of `count` rows from the outcome of its unit."""
    reasons = (*KINDS, *(duplicate_reason(KINDS[0], name) for name in sources), NO_TEXT)
    verdicts = Verdicts(
        dropped=np.zeros(count, np.bool_),
        winner=np.full(count, -1, np.int64),
        similarity=np.zeros(count),
        reason=np.full(count, len(reasons) - 1, np.int32),
        reasons=reasons,
        ids=units.table["id"],
        clusters=0,
    )
    source = units.table["source"].to_numpy()[units.order]
    lost = outcomes.dropped[source[outcomes.dropped] == len(sources)]
    winner, own = outcomes.winner[lost], units.order[lost]
    lists = units.table["rows"].take(pa.array(own)).combine_chunks()
    rows = lists.flatten().to_numpy()
    unit_of_row = np.repeat(np.arange(len(lost)), pc.list_value_length(lists).to_numpy())
    overlaps = source[winner] < len(sources)
    reason = np.where(overlaps, len(KINDS) + source[winner], outcomes.kind[lost])
    verdicts.dropped[rows] = True
    verdicts.winner[rows] = units.order[winner][unit_of_row]
    verdicts.similarity[rows] = outcomes.similarity[lost][unit_of_row]
    verdicts.reason[rows] = reason[unit_of_row]
    for part in parts:
        if part.source == len(sources):
            verdicts.dropped[np.load(part.without_text)] = True
    return replace(verdicts, clusters=len(np.unique(winner)))


def write_kept_and_dropped(file: TableFile, verdicts: Verdicts, out: Path) -> tuple[int, int]:
    """Write kept.parquet and dropped.parquet in the order of the input. Return their numbers of rows."""
    schemas = file.schema, pa.schema([*file.schema, *VERDICT_COLUMNS], metadata=file.schema.metadata)
    with (
        _atomic_parquet(out / "kept.parquet", schemas[0]) as keep,
        _atomic_parquet(out / "dropped.parquet", schemas[1]) as drop,
    ):
        done = 0
        for table in _merge_record_batches(file.batches()):
            mask = verdicts.dropped[done : done + table.num_rows]
            rows = done + np.flatnonzero(mask)
            keep.write_table(table.filter(pa.array(~mask)))
            columns = [*table.filter(pa.array(mask)).columns, *verdicts.columns(rows)]
            drop.write_table(pa.Table.from_arrays(columns, schema=schemas[1]))
            done += table.num_rows
    dropped = int(verdicts.dropped.sum())
    return file.rows - dropped, dropped


def _merge_record_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield the same rows in larger tables."""
    pending: list[pa.RecordBatch] = []
    for batch in batches:
        pending.append(batch)
        if (
            sum(b.num_rows for b in pending) >= ROWS_WRITTEN_AT_ONCE
            or sum(b.nbytes for b in pending) >= BYTES_WRITTEN_AT_ONCE
        ):
            yield pa.Table.from_batches(pending)
            pending = []
    if pending:
        yield pa.Table.from_batches(pending)


@contextmanager
def _atomic_parquet(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Write a file under a temporary name, sync it and rename it."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            yield writer
        sync_path(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _example_pairs(
    texts: TextFiles, units: RankedUnits, outcomes: UnitOutcomes
) -> dict[str, list[dict[str, Any]]]:
    """Return pairs around the threshold: the least similar duplicates and the most similar near misses."""
    lost = outcomes.least_similar(EXAMPLES)
    merged = zip(lost, outcomes.winner[lost], outcomes.similarity[lost], strict=True)
    misses = outcomes.near_misses.select(slice(EXAMPLES))
    missed = zip(misses.worse, misses.better, misses.similarity, strict=True)

    def describe(unit: int, other: int, similarity: float) -> dict[str, Any]:
        ids = units.table["id"].take(pa.array(units.order[[unit, other]])).to_pylist()
        beginnings = [t[:EXAMPLE_CHARACTERS] for t in texts.read(units.text_of[[unit, other]])]
        ends = {"id": ids[0], "other": ids[1], "text": beginnings[0], "other_text": beginnings[1]}
        return {"similarity": round(float(similarity), 2), **ends}

    return {
        "least_similar": [describe(*pair) for pair in merged],
        "near_misses": [describe(*pair) for pair in missed],
    }
