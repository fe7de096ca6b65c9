"""Read tables from Parquet, JSON lines, CSV and TSV files, and write CSV files.

The text formats may be compressed (`.gz`, `.zst`). Values are kept as they were written: times in JSON lines
stay text, and a CSV column becomes numbers only if that loses nothing ("007" stays "007").
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import InputError
from tasks.files.bounded import MAX_COLUMNS, measure_parquet, read_parquet, stream_parquet, too_large
from tasks.files.depth import check_json_lines
from tasks.files.limits import RowLimit, max_bytes
from tasks.files.records import check_utf8, open_bytes, open_text
from tasks.files.values import parse_json
from tasks.run.store import write_bytes

BLOCK_BYTES = 32 << 20
"""Longest line that pyarrow reads."""
BATCH_ROWS = 65_536
BATCH_BYTES = 64 << 20
CELL_BYTES = 5
"""Memory of a cell besides its text."""
LARGEST_CELL = 64 << 20
"""Characters per CSV cell. Models sometimes never stop; Python's own limit is 131,072."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that make a spreadsheet evaluate a cell (CSV injection). The last four are the full-width
forms of the first four."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


# --- tables of any format ---------------------------------------------------------------------------------


class TableFile:
    """A table that can be read in batches, several times.

    Only Parquet is streamed. The other formats are held in memory, because their column types are known only
    after the last row.
    """

    def __init__(self, path: Path, limit: RowLimit | None = None) -> None:
        """Open a file. Raises `InputError` like `read_table_file`.

        Args:
            path: The file.
            limit: Rows that are shared with other files. By default, this file has its own.
        """
        self._path = path
        self._table: pa.Table | None = None
        if _is_parquet(path):
            with read_safely(path, pq.ParquetFile) as file:
                self.schema: pa.Schema = file.schema_arrow
                self.rows: int = file.metadata.num_rows
            size = read_safely(path, lambda path: measure_parquet(path, limit))
        else:
            self._table = read_table_file(path)
            self.schema, self.rows, size = self._table.schema, self._table.num_rows, self._table.nbytes
            if limit is not None:
                limit.open(path).add(path, self.rows)
        if not self.rows:
            raise _empty(path)
        self._row_bytes = max(1, int(size) // self.rows)

    def rows_within(self, size: int) -> int:
        """Return about how many rows fit into `size` bytes, at least 1."""
        return max(1, size // self._row_bytes)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows in order, in batches of at most `BATCH_ROWS`."""
        rows = min(BATCH_ROWS, self.rows_within(BATCH_BYTES))
        if self._table is not None:
            yield from self._table.to_batches(max_chunksize=rows)
            return
        batches, seen = stream_parquet(self._path, rows), 0
        while (batch := read_safely(self._path, lambda _: next(batches, None))) is not None:
            seen += batch.num_rows
            yield batch
        if seen != self.rows:
            raise InputError(
                f"{self._path.name} is damaged: it has {seen:,} rows, and its metadata name {self.rows:,}",
                place=str(self._path),
            )


def read_table_file(path: Path) -> pa.Table:
    """Read a whole table.

    Raises:
        InputError: If the file is missing, is not UTF-8 text, has no rows, or is not of its suffix's format.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", hint="check the path")
    read = _reader(path)
    if not _is_parquet(path):
        check_utf8(path, max_bytes())
    table = read_safely(path, read)
    RowLimit().open(path).add(path, table.num_rows)
    if not table.num_rows:
        raise _empty(path)
    return table


def read_safely(path: Path, read: Callable[[Path], Any]) -> Any:
    """Return `read(path)`. Raise `InputError` if the file is empty or not of the format of its suffix."""
    try:
        return read(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError) as error:
        if path.stat().st_size == 0 or str(error).startswith("Empty"):
            raise _empty(path) from None
        raise InputError(
            f"{path.name} is not readable as {path.suffixes[0][1:]}: {str(error).splitlines()[0]}",
            place=str(path),
            hint="name it by its format: .parquet, .jsonl, .csv or .tsv, optionally followed by .gz or .zst",
        ) from None


def _is_parquet(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in {".parquet", ".pq"}


def _reader(path: Path) -> Callable[[Path], pa.Table]:
    names = [suffix.lower() for suffix in path.suffixes]
    if names and names[-1] in {".gz", ".zst"}:
        names.pop()
    kind = names[-1] if names else ""
    if kind in {".jsonl", ".ndjson", ".json"}:
        return _read_json_lines
    if kind in {".csv", ".tsv"}:
        return lambda path: _read_separated(path, "\t" if kind == ".tsv" else find_delimiter(path))
    if kind in {".parquet", ".pq"}:
        return read_parquet
    raise InputError(
        f"the format of {path.name} is unknown",
        place=str(path),
        hint="supported are .parquet, .jsonl, .csv and .tsv; the last three may end in .gz or .zst",
    )


def _empty(path: Path) -> InputError:
    return InputError(f"{path.name} has no rows", place=str(path), hint="give a file with at least one row")


def _read_json_lines(path: Path) -> pa.Table:
    with open_bytes(path) as stream:  # the parser of Arrow ends the process on deep nesting
        check_json_lines(_count_columns(stream, path), path)
    table = _parse_json(path, None)
    schema = pa.schema([field.with_type(_without_times(field.type)) for field in table.schema])
    return table if schema == table.schema else _parse_json(path, schema)


def _count_columns(lines: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """Yield lines. Raise `InputError` if their table is too large: in a table, each row has every column."""
    columns, known = set[tuple[str, ...]](), set[tuple[str, ...]]()
    rows = size = 0
    for line in lines:
        yield line
        rows, size = rows + 1, size + len(line)
        try:
            record = parse_json(line)
        except ValueError:
            continue  # Arrow names the fault
        names = tuple(record) if isinstance(record, dict) else ()
        is_flat = names and not any(isinstance(value, (dict, list)) for value in record.values())
        if is_flat and names in known:
            continue
        if is_flat and len(known) < MAX_COLUMNS:
            known.add(names)
        _add_columns(columns, record, ())
        if len(columns) > MAX_COLUMNS:
            raise too_large(path, f"more than {MAX_COLUMNS:,} columns", f"{MAX_COLUMNS:,}")
    if (needed := size + rows * len(columns) * CELL_BYTES) > max_bytes():
        raise too_large(path, f"{needed >> 20:,} MB of data", f"{max_bytes() >> 20:,} MB")


def _add_columns(columns: set[tuple[str, ...]], value: Any, place: tuple[str, ...]) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            columns.add((*place, name))
            _add_columns(columns, part, (*place, name))
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, (dict, list)):
                _add_columns(columns, part, (*place, ""))


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
    try:
        return _parse_separated(path, delimiter)
    except pa.ArrowInvalid:
        # pyarrow does not name the line. Our own reader does, and raises an `InputError` there.
        for _ in read_csv_rows(path, delimiter=delimiter):
            pass
        raise


def _parse_separated(path: Path, delimiter: str) -> pa.Table:
    import pyarrow.csv as pcsv

    _check_cells(path, delimiter)
    options = pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with pa.input_stream(path) as stream:
        names = pcsv.open_csv(stream, parse_options=options).schema.names
    with pa.input_stream(path) as stream:
        table = pcsv.read_csv(
            stream,
            read_options=pcsv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=options,
            convert_options=pcsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    return pa.table({name: _as_numbers(table[name]) for name in names})


def _check_cells(path: Path, delimiter: str) -> None:
    """Raise `InputError` if there are too many columns or cells. An empty cell takes memory too."""
    mark, size, cells = delimiter.encode(), 0, 0
    with open_bytes(path) as stream:
        columns = stream.readline().count(mark) + 1
        if columns > MAX_COLUMNS:
            raise too_large(path, f"{columns:,} columns", f"{MAX_COLUMNS:,}")
        while block := stream.read(1 << 20):
            size += len(block)
            cells += block.count(mark) + block.count(b"\n")
    if (needed := size + cells * CELL_BYTES) > max_bytes():
        raise too_large(path, f"{needed >> 20:,} MB of data", f"{max_bytes() >> 20:,} MB")


def _as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a text column as numbers if each number formats to exactly the text it came from."""
    filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    for kind in (pa.int64(), pa.float64()):
        try:
            numbers = filled.cast(kind)
        except pa.ArrowInvalid:
            continue
        if filled.null_count < len(filled) and pc.all(pc.equal(numbers.cast(pa.string()), filled)).as_py():
            return numbers
    return column


# --- CSV rows ---------------------------------------------------------------------------------------------


def find_delimiter(path: Path) -> str:
    """Return what separates the cells of a CSV file: a comma, or if its header has none a semicolon or tab.

    Spreadsheets write semicolons in languages with a decimal comma. Quoted names are not looked into.
    """
    with open_text(path) as stream:
        header = re.sub(r'"[^"]*"', "", stream.readline(LARGEST_CELL))
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def read_csv_rows(
    path: Path, columns: Sequence[str] = (), *, delimiter: str | None = None, escaped: bool = False
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of a CSV file with its place (`file:line` of its first line). Blank lines are skipped.

    Args:
        path: A UTF-8 file with a header, plain or compressed.
        columns: Required columns. Other columns are returned as well.
        delimiter: Separates cells. Default: see `find_delimiter`.
        escaped: Undo `escape_cell` in every cell, for files that `write_csv` wrote and people filled in.

    Raises:
        InputError: If the file is missing, is not UTF-8 or not CSV, or lacks or repeats a required column.
            Also if a row has more or fewer cells than the header: a comma without quotes cuts a text off.
    """
    csv.field_size_limit(LARGEST_CELL)
    delimiter = delimiter or find_delimiter(path)
    line = 1
    with open_text(path) as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            _check_header(header, columns, path)
            line = reader.line_num + 1
            for cells in reader:
                place = f"{path}:{line}"
                if cells:
                    _check_cell_count(cells, header, place)
                    texts = map(unescape_cell, cells) if escaped else cells
                    yield place, {name: text for name, text in zip(header, texts, strict=True) if name}
                line = reader.line_num + 1
        except csv.Error as error:
            raise InputError(
                f"not readable as CSV: {error}",
                place=f"{path}:{line}",
                hint="put quotes around cells with commas, quotes or line breaks; double inner quotes",
            ) from None


def read_csv_header(path: Path, *, delimiter: str | None = None) -> list[str]:
    """Return the column names, none if the file is empty. Raises `InputError` like `read_csv_rows`."""
    csv.field_size_limit(LARGEST_CELL)
    delimiter = delimiter or find_delimiter(path)
    with open_text(path) as stream:
        try:
            return next(csv.reader(stream, delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise InputError(f"not readable as CSV: {error}", place=f"{path}:1") from None


def cell_error(place: str, column: str, text: str, hint: str) -> InputError:
    """Return the error for a cell with an invalid value. `hint` names the valid ones."""
    return InputError(f"{column} is {text[:40]!r}", place=place, hint=hint)


def _check_header(header: Sequence[str], columns: Sequence[str], path: Path) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        raise InputError(
            f"missing column{'s' if len(missing) > 1 else ''}: {', '.join(missing)}",
            place=f"{path}:1",
            hint=f"the file has: {', '.join(name for name in header if name) or '(none)'}",
        )
    repeated = [column for column in columns if header.count(column) > 1]
    if repeated:
        raise InputError(
            f"the column {repeated[0]} occurs twice", place=f"{path}:1", hint="remove one of the two"
        )


def _check_cell_count(cells: Sequence[str], header: Sequence[str], place: str) -> None:
    if len(cells) != len(header):
        raise InputError(
            f"the row has {len(cells)} cell{'s' if len(cells) != 1 else ''}, the header {len(header)}",
            place=place,
            hint="put quotes around cells with commas or line breaks",
        )


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Write a CSV file for spreadsheets, atomically. Cells are escaped, see `escape_cell`.

    The file is UTF-8 with a byte-order mark, because Excel needs the mark.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([escape_cell(row[column]) for column in columns])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.getvalue().encode("utf-8-sig"))


def escape_cell(text: str) -> str:
    """Prefix an apostrophe if a spreadsheet would evaluate the text as a formula. Numbers stay numbers."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) and not _NUMBER.fullmatch(text) else text


def unescape_cell(text: str) -> str:
    """Remove the apostrophe that `escape_cell` added."""
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA_STARTS) else text
