"""Read Arrow streams of unknown origin, as `datasets.save_to_disk` writes them, with bounded memory.

A compressed buffer begins with its size after decompression, and Arrow reserves as much as it promises. So
the sizes are read from the headers of the messages first. Arrow does not check offsets either, so each batch
is validated before its values are used.

References:
    Message, RecordBatch and Buffer: github.com/apache/arrow, format/Message.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from schemas.errors import InputError
from tasks.files.bounded import MAX_ROWS, split_batch
from tasks.files.limits import RowLimit

MAX_METADATA_BYTES = 16 << 20
MAX_MESSAGE_BYTES = 256 << 20
"""Largest body of a message after decompression. Writers make batches of 1,000 rows."""
MAX_BUFFERS = 100_000
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
"""Kinds of messages."""


def stream_arrow(path: Path, rows: int, limit: RowLimit | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an Arrow stream in batches.

    Args:
        path: The file.
        rows: Maximum number of rows per batch.
        limit: Rows that are shared with other files. By default, this file has its own.

    Raises:
        InputError: If a message promises too much memory, or the file is damaged.
        pa.ArrowException: If it is damaged.
    """
    check_messages(path, limit)
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as batches:
        for field in batches.schema:
            _check_type(path, field.name, field.type)
        for batch in batches:
            batch.validate(full=True)
            for start in range(0, batch.num_rows, rows):
                yield from split_batch(path, batch.slice(start, rows))


def read_arrow_schema(path: Path) -> pa.Schema:
    """Return the schema of an Arrow stream. Raise `InputError` like `stream_arrow`."""
    check_messages(path)
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as batches:
        return batches.schema


def check_messages(path: Path, limit: RowLimit | None = None) -> None:
    """Read the headers of all messages of a stream.

    Args:
        path: The file.
        limit: Rows that are shared with other files. By default, this file has its own.

    Raises:
        InputError: If one cannot be read, or promises more than the limits.
    """
    end = path.stat().st_size
    rows = (limit or RowLimit()).open(path)
    try:
        with path.open("rb") as file:
            position, dictionaries = 0, dict[int, int]()
            while position < end:
                position, batch = _check_message(file, position, end, dictionaries)
                if batch is not None:
                    rows.add(path, batch.number(0, "<q"), sum(n for n, _ in batch.structs(1, "<qq")))
                if not position:
                    return
    except (struct.error, ValueError, IndexError) as error:
        raise InputError(
            f"{path.name} is not a readable Arrow stream: {error}",
            place=str(path),
            hint="the file is damaged or was not made for people. Do not use it",
        ) from None


def _check_message(
    file: IO[bytes], start: int, end: int, dictionaries: dict[int, int]
) -> tuple[int, _Table | None]:
    """Check one message.

    Args:
        file: The stream.
        start: Position of the message.
        end: Size of the file.
        dictionaries: Sizes of the dictionaries so far by id. They stay in memory.

    Returns:
        The position of the next message, or 0 at the end of the stream, and the batch of rows in this one.
    """
    file.seek(start)
    (size,) = struct.unpack("<I", file.read(4))
    start += 4
    if size == 0xFFFFFFFF:  # the marker that newer writers put before the size
        (size,) = struct.unpack("<I", file.read(4))
        start += 4
    if size == 0:
        return 0, None
    if size > MAX_METADATA_BYTES or start + size > end:
        raise ValueError("the header of a message is longer than it may be")
    message = _Table(file.read(size))
    kind, body = message.number(1, "<B"), message.number(3, "<q")
    content: int = start + size
    if body < 0 or content + body > end:
        raise ValueError("a message is longer than the file")
    header = message.table(2)
    if header is not None and kind == _BATCH:
        _check_size(_batch_size(file, header, content, body))
    elif header is not None and kind == _DICTIONARY and (batch := header.table(1)) is not None:
        name = header.number(0, "<q")
        before = dictionaries.get(name, 0) if header.number(2, "<B") else 0  # a part that is added
        dictionaries[name] = before + _batch_size(file, batch, content, body)
        _check_size(sum(dictionaries.values()))
    return content + body, header if kind == _BATCH else None


def _check_size(size: int) -> None:
    if size > MAX_MESSAGE_BYTES:
        raise ValueError(f"a batch has {size >> 20:,} MB. The limit is {MAX_MESSAGE_BYTES >> 20} MB")


def _batch_size(file: IO[bytes], batch: _Table, content: int, body: int) -> int:
    if not 0 <= batch.number(0, "<q") <= MAX_ROWS:
        raise ValueError(f"a batch has more than {MAX_ROWS:,} rows")
    is_compressed = batch.table(3) is not None
    total = 0
    for offset, length in batch.structs(2, "<qq"):
        if offset < 0 or length < 0 or offset + length > body:
            raise ValueError("a buffer is outside its message")
        size: int = length
        if is_compressed and length:
            file.seek(content + offset)
            (size,) = struct.unpack("<q", file.read(8))
            size = length if size == -1 else size
        if size < 0:
            raise ValueError("the size of a buffer is negative")
        total += size
    return total


class _Table:
    """A table of a FlatBuffer."""

    def __init__(self, data: bytes, position: int | None = None) -> None:
        self._data = data
        self._at = self._unpack("<I", 0) if position is None else position
        self._fields = self._at - self._unpack("<i", self._at)
        if self._fields < 0:
            raise ValueError("a table is outside its message")

    def _unpack(self, form: str, position: int) -> int:
        if position < 0:
            raise ValueError("a field is outside its message")
        value: int = struct.unpack_from(form, self._data, position)[0]
        return value

    def _place(self, field: int) -> int:
        """Return the position of a field, or 0 if it has the default."""
        if 6 + 2 * field > self._unpack("<H", self._fields):
            return 0
        offset = self._unpack("<H", self._fields + 4 + 2 * field)
        return self._at + offset if offset else 0

    def number(self, field: int, form: str) -> int:
        place = self._place(field)
        return self._unpack(form, place) if place else 0

    def table(self, field: int) -> _Table | None:
        place = self._place(field)
        return _Table(self._data, place + self._unpack("<I", place)) if place else None

    def structs(self, field: int, form: str) -> Iterator[tuple[Any, ...]]:
        place = self._place(field)
        if not place:
            return
        start = place + self._unpack("<I", place)
        count = self._unpack("<I", start)
        if count > MAX_BUFFERS:
            raise ValueError(f"a batch has more than {MAX_BUFFERS:,} buffers")
        for i in range(count):
            yield struct.unpack_from(form, self._data, start + 4 + i * struct.calcsize(form))


def _check_type(path: Path, name: str, kind: pa.DataType) -> None:
    """Raise `InputError` for types with shared memory, because their size is not known."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    is_shared = (
        pa.types.is_string_view(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
        or pa.types.is_run_end_encoded(kind)
        or pa.types.is_union(kind)
        or (pa.types.is_dictionary(kind) and pa.types.is_nested(kind.value_type))
    )
    if is_shared:
        raise InputError(
            f"the column {name[:80]!r} has the type {str(kind)[:80]}, which is not supported",
            place=str(path),
            hint="write the dataset as Parquet or JSON Lines",
        )
    if pa.types.is_nested(kind):
        for i in range(kind.num_fields):
            _check_type(path, name, kind.field(i).type)
