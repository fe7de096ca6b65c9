"""Content hashes and ids, and tables of frozen rows with Arrow schemas.

Ids are content hashes: equal content has the same id on every machine and in every run.
"""

from __future__ import annotations

import hashlib
import io
import json
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.json as pj
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
"""Built once, because a build computes millions of ids."""


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces, unescaped UTF-8."""
    return _encode(value)


def content_hash(value: Any) -> str:
    """Return the sha256 (64 hex digits) of a JSON-serialisable value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def content_id(prefix: str, *parts: Any) -> str:
    """Return a short stable id such as `q_3f9a…` (16 hex digits, 64 bits)."""
    return f"{prefix}_{content_hash(list(parts))[:16]}"


def derived_seed(*parts: Any) -> int:
    """Return a 31-bit seed that depends only on `parts`, never on the order of work."""
    return int(content_hash(list(parts))[:8], 16) & 0x7FFFFFFF


def file_hash(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Row(BaseModel):
    """A frozen record that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


R = TypeVar("R", bound=Row)
CHUNK_ROWS = 4096
"""Rows converted at a time."""
SHARED_LENGTH, MOST_SHARED = 200, 65_536
"""Longest text that rows share, and number of texts that are remembered."""

_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


def arrow_type(annotation: Any) -> pa.DataType:
    """Return the Arrow type of an annotation: scalar, `Literal`, `X | None`, `tuple[X, ...]` or nested row.

    Raises:
        TypeError: If the annotation has no Arrow type.
    """
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return pa.string() if isinstance(args[0], str) else pa.int64()
    if origin in (Union, types.UnionType):
        (inner,) = [a for a in args if a is not type(None)]
        return arrow_type(inner)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return pa.list_(arrow_type(args[0]))
    if isinstance(annotation, type) and issubclass(annotation, Row):
        return pa.struct([(n, arrow_type(f.annotation)) for n, f in annotation.model_fields.items()])
    raise TypeError(f"no Arrow type for {annotation!r}")


@dataclass(frozen=True)
class Table(Generic[R]):
    """A named table with a row type, a key column and references.

    The Arrow schema is derived from the row's annotations, so a column is declared once. All Arrow columns
    are nullable, because features on the Hub have no "not null". The row type decides which values may be
    absent.
    """

    name: str
    row: type[R]
    key: str
    references: tuple[tuple[str, str], ...] = ()
    """Pairs of (own column, referenced "table.column")."""

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema of the row type."""
        return pa.schema([(n, arrow_type(f.annotation)) for n, f in self.row.model_fields.items()])

    def to_arrow(self, rows: Iterable[R]) -> pa.Table:
        """Convert rows to Arrow, columns in the order of the row type. Empty input keeps the types."""
        # Rows go through JSON, which both sides read and write exactly. To build arrays from Python objects,
        # pyarrow would first import pandas, which takes a second.
        remaining, parts = iter(rows), [pa.Table.from_batches([], self.arrow_schema)]
        while chunk := list(islice(remaining, CHUNK_ROWS)):
            lines = b"\n".join(to_json(row.model_dump(), inf_nan_mode="constants") for row in chunk)
            part = pj.read_json(
                io.BytesIO(lines),
                read_options=pj.ReadOptions(use_threads=False, block_size=len(lines) + 1),
                parse_options=pj.ParseOptions(self.arrow_schema, unexpected_field_behavior="error"),
            )
            parts.append(part)
        return pa.concat_tables(parts)

    def from_arrow(self, table: pa.Table) -> Iterator[R]:
        """Yield validated rows in the table's order.

        Rows of one column set share the set of their field names, and equal short texts are one object, in
        nested rows too. Both save more than half of the memory of a row.
        """
        known: dict[str, str] = {}
        given: dict[tuple[type[Row], int], set[str]] = {}
        for batch in table.to_batches(max_chunksize=CHUNK_ROWS):
            for record in batch.to_pylist():
                _share_texts(record, known)
                row = self.row.model_validate(record)
                _share_field_names(row, given)
                yield row
            if len(known) > MOST_SHARED:
                known.clear()


def _share_texts(record: dict[str, Any], known: dict[str, str]) -> None:
    for name, value in record.items():
        if type(value) is str:
            if len(value) <= SHARED_LENGTH:
                record[name] = known.setdefault(value, value)
        elif type(value) is list:
            for part in value:
                if type(part) is dict:
                    _share_texts(part, known)


def _share_field_names(row: Row, given: dict[tuple[type[Row], int], set[str]]) -> None:
    kind = type(row)
    names = row.__pydantic_fields_set__
    object.__setattr__(row, "__pydantic_fields_set__", given.setdefault((kind, len(names)), names))
    for name in nested_fields(kind):
        for part in getattr(row, name):
            _share_field_names(part, given)


@cache
def nested_fields(row: type[Row]) -> tuple[str, ...]:
    """Return the names of the fields that are tuples of rows."""
    return tuple(name for name, field in row.model_fields.items() if _is_rows(field.annotation))


def _is_rows(annotation: Any) -> bool:
    inner = get_args(annotation)[:1] if get_origin(annotation) is tuple else ()
    return any(isinstance(kind, type) and issubclass(kind, Row) for kind in inner)
