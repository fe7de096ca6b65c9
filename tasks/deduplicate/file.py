"""Deduplicate any table: the rows that stay in one file, those that go and why in another.

Rows are read, compared and written in parts, through files in a folder beside the output; what is in memory
at a time is bounded by the size of a part and some numbers a row.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.errors import InputError
from tasks.deduplicate import earlier_files, source_name
from tasks.deduplicate.rows import (
    Columns,
    RankedUnits,
    RowPart,
    rank_units,
    read_units,
    rows_as_units,
    split_rows,
)
from tasks.files.tables import TableFile
from tasks.near_duplicates.pairs import Each, Indices, TextFiles, in_turn
from tasks.near_duplicates.search import Then
from tasks.near_duplicates.units import KINDS, UnitOutcomes, reason_of, settle

NO_TEXT = "no_text"
"""Reason for rows whose text is absent or blank: they are kept apart, never compared."""
VERDICT = pa.schema([("because_of", pa.string()), ("similarity", pa.float64()), ("reason", pa.string())])
"""The columns that dropped.parquet has beside those of the input."""
ROWS_PER_PART = 100_000
ROWS_WRITTEN_AT_ONCE = 131_072
EXAMPLES = 10
EXAMPLE_CHARACTERS = 300


def deduplicate_file(
    input: Path,
    *,
    text: str,
    slots: Sequence[str] = (),
    group: str | None = None,
    rank: str | None = None,
    threshold: float = 90.0,
    against: Sequence[Path] = (),
    out: Path,
    each: Each = in_turn,
    then: Then | None = None,
    rows_per_part: int = ROWS_PER_PART,
) -> dict[str, object]:
    """Deduplicate a Parquet, JSON lines or CSV file; write `out/kept.parquet` and `out/dropped.parquet`.

    `threshold` is a rapidfuzz `ratio` (0 to 100]; `each` does the parts of the work; `then` is a second
    search (`ByMeaning`). Raises `InputError` for what cannot be read.
    """
    started = time.perf_counter()
    file = TableFile(input)
    columns = Columns(text, tuple(slots), group, rank)
    check_columns(file, columns, input)
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".parts-", dir=out) as name:
        folder = Path(name)
        sources, parts = split_inputs(input, file, columns, against, folder, rows_per_part)
        each(read_units, parts)
        units = rank_units(parts)
        np.save(folder / "places.npy", units.places)
        settled = settle(
            TextFiles(folder),
            units.guards,
            units.first,
            units.text_of,
            threshold=threshold,
            earlier=_count_earlier(units, sources),
            each=each,
            then=then,
        )
        verdicts = settle_rows(file.rows, units, settled, sources, parts)
        kept, dropped = write_rows(file, verdicts, out)
        examples = _examples(TextFiles(folder), units, settled)
    return {
        "rows": file.rows,
        "kept": kept,
        "dropped": dropped,
        "duplicate_ratio": round(dropped / file.rows, 6),
        "clusters": verdicts.clusters,
        "pairs_verified": settled.pairs_verified,
        "reasons": verdicts.counts(),
        "seconds": round(time.perf_counter() - started, 3),
        **examples,
    }


def check_columns(file: TableFile, columns: Columns, place: Path) -> None:
    """Raise `InputError` for columns that are not there, not of their kind, or in the way."""
    taken = sorted({field.name for field in VERDICT} & set(file.schema.names))
    if taken:
        raise InputError(
            f"{place.name} has a column {taken[0]!r}, which dropped.parquet needs for itself",
            place=str(place),
            hint="rename the column",
        )
    rows_as_units(file.schema.empty_table(), columns, place=place)


def split_inputs(
    input: Path,
    file: TableFile,
    columns: Columns,
    against: Sequence[Path],
    folder: Path,
    rows_per_part: int,
) -> tuple[list[str], list[RowPart]]:
    """The names of the earlier files, and the parts of all files; the input's own come last."""
    earlier = sorted((source_name(place), path) for place in against for path in earlier_files(place))
    sources = sorted({name for name, _ in earlier})
    files = [(sources.index(name), path, TableFile(path)) for name, path in earlier]
    parts: list[RowPart] = []
    for source, path, one in [*files, (len(sources), input, file)]:
        parts += split_rows(
            one,
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
    """What became of every row of the input."""

    goes: NDArray[np.bool_]
    lost_to: Indices
    """Number of the unit that a row lost to, in the table of units; -1 where there is none."""
    similarity: NDArray[np.float64]
    reason: NDArray[np.int32]
    """By its place in `reasons`."""
    reasons: tuple[str, ...]
    ids: pa.ChunkedArray
    clusters: int

    def counts(self) -> dict[str, int]:
        found = Counter(self.reason[self.goes].tolist())
        return {self.reasons[i]: n for i, n in sorted(found.items(), key=lambda item: self.reasons[item[0]])}

    def columns(self, rows: Indices) -> list[pa.Array]:
        """The columns of VERDICT for these rows, which go."""
        unit = pa.array(self.lost_to[rows], mask=self.lost_to[rows] < 0)
        similarity = pa.array(self.similarity[rows], mask=self.lost_to[rows] < 0)
        reason = pa.array(self.reasons).take(pa.array(self.reason[rows]))
        return [self.ids.take(unit), similarity, reason]


def settle_rows(
    count: int, units: RankedUnits, settled: UnitOutcomes, sources: Sequence[str], parts: Sequence[RowPart]
) -> Verdicts:
    """What became of every row, from what became of its unit."""
    reasons = (*KINDS, *(reason_of(KINDS[0], name) for name in sources), NO_TEXT)
    verdicts = Verdicts(
        np.zeros(count, np.bool_),
        np.full(count, -1, np.int64),
        np.zeros(count),
        np.full(count, len(reasons) - 1, np.int32),
        reasons,
        units.table["id"],
        0,
    )
    source = units.table["source"].to_numpy()[units.order]
    lost = settled.lost[source[settled.lost] == len(sources)]
    winner, own = settled.winner[lost], units.order[lost]
    lists = units.table["rows"].take(pa.array(own)).combine_chunks()
    rows = lists.flatten().to_numpy()
    which = np.repeat(np.arange(len(lost)), pc.list_value_length(lists).to_numpy())
    overlaps = source[winner] < len(sources)
    reason = np.where(overlaps, len(KINDS) + source[winner], settled.kind[lost])
    verdicts.goes[rows] = True
    verdicts.lost_to[rows] = units.order[winner][which]
    verdicts.similarity[rows] = settled.similarity[lost][which]
    verdicts.reason[rows] = reason[which]
    for part in parts:
        if part.source == len(sources):
            verdicts.goes[np.load(part.without_text)] = True
    return replace(verdicts, clusters=len(np.unique(winner)))


def write_rows(file: TableFile, verdicts: Verdicts, out: Path) -> tuple[int, int]:
    """Write kept.parquet and dropped.parquet, both in the order of the input; how many rows are in each."""
    schemas = file.schema, pa.schema([*file.schema, *VERDICT], metadata=file.schema.metadata)
    with (
        _whole_parquet(out / "kept.parquet", schemas[0]) as keep,
        _whole_parquet(out / "dropped.parquet", schemas[1]) as drop,
    ):
        done = 0
        for some in _gathered(file.batches()):
            goes = verdicts.goes[done : done + some.num_rows]
            rows = done + np.flatnonzero(goes)
            keep.write_table(some.filter(pa.array(~goes)))
            columns = [*some.filter(pa.array(goes)).columns, *verdicts.columns(rows)]
            drop.write_table(pa.Table.from_arrays(columns, schema=schemas[1]))
            done += some.num_rows
    dropped = int(verdicts.goes.sum())
    return file.rows - dropped, dropped


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in larger tables."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(b.num_rows for b in held) >= ROWS_WRITTEN_AT_ONCE:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


@contextmanager
def _whole_parquet(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A file that has its name when all of it is on disk."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            yield writer
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _examples(texts: TextFiles, units: RankedUnits, settled: UnitOutcomes) -> dict[str, list[dict[str, Any]]]:
    """The pairs to look at for the threshold: merged ones that are least similar, and near misses."""
    lost = settled.least_similar(EXAMPLES)
    merged = zip(lost, settled.winner[lost], settled.similarity[lost], strict=True)
    misses = settled.near_misses.where(slice(EXAMPLES))
    missed = zip(misses.worse, misses.better, misses.similarity, strict=True)

    def told(unit: int, other: int, similarity: float) -> dict[str, Any]:
        ids = units.table["id"].take(pa.array(units.order[[unit, other]])).to_pylist()
        said = [t[:EXAMPLE_CHARACTERS] for t in texts.read(units.text_of[[unit, other]])]
        ends = {"id": ids[0], "other": ids[1], "text": said[0], "other_text": said[1]}
        return {"similarity": round(float(similarity), 2), **ends}

    return {
        "least_similar": [told(*pair) for pair in merged],
        "near_misses": [told(*pair) for pair in missed],
    }
