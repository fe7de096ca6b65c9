"""Records to a file, whole or not at all: `.jsonl` and `.tsv` (also `.gz`, `.zst`), and `.parquet`."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from tasks.formats.retrieval_records import BATCH, TSV_COLUMNS, Record, container_of


def write_records(path: Path, records: Callable[[], Iterable[Record]], schema: Any = None) -> int:
    """Write all records, whole or not at all; returns how many. `records` is called once for every pass over
    them: Parquet without a `schema` needs a first one to find its columns."""
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
