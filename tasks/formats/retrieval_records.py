"""Records of retrieval files, one at a time, whatever they are kept in.

Read: `.jsonl`, `.json` (an array, held in memory), `.tsv` (three columns), each also as `.gz` or `.zst`;
`.parquet`; a folder of Parquet files; a folder written by `datasets.save_to_disk`.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import orjson

from schemas.errors import InputError

Record = dict[str, Any]
BATCH = 1000
TSV_COLUMNS = ("query", "positive", "negative")


@dataclass
class BadRows:
    """What to do with a row that cannot be read: stop with its place, or count it and go on."""

    skip: bool = False
    count: int = 0
    places: list[str] = field(default_factory=list)
    """The first ten."""

    def report(self, message: str, place: str) -> None:
        """Raise `InputError`, or count the row."""
        if not self.skip:
            raise InputError(message, place=place, hint="mend the row, or skip such rows with --skip-bad")
        self.count += 1
        self.places = [*self.places, place][:10]


@dataclass(frozen=True, slots=True)
class Placed:
    """A record with where it stands, for error messages."""

    place: str
    record: Record


def read_records(path: Path, bad: BadRows) -> Iterator[Placed]:
    """Every record of a file or folder, in order."""
    if not path.exists():
        raise InputError(f"there is no file {path}", hint="check the path")
    if path.is_dir():
        yield from _read_folder(path)
        return
    kind = container_of(path)
    if kind == "parquet":
        yield from _read_parquet(path)
        return
    with _opened(path) as stream:
        yield from {"jsonl": _read_lines, "json": _read_array, "tsv": _read_tsv}[kind](stream, path, bad)


def container_of(path: Path) -> str:
    """`jsonl`, `json`, `tsv` or `parquet`, from the file's name."""
    suffixes = [s for s in path.suffixes if s not in (".gz", ".zst")]
    kind = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".tsv": "tsv", ".parquet": "parquet"}.get(
        suffixes[-1] if suffixes else ""
    )
    if kind is None:
        raise InputError(
            f"cannot tell what {path.name} holds",
            place=str(path),
            hint="names end in .jsonl, .json, .tsv or .parquet, and .gz or .zst after that",
        )
    return kind


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
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
        raise InputError(f"{path.name} is damaged or not complete: {error}", place=str(path)) from None


def _read_lines(stream: IO[bytes], path: Path, bad: BadRows) -> Iterator[Placed]:
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
            yield Placed(place, record)
        else:
            bad.report("a line has to hold a JSON object", place)


def _read_array(stream: IO[bytes], path: Path, bad: BadRows) -> Iterator[Placed]:
    try:
        records = orjson.loads(stream.read())
    except orjson.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", place=f"{path}:{error.lineno}") from None
    for number, record in enumerate(records if isinstance(records, list) else [records], start=1):
        if isinstance(record, dict):
            yield Placed(f"{path}: entry {number}", record)
        else:
            bad.report("an entry has to be a JSON object", f"{path}: entry {number}")


def _read_tsv(stream: IO[bytes], path: Path, bad: BadRows) -> Iterator[Placed]:
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
        yield Placed(f"{path}:{number}", dict(zip(TSV_COLUMNS, fields, strict=True)))


def _read_parquet(path: Path) -> Iterator[Placed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from _rows(file.iter_batches(batch_size=BATCH), path)
    except pa.ArrowInvalid as error:
        raise InputError(f"not a readable Parquet file: {error}", place=str(path)) from None


def _rows(batches: Iterable[Any], path: Path) -> Iterator[Placed]:
    number = 0
    for batch in batches:
        for record in batch.to_pylist():
            number += 1
            yield Placed(f"{path}: row {number}", record)


def _read_folder(path: Path) -> Iterator[Placed]:
    """A dataset saved by `datasets` (one split), or a folder of Parquet files."""
    import pyarrow as pa

    if (path / "dataset_dict.json").is_file():
        splits = json.loads((path / "dataset_dict.json").read_bytes())["splits"]
        if "train" not in splits and len(splits) != 1:
            raise InputError(
                f"{path.name} holds the splits {', '.join(splits)}",
                place=str(path),
                hint="name one: FOLDER/SPLIT",
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
            raise InputError(f"no dataset in {path}", hint="expected Parquet files or a saved dataset")
        for file in files:
            yield from _read_parquet(file)
