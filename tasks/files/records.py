"""Read and write records of retrieval files one at a time, and open text files.

Formats: `.jsonl`, `.json` (an array, held in memory) and `.tsv` (three columns), each plain or as `.gz` or
`.zst`; `.parquet`; a folder of Parquet files; a folder written by `datasets.save_to_disk` (read only).
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, TextIO, cast

from schemas.errors import InputError
from tasks.files.depth import read_json
from tasks.files.limits import Expansion, RowLimit, max_bytes
from tasks.files.values import Nanoseconds, dump_json, parse_json
from tasks.text.printable import printable

Record = dict[str, Any]
BATCH = 1000
MAX_LINE_BYTES = 64 << 20
"""Longest line of a text file, after decompression."""
FREE_RECORDS = 100_000
"""Records that a file of any size may have. Judging one takes longer than reading it."""
BYTES_PER_RECORD = 4
"""Bytes on disk per record beyond `FREE_RECORDS`, also compressed."""
TSV_COLUMNS = ("query", "positive", "negative")
_HEADER_CELL = re.compile(r"[#\w .-]+", re.ASCII)
_HEADER_WORDS = frozenset(
    (
        *("query", "queries", "question", "anchor", "text", "sentence", "id", "qid", "pid", "docid", "doc"),
        *("document", "passage", "context", "answer", "response", "title", "hard", "positive", "pos"),
        *("negative", "neg", "relevant", "irrelevant"),
    )
)
"""Words of which the names of columns consist: `positive_passage`, `hard-negative 1`, `queryText`."""
COMPRESSED = (".gz", ".zst")
_CONTAINERS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".tsv": "tsv", ".parquet": "parquet"}
RECORD_FILES = tuple(name + packed for name in _CONTAINERS for packed in ("", *COMPRESSED))
"""Endings of the names of files that `read_records` reads."""
_SPLITS = ("train", "validation", "valid", "dev", "test")
_SPLIT_FILE = re.compile(r"^(?P<split>[A-Za-z]\w*?)(-\d{5}-of-\d{5})?$")


@dataclass
class BadRows:
    """Invalid rows: stop at the first one, or skip and count them."""

    skip: bool = False
    count: int = 0
    places: list[str] = field(default_factory=list)
    """Places of the first ten."""
    repeated: int = 0
    """Ids that a corpus or a list of queries has more than once. The last record counts."""
    repeated_ids: list[str] = field(default_factory=list)
    """The first ten."""

    def repeat(self, name: str) -> None:
        """Count an id that a file has more than once."""
        self.repeated += 1
        self.repeated_ids = [*self.repeated_ids, name][:10]

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


def read_records(path: Path, bad: BadRows, split: str | None = None) -> Iterator[LocatedRecord]:
    """Yield every record of a file or folder, in order.

    Args:
        path: The file or folder.
        bad: Takes invalid rows.
        split: The split to read, for folders with several.

    Raises:
        InputError: If the input is missing, damaged or not UTF-8, or has several splits and none is named.
    """
    if not path.exists():
        raise InputError(f"there is no file {path}", hint="check the path")
    limit = RowLimit(FREE_RECORDS, 1 / BYTES_PER_RECORD)
    if path.is_dir():
        for file in _dataset_files(path, split):
            yield from _read_arrow(file, limit) if file.suffix == ".arrow" else _read_parquet(file, limit)
        return
    kind = container_of(path)
    if kind == "parquet":
        yield from _read_parquet(path, limit)
        return
    limit.open(path)
    with open_bytes(path) as stream:
        for record in {"jsonl": _read_lines, "json": _read_array, "tsv": _read_tsv}[kind](stream, path, bad):
            limit.add(path, 1)
            yield record


def container_of(path: Path) -> str:
    """Return `jsonl`, `json`, `tsv` or `parquet` from a file's name. Raise `InputError` for other names."""
    suffixes = [s for s in path.suffixes if s not in COMPRESSED]
    kind = _CONTAINERS.get(suffixes[-1] if suffixes else "")
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
    except UnicodeError:
        raise encoding_error(path) from None


_MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
"""Byte-order marks of other encodings. The mark of UTF-32 begins with that of UTF-16."""


def encoding_error(path: Path) -> InputError:
    """Return the error for a text file that is not UTF-8, with the first invalid byte and its line."""
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return InputError(
                    f"{path.name} is not a UTF-8 text file: {describe_encoding(line, error)}",
                    place=f"{path}:{number}",
                    hint=_conversion_hint(line),
                )
    return InputError(f"{path.name} is not a UTF-8 text file", place=str(path), hint="save it as UTF-8")


def describe_encoding(line: bytes, error: UnicodeDecodeError) -> str:
    """Describe the byte that is not UTF-8, and the encoding that the line probably has."""
    encoding = _probable_encoding(line)
    return f"byte 0x{line[error.start]:02x} at position {error.start + 1} (it looks like {encoding})"


def _probable_encoding(line: bytes) -> str:
    marked = next((name for mark, name in _MARKS.items() if line.startswith(mark)), None)
    return marked or ("UTF-16" if b"\x00" in line else "Latin-1")


def _conversion_hint(line: bytes) -> str:
    name = {"UTF-16": "UTF-16", "Latin-1": "ISO-8859-1"}[_probable_encoding(line)]
    return f"save it as UTF-8, e.g. iconv -f {name} -t UTF-8 FILE > NEW_FILE"


def check_utf8(path: Path, max_bytes: int | None = None) -> None:
    """Read a text file once.

    Args:
        path: The file, plain or compressed.
        max_bytes: Largest size of a compressed file after decompression.

    Raises:
        InputError: With the first invalid byte and its line if the file is not UTF-8, or if it is too large.
    """
    decoder, size = codecs.getincrementaldecoder("utf-8")(), 0
    limit = max_bytes if path.suffix in (".gz", ".zst") else None
    with open_bytes(path) as stream:
        try:
            while block := stream.read(1 << 20):
                decoder.decode(block)
                size += len(block)
                if limit is not None and size > limit:
                    raise InputError(
                        f"{path.name} expands to more than {limit >> 20:,} MB",
                        place=str(path),
                        hint="if you trust the file, decompress it first",
                    )
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise encoding_error(path) from None


class _LineLimit(io.RawIOBase):
    """A stream with lines of at most `MAX_LINE_BYTES`, and not too many if it is compressed."""

    def __init__(self, source: IO[bytes], path: Path) -> None:
        self._source = source
        self._path = path
        self._length = 0
        self._expansion = Expansion(path)
        self._rows = RowLimit().open(path) if path.suffix in COMPRESSED else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._source.read(len(buffer))
        self._expansion.add(len(block))
        if self._rows is not None:
            self._rows.add(self._path, block.count(b"\n"))
        end = block.rfind(b"\n")
        self._length = self._length + len(block) if end < 0 else len(block) - end - 1
        if self._length > MAX_LINE_BYTES:
            raise InputError(
                f"{self._path.name} has a line of more than {MAX_LINE_BYTES >> 20} MB",
                place=str(self._path),
                hint="the file is damaged or was not made for people. Do not use it",
            )
        buffer[: len(block)] = block
        return len(block)


def _limit_lines(source: Any, path: Path) -> IO[bytes]:
    return io.BufferedReader(_LineLimit(source, path), buffer_size=1 << 20)


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file and decompress `.gz` and `.zst`. Raise `InputError` for damage and endless lines."""
    import zlib

    import zstandard

    try:
        with path.open("rb") as raw:
            if path.suffix == ".gz":
                yield _limit_lines(cast(IO[bytes], gzip.GzipFile(fileobj=raw)), path)
            elif path.suffix == ".zst":
                yield _limit_lines(zstandard.ZstdDecompressor().stream_reader(raw), path)
            else:
                yield _limit_lines(raw, path)
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{path.name} is damaged or incomplete: {error}", place=str(path)) from None


def _read_lines(stream: IO[bytes], path: Path, bad: BadRows) -> Iterator[LocatedRecord]:
    for number, line in enumerate(stream, start=1):
        text = line.removeprefix(codecs.BOM_UTF8).strip() if number == 1 else line.strip()
        if not text:
            continue
        place = f"{path}:{number}"
        if number == 1 and _probable_encoding(line) == "UTF-16":
            raise encoding_error(path)
        try:
            text.decode("utf-8")
            record = parse_json(text)
        except UnicodeDecodeError as error:
            bad.report(f"not UTF-8: {describe_encoding(line.strip(), error)}", place)
            continue
        except ValueError as error:
            bad.report(f"not a JSON line: {getattr(error, 'msg', error)}", place)
            continue
        if isinstance(record, dict):
            yield LocatedRecord(place, record)
        else:
            bad.report(_not_an_object(record), place)


def _not_an_object(record: Any) -> str:
    if isinstance(record, list) and record and all(map(_is_scored_id, record)):
        return "the line is not a JSON object, but a list of ids (ColBERT triples); the texts are needed"
    return "the line is not a JSON object"


def _is_scored_id(part: Any) -> bool:
    """Return whether a value is an id, or a pair of an id and a score."""
    if isinstance(part, list):
        return len(part) == 2 and isinstance(part[0], int | str) and isinstance(part[1], int | float)
    return isinstance(part, int) or (isinstance(part, str) and " " not in part.strip())


def holds_array(path: Path) -> bool:
    """Return whether a `.json` file contains one array, and not one object per line."""
    with open_bytes(path) as stream:
        start = stream.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
    return start.startswith(b"[") or not start


def _read_array(stream: IO[bytes], path: Path, bad: BadRows) -> Iterator[LocatedRecord]:
    limit = max_bytes()
    content = bytearray()
    while block := stream.read(1 << 20):
        content += block
        if len(content) > limit // 2:  # the values take as much again
            break
    if len(content) > limit // 2:
        raise InputError(
            f"{path.name} has more than {limit >> 21:,} MB of JSON",
            place=str(path),
            hint="write one record per line (.jsonl), which is read in parts",
        )
    text = bytes(content.removeprefix(codecs.BOM_UTF8))
    del content
    try:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for start in range(0, len(text), 1 << 20):
            decoder.decode(text[start : start + (1 << 20)])
        decoder.decode(b"", final=True)
        records = parse_json(text, limit)
    except UnicodeDecodeError:
        raise encoding_error(path) from None
    except ValueError as error:
        if not holds_array(path):
            yield from _read_lines(io.BytesIO(text), path, bad)
            return
        place = f"{path}:{getattr(error, 'lineno', 1)}"
        raise InputError(f"not JSON: {getattr(error, 'msg', error)}", place=place) from None
    for number, record in enumerate(records if isinstance(records, list) else [records], start=1):
        if isinstance(record, dict):
            yield LocatedRecord(f"{path}: entry {number}", record)
        else:
            bad.report("the entry is not a JSON object", f"{path}: entry {number}")


def tsv_header(path: Path) -> bytes | None:
    """Return the header line of a TSV file, or `None` if its first line is a row."""
    with open_bytes(path) as stream:
        first = stream.readline()
    cells = first.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace").rstrip("\r\n").split("\t")
    is_header = len(cells) > 1 and all(map(_names_a_column, cells))
    return first.rstrip(b"\r\n") + b"\n" if is_header else None


def _names_a_column(cell: str) -> bool:
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", cell)]
    is_known = all({word, word.removesuffix("s")} & _HEADER_WORDS for word in words)
    return bool(words) and is_known and _HEADER_CELL.fullmatch(cell) is not None


def _read_tsv(stream: IO[bytes], path: Path, bad: BadRows) -> Iterator[LocatedRecord]:
    has_header = tsv_header(path) is not None
    for number, line in enumerate(stream, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            if _probable_encoding(line) == "UTF-16":
                raise encoding_error(path)
            if has_header:
                continue
        place = f"{path}:{number}"
        try:
            fields = line.decode("utf-8").rstrip("\r\n").split("\t", len(TSV_COLUMNS))
        except UnicodeDecodeError as error:
            bad.report(f"not UTF-8: {describe_encoding(line, error)}", place)
            continue
        if fields == [""]:
            continue
        if len(fields) != len(TSV_COLUMNS):
            columns = line.count(b"\t") + 1
            bad.report(f"{columns} columns instead of query, positive, negative", place)
            continue
        if all(cell.strip().isdigit() for cell in fields):
            bad.report(
                "the line has ids only (query, positive, negative); relabelling needs the texts", place
            )
            continue
        yield LocatedRecord(place, dict(zip(TSV_COLUMNS, fields, strict=True)))


def _read_parquet(path: Path, limit: RowLimit) -> Iterator[LocatedRecord]:
    import pyarrow as pa

    from tasks.files.bounded import stream_parquet

    try:
        yield from _rows(stream_parquet(path, BATCH, limit), path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"not a readable Parquet file: {error}", place=str(path)) from None


def _read_arrow(path: Path, limit: RowLimit) -> Iterator[LocatedRecord]:
    import pyarrow as pa

    from tasks.files.arrow_stream import stream_arrow

    try:
        yield from _rows(stream_arrow(path, BATCH, limit), path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable Arrow file: {error}", place=str(path)) from None


def _rows(batches: Iterable[Any], path: Path) -> Iterator[LocatedRecord]:
    number = 0
    for batch in batches:
        columns = {
            name: _python_values(column)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        for index in range(batch.num_rows):
            number += 1
            record = {name: values[index] for name, values in columns.items()}
            yield LocatedRecord(f"{path}: row {number}", record)


def _python_values(column: Any) -> list[Any]:
    """Return the values of an Arrow column. Times with nanoseconds become `Nanoseconds`."""
    import pyarrow as pa

    kind = column.type
    if (pa.types.is_temporal(kind)) and getattr(kind, "unit", "") == "ns":
        values = column.cast(pa.int64()).to_pylist()
        return [None if value is None else Nanoseconds(value) for value in values]
    values_of_column: list[Any] = column.to_pylist()
    return values_of_column


# --- datasets in folders ----------------------------------------------------------------------------------


def _dataset_files(path: Path, split: str | None) -> list[Path]:
    """Return the files of one split: Arrow files saved by `datasets`, or the Parquet files of a folder."""
    if (index := path / "dataset_dict.json").is_file():
        splits = _index_entry(index, "splits")
        return _dataset_files(path / choose_split(path, [Path(name).name for name in splits], split), None)
    if (index := path / "state.json").is_file():
        return [path / Path(name).name for name in _index_entry(index, "_data_files")]
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise InputError(
            f"{path} contains no dataset", hint="give a folder of Parquet files or a saved dataset"
        )
    by_split: dict[str, list[Path]] = {}
    for file in files:
        match = _SPLIT_FILE.match(file.stem)
        is_split = match is not None and (match[2] or file.stem in _SPLITS)
        by_split.setdefault(match["split"] if match and is_split else "", []).append(file)
    if set(by_split) == {""}:
        return files
    return by_split[choose_split(path, list(by_split), split)]


def _index_entry(index: Path, key: str) -> list[str]:
    """Return the names that an index of a saved dataset lists: texts, or objects with a `filename`."""
    try:
        entries = read_json(index)[key]
        names = [entry if isinstance(entry, str) else entry["filename"] for entry in entries]
        if not all(isinstance(name, str) and "\0" not in name for name in names):
            raise ValueError("a name is not a text")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{index.name} is not the index of a saved dataset: {printable(str(error), 100)}",
            place=str(index),
            hint="save the dataset again with `save_to_disk`",
        ) from None
    return names


def choose_split(path: Path, splits: list[str], split: str | None) -> str:
    """Return the split to read. Raise `InputError` if there are several and none is named."""
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None or split not in splits:
        problem = "contains several splits" if split is None else f"has no split {split!r}"
        raise InputError(
            f"{path.name} {problem}: {', '.join(splits)}",
            place=str(path),
            hint="choose one with --split, and run once per split",
        )
    return split


def arrow_schema(path: Path, split: str | None = None) -> Any:
    """Return the Arrow schema of a Parquet file or a saved dataset, `None` for text formats.

    Raises:
        InputError: If the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.files.arrow_stream import read_arrow_schema

    if path.is_dir() and (path / "qrels").is_dir():
        return None
    if path.is_dir():
        path = _dataset_files(path, split)[0]
    try:
        if path.suffix == ".arrow":
            return read_arrow_schema(path)
        return pq.read_schema(path) if path.suffix == ".parquet" else None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable {path.suffix[1:]} file: {error}", place=str(path)) from None


# --- writing ----------------------------------------------------------------------------------------------


def write_records(
    path: Path,
    records: Callable[[], Iterable[Record]],
    schema: Any = None,
    *,
    like: Any = None,
    header: bytes | None = None,
    array: bool = True,
) -> int:
    """Write records to `.jsonl`, `.json`, `.tsv` (also `.gz`, `.zst`) or `.parquet`, atomically.

    Args:
        path: Its suffix decides the format.
        records: Called once per pass. Parquet without a `schema` needs a first pass to find the columns.
        schema: Arrow schema for Parquet.
        like: Arrow schema of the input. Columns with the same name keep their type.
        header: First line of a TSV file.
        array: Write a `.json` file as one array, and not as one object per line.

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
            written = _write_parquet(temporary, records, schema or schema_of(records, like))
        else:
            kind = "jsonl" if kind == "json" and not array else kind
            written = _write_text(temporary, path.suffix, kind, records(), header)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return written


_BREAKS_TSV = str.maketrans("\t\r\n", "   ")


def _lines_of(kind: str, records: Iterable[Record]) -> Iterator[bytes]:
    for record in records:
        if kind == "tsv":
            fields = (str(record[column]).translate(_BREAKS_TSV) for column in TSV_COLUMNS)
            yield "\t".join(fields).encode() + b"\n"
        else:
            yield dump_json(record, newline=True)


def _write_text(
    path: Path, suffix: str, kind: str, records: Iterable[Record], header: bytes | None = None
) -> int:
    import zstandard

    written = 0
    with path.open("wb") as raw:
        stream: Any = raw
        if suffix == ".gz":
            stream = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0)
        elif suffix == ".zst":
            stream = zstandard.ZstdCompressor().stream_writer(raw, closefd=False)
        if header is not None:
            stream.write(header)
        for line in _lines_of(kind, records):
            if kind == "json":
                line = (b",\n" if written else b"[\n") + line.rstrip(b"\n")
            stream.write(line)
            written += 1
        if kind == "json":
            stream.write(b"\n]\n" if written else b"[]\n")
        if stream is not raw:
            stream.close()
    return written


ID_COLUMNS = frozenset(
    (
        *("query_id", "qid", "docid", "_id", "id", "pos_id", "neg_id", "positive_document_ids"),
        *("negative_document_ids", "positive_passage_ids", "negative_passage_ids"),
    )
)
"""Columns that become text in Parquet if some of their values are texts and others numbers."""


_LISTS_OF_PASSAGES = re.compile(
    r"^((hard_)?neg|pos|docs|documents|passages|candidates|labels|scores|ids)", re.I
)
"""Columns with one entry per passage. Their length changes."""


def schema_of(records: Callable[[], Iterable[Record]], like: Any = None) -> Any:
    """Return the Arrow schema of records. Ids of several types become text.

    Args:
        records: Called once or twice.
        like: Arrow schema of the input. Columns with the same name keep their type.

    Raises:
        InputError: If a column has values of several types that no Arrow type holds.
    """
    import pyarrow as pa

    known = {} if like is None else {name: _widened(like.field(name)) for name in like.names}
    try:
        found = _inferred_schema(records(), known)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        try:
            found = _inferred_schema(map(with_text_ids, records()), known)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(
                f"a column has values of several types, which Parquet cannot hold: {error}",
                hint="write to a .jsonl file, or make the values of the column alike",
            ) from None
    if not known:
        return found
    fields = [*known.values(), *(found.field(name) for name in found.names if name not in known)]
    is_like = len(fields) == len(known) and all(known[name].equals(like.field(name)) for name in known)
    metadata = like.metadata if is_like else None
    return pa.schema(fields, metadata=metadata)


def _widened(field: Any) -> Any:
    """Return the field with a list type of variable length if its lists are shortened by relabelling."""
    import pyarrow as pa

    is_fixed = pa.types.is_fixed_size_list(field.type)
    return (
        field.with_type(pa.list_(field.type.value_field))
        if is_fixed and field.type.list_size > 1 and _LISTS_OF_PASSAGES.match(field.name)
        else field
    )


def _inferred_schema(records: Iterable[Record], known: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    schemas = []
    for rows in _batches(records):
        names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in known]
        columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
        schemas.append(pa.schema([(name, column.type) for name, column in columns.items()]))
    return pa.unify_schemas(schemas, promote_options="permissive") if schemas else pa.schema([])


def with_text_ids(record: Record) -> Record:
    """Return a record with all ids as text."""
    return {key: _text_ids(value, key in ID_COLUMNS) for key, value in record.items()}


def _text_ids(value: Any, is_id: bool) -> Any:
    if isinstance(value, dict):
        return with_text_ids(value)
    if isinstance(value, list):
        return [_text_ids(part, is_id) for part in value]
    return str(value) if is_id and isinstance(value, int) and not isinstance(value, bool) else value


def _write_parquet(path: Path, records: Callable[[], Iterable[Record]], schema: Any) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    written = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in _batches(records()):
            columns = [_column([row.get(field.name) for row in rows], field) for field in schema]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            written += len(rows)
    return written


def _column(values: list[Any], field: Any) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values, type=field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        if field.name in ID_COLUMNS or pa.types.is_nested(field.type):
            try:
                texts = [_text_ids(value, field.name in ID_COLUMNS) for value in values]
                return pa.array(texts, type=field.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                pass
        raise InputError(
            f"the column {field.name!r} cannot be written as {field.type}: {error}",
            hint="write to a .jsonl file instead",
        ) from None


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while batch := list(islice(iterator, BATCH)):
        yield batch
