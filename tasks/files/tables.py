"""Tables that people bring: Parquet, JSON lines, CSV or TSV, the text formats also as .gz or .zst.

What is read is what was written: times stay text in JSON lines, and a CSV column becomes numbers only where
that loses nothing ("007" stays "007").
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import InputError

BLOCK_BYTES = 32 << 20
"""The longest line that can be read."""


BATCH_ROWS = 65_536
BATCH_BYTES = 64 << 20


class TableFile:
    """A table that is read some rows at a time, as often as wanted. Only Parquet is never in memory as a
    whole: what the columns of the other formats hold is known when all has been read."""

    def __init__(self, path: Path) -> None:
        """Raises `InputError` as `read_table_file` does."""
        self._path = path
        self._table: pa.Table | None = None
        if _is_parquet(path):
            with read_safely(path, pq.ParquetFile) as file:
                about = file.metadata
                self.schema: pa.Schema = file.schema_arrow
                self.rows: int = about.num_rows
                size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        else:
            self._table = read_table_file(path)
            self.schema, self.rows, size = self._table.schema, self._table.num_rows, self._table.nbytes
        if not self.rows:
            raise _empty(path)
        self._row_bytes = max(1, int(size) // self.rows)

    def rows_within(self, size: int) -> int:
        """About how many rows are that many bytes; at least one."""
        return max(1, size // self._row_bytes)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, in order, some thousands at a time."""
        rows = min(BATCH_ROWS, self.rows_within(BATCH_BYTES))
        if self._table is not None:
            yield from self._table.to_batches(max_chunksize=rows)
            return
        with read_safely(self._path, pq.ParquetFile) as file:
            batches = file.iter_batches(batch_size=rows)
            while (batch := read_safely(self._path, lambda _: next(batches, None))) is not None:
                yield batch


def _is_parquet(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in {".parquet", ".pq"}


def read_table_file(path: Path) -> pa.Table:
    """The whole table. Raises `InputError` where the file is absent, empty, or not what its name says."""
    if not path.is_file():
        raise InputError(f"there is no file {path}", hint="check the path")
    table = read_safely(path, _reader(path))
    if not table.num_rows:
        raise _empty(path)
    return table


def read_safely(path: Path, read: Callable[[Path], Any]) -> Any:
    """What `read` makes of the file. Raises `InputError` where it is empty or not what its name says."""
    try:
        return read(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError) as error:
        if path.stat().st_size == 0 or str(error).startswith("Empty"):
            raise _empty(path) from None
        raise InputError(
            f"{path.name} is not readable as {path.suffixes[0][1:]}: {str(error).splitlines()[0]}",
            place=str(path),
            hint="name it by its format: .parquet, .jsonl, .csv or .tsv, with .gz or .zst behind it",
        ) from None


def _reader(path: Path) -> Callable[[Path], pa.Table]:
    names = [suffix.lower() for suffix in path.suffixes]
    if names and names[-1] in {".gz", ".zst"}:
        names.pop()
    kind = names[-1] if names else ""
    if kind in {".jsonl", ".ndjson", ".json"}:
        return _read_json_lines
    if kind in {".csv", ".tsv"}:
        return lambda path: _read_separated(path, "\t" if kind == ".tsv" else ",")
    if kind in {".parquet", ".pq"}:
        return lambda path: pq.read_table(path, partitioning=None)
    raise InputError(
        f"{path.name} does not say what format it is in",
        place=str(path),
        hint="supported are .parquet, .jsonl, .csv and .tsv, the last three also with .gz or .zst",
    )


def _empty(path: Path) -> InputError:
    return InputError(f"{path.name} has no rows", place=str(path), hint="give a file with at least one row")


def _read_json_lines(path: Path) -> pa.Table:
    table = _parse_json(path, None)
    schema = pa.schema([field.with_type(_without_times(field.type)) for field in table.schema])
    return table if schema == table.schema else _parse_json(path, schema)


def _parse_json(path: Path, schema: pa.Schema | None) -> pa.Table:
    import pyarrow.json as pj

    with pa.input_stream(path) as stream:
        return pj.read_json(
            stream,
            read_options=pj.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pj.ParseOptions(explicit_schema=schema),
        )


def _without_times(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_times(field.type)) for field in kind])
    return kind


def _read_separated(path: Path, delimiter: str) -> pa.Table:
    import pyarrow.csv as pcsv

    with pa.input_stream(path) as stream:
        names = pcsv.open_csv(stream, parse_options=_separated(delimiter)).schema.names
    with pa.input_stream(path) as stream:
        table = pcsv.read_csv(
            stream,
            read_options=pcsv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=_separated(delimiter),
            convert_options=pcsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    return pa.table({name: _as_numbers(table[name]) for name in names})


def _separated(delimiter: str) -> object:
    import pyarrow.csv as pcsv

    return pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)


def _as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as numbers where every number, written out again, is the text that stood there."""
    filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    for kind in (pa.int64(), pa.float64()):
        try:
            numbers = filled.cast(kind)
        except pa.ArrowInvalid:
            continue
        if filled.null_count < len(filled) and pc.all(pc.equal(numbers.cast(pa.string()), filled)).as_py():
            return numbers
    return column


# Reading recorded answers: CSV files with named columns, and answers as they are compared.


LARGEST_CELL = 64 << 20
"""Characters. An answer may run away; the library's own limit of 131,072 would stop at it."""


def read_csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Every row with its place (`file:line`); extra columns are carried along, blank lines are none.

    Raises `InputError` for a file that cannot be read, columns that are missing or stand twice, and rows with
    more or fewer cells than there are columns: an answer with a comma and no quotes would be cut off.
    """
    with _opened(path) as stream:
        reader = csv.reader(stream, strict=True)
        csv.field_size_limit(LARGEST_CELL)
        try:
            header = next(reader, [])
            check_columns(path, header, columns)
            for row in reader:
                place = f"{path}:{reader.line_num}"
                if row:
                    _check_cells(row, header, place)
                    yield place, {name: cell for name, cell in zip(header, row, strict=True) if name}
        except csv.Error as error:
            raise InputError(
                f"not readable as CSV: {error}",
                place=f"{path}:{reader.line_num}",
                hint="cells that hold commas, quotes or line breaks stand in quotes, quotes in them doubled",
            ) from None


def _check_cells(row: Sequence[str], header: Sequence[str], place: str) -> None:
    if len(row) != len(header):
        raise InputError(
            f"the row has {len(row)} cell{'s' if len(row) != 1 else ''}, the header {len(header)}",
            place=place,
            hint="cells that hold commas or line breaks stand in quotes",
        )


def read_csv_header(path: Path) -> list[str]:
    """The names of the columns; none where the file is empty. Raises `InputError` as `read_csv_rows`."""
    with _opened(path) as stream:
        try:
            return next(csv.reader(stream, strict=True), [])
        except csv.Error as error:
            raise InputError(f"not readable as CSV: {error}", place=f"{path}:1") from None


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", hint="check the path") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise InputError(
            f"{path.name} is not a UTF-8 text file", place=str(path), hint="save it as UTF-8"
        ) from None


def check_columns(path: Path, found: Iterable[str], wanted: Sequence[str]) -> None:
    """Raise `InputError` where a column is missing, or stands twice."""
    names = list(found)
    missing = [column for column in wanted if column not in names]
    if missing:
        raise InputError(
            f"missing column{'s' if len(missing) > 1 else ''}: {', '.join(missing)}",
            place=str(path),
            hint=f"the file has: {', '.join(n for n in names if n) or '(none)'}",
        )
    twice = [column for column in wanted if names.count(column) > 1]
    if twice:
        raise InputError(f"the column {twice[0]} stands twice", place=str(path), hint="remove one of them")


def plain_answer(text: str) -> str:
    """Lower case, without full stops, space trimmed: how recorded answers and options are compared."""
    return " ".join(text.lower().replace(".", "").split())
