"""Read and write records of retrieval files one at a time, and open text files.

Formats: `.jsonl`, `.json` (an array, held in memory) and `.tsv` (three columns), each plain or as `.gz` or
`.zst`; `.parquet`; a folder of Parquet files; a folder written by `datasets.save_to_disk` (read only).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, TextIO, cast

import orjson

from schemas.errors import InputError

Record = dict[str, Any]
BATCH = 1000
TSV_COLUMNS = ("query", "positive", "negative")


@dataclass
class BadRows:
    """Invalid rows: stop at the first one, or skip and count them."""

    skip: bool = False
    count: int = 0
    places: list[str] = field(default_factory=list)
    """Places of the first ten."""

    def report(self, message: str, place: str) -> None:
        """Count an invalid row. Raise `InputError` unless such rows are skipped."""
        if not self.skip:
            raise InputError(message, place=place, hint="correct the row, or skip such rows with --skip-bad")
        self.count += 1
        self.places = [*self.places, place][:10]


@dataclass(frozen=True, slots=True)
class LocatedRecord:
    """A record with its place (`file:line`), for error messages."""

    place: str
    record: Record


def read_records(path: Path, bad: BadRows) -> Iterator[LocatedRecord]:
    """Yield every record of a file or folder, in order. Raise `InputError` if it is missing or damaged."""
    if not path.exists():
        raise InputError(f"there is no file {path}", hint="check the path")
    if path.is_dir():
        yield from _read_folder(path)
        return
    kind = container_of(path)
    if kind == "parquet":
        yield from _read_parquet(path)
        return
    with open_bytes(path) as stream:
        yield from {"jsonl": _read_lines, "json": _read_array, "tsv": _read_tsv}[kind](stream, path, bad)


def container_of(path: Path) -> str:
    """Return `jsonl`, `json`, `tsv` or `parquet` from a file's name. Raise `InputError` for other names."""
    suffixes = [s for s in path.suffixes if s not in (".gz", ".zst")]
    kind = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".tsv": "tsv", ".parquet": "parquet"}.get(
        suffixes[-1] if suffixes else ""
    )
    if kind is None:
        raise InputError(
            f"the format of {path.name} is unknown",
            place=str(path),
            hint="names end in .jsonl, .json, .tsv or .parquet, optionally followed by .gz or .zst",
        )
    return kind


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 file, plain or compressed, with or without a byte-order mark. Line ends are kept.

    Raises:
        InputError: If the file is missing, damaged, or not UTF-8 (with its first invalid line).
    """
    try:
        with (
            open_bytes(path) as raw,
            io.TextIOWrapper(cast(Any, raw), encoding="utf-8-sig", newline="") as stream,
        ):
            yield stream
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", hint="check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder", hint="give a file") from None
    except UnicodeDecodeError:
        place = f"{path}:{_first_invalid_line(path)}"
        raise InputError(
            f"{path.name} is not a UTF-8 text file", place=place, hint="save it as UTF-8"
        ) from None


def _first_invalid_line(path: Path) -> int:
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file and decompress `.gz` and `.zst`. Raise `InputError` if it is damaged."""
    import zlib

    import zstandard

    try:
        with path.open("rb") as raw:
            if path.suffix == ".gz":
                yield cast(IO[bytes], gzip.GzipFile(fileobj=raw))
            elif path.suffix == ".zst":
                yield io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw))
            else:
                yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{path.name} is damaged or incomplete: {error}", place=str(path)) from None


def _read_lines(stream: IO[bytes], path: Path, bad: BadRows) -> Iterator[LocatedRecord]:
    for number, line in enumerate(stream, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if not text:
            continue
        place = f"{path}:{number}"
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            bad.report(f"not a JSON line: {error.msg}", place)
            continue
        if isinstance(record, dict):
            yield LocatedRecord(place, record)
        else:
            bad.report("the line is not a JSON object", place)


def _read_array(stream: IO[bytes], path: Path, bad: BadRows) -> Iterator[LocatedRecord]:
    try:
        records = orjson.loads(stream.read())
    except orjson.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", place=f"{path}:{error.lineno}") from None
    for number, record in enumerate(records if isinstance(records, list) else [records], start=1):
        if isinstance(record, dict):
            yield LocatedRecord(f"{path}: entry {number}", record)
        else:
            bad.report("the entry is not a JSON object", f"{path}: entry {number}")


def _read_tsv(stream: IO[bytes], path: Path, bad: BadRows) -> Iterator[LocatedRecord]:
    for number, line in enumerate(stream, start=1):
        try:
            fields = line.decode("utf-8").rstrip("\r\n").split("\t")
        except UnicodeDecodeError:
            bad.report("not UTF-8", f"{path}:{number}")
            continue
        if fields == [""]:
            continue
        if len(fields) != len(TSV_COLUMNS):
            bad.report(f"{len(fields)} columns instead of query, positive, negative", f"{path}:{number}")
            continue
        yield LocatedRecord(f"{path}:{number}", dict(zip(TSV_COLUMNS, fields, strict=True)))


def _read_parquet(path: Path) -> Iterator[LocatedRecord]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from _rows(file.iter_batches(batch_size=BATCH), path)
    except pa.ArrowInvalid as error:
        raise InputError(f"not a readable Parquet file: {error}", place=str(path)) from None


def _rows(batches: Iterable[Any], path: Path) -> Iterator[LocatedRecord]:
    number = 0
    for batch in batches:
        for record in batch.to_pylist():
            number += 1
            yield LocatedRecord(f"{path}: row {number}", record)


def _read_folder(path: Path) -> Iterator[LocatedRecord]:
    """Yield the records of a dataset saved by `datasets` (one split), or of a folder of Parquet files."""
    import pyarrow as pa

    if (path / "dataset_dict.json").is_file():
        splits = json.loads((path / "dataset_dict.json").read_bytes())["splits"]
        if "train" not in splits and len(splits) != 1:
            raise InputError(
                f"{path.name} contains several splits: {', '.join(splits)}",
                place=str(path),
                hint="choose one: FOLDER/SPLIT",
            )
        yield from _read_folder(path / ("train" if "train" in splits else splits[0]))
    elif (path / "state.json").is_file():
        for entry in json.loads((path / "state.json").read_bytes())["_data_files"]:
            file = path / Path(entry["filename"]).name
            with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as batches:
                yield from _rows(batches, file)
    else:
        files = sorted(path.rglob("train*.parquet")) or sorted(path.rglob("*.parquet"))
        if not files:
            raise InputError(
                f"{path} contains no dataset", hint="give a folder of Parquet files or a saved dataset"
            )
        for file in files:
            yield from _read_parquet(file)


# --- writing ----------------------------------------------------------------------------------------------


def write_records(path: Path, records: Callable[[], Iterable[Record]], schema: Any = None) -> int:
    """Write records to `.jsonl`, `.tsv` (also `.gz`, `.zst`) or `.parquet`, atomically.

    Args:
        path: Its suffix decides the format.
        records: Called once per pass. Parquet without a `schema` needs a first pass to find the columns.
        schema: Arrow schema for Parquet.

    Returns:
        The number of records.
    """
    kind = container_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        if kind == "parquet":
            written = _write_parquet(temporary, records, schema or _schema_of(records()))
        else:
            written = _write_text(temporary, path.suffix, _lines_of(kind, records()))
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return written


def _lines_of(kind: str, records: Iterable[Record]) -> Iterator[bytes]:
    for record in records:
        if kind == "tsv":
            fields = (" ".join(str(record[column]).split()) for column in TSV_COLUMNS)
            yield "\t".join(fields).encode() + b"\n"
        else:
            yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE, default=str)


def _write_text(path: Path, suffix: str, lines: Iterable[bytes]) -> int:
    import zstandard

    written = 0
    with path.open("wb") as raw:
        stream: Any = raw
        if suffix == ".gz":
            stream = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0)
        elif suffix == ".zst":
            stream = zstandard.ZstdCompressor().stream_writer(raw, closefd=False)
        for line in lines:
            stream.write(line)
            written += 1
        if stream is not raw:
            stream.close()
    return written


def _schema_of(records: Iterable[Record]) -> Any:
    import pyarrow as pa

    schemas = [pa.Table.from_pylist(rows).schema for rows in _batches(records)]
    return pa.unify_schemas(schemas, promote_options="permissive") if schemas else pa.schema([])


def _write_parquet(path: Path, records: Callable[[], Iterable[Record]], schema: Any) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    written = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in _batches(records()):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            written += len(rows)
    return written


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while batch := list(islice(iterator, BATCH)):
        yield batch
