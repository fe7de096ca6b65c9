"""Ids are content: the same thing has the same id on every machine and in every run."""

from __future__ import annotations

import hashlib
import io
import json
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.json as pj
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
"""Made once: ids are counted by the million."""


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, UTF-8 kept as it is."""
    return _encode(value)


def content_hash(value: Any) -> str:
    """sha256 (hex, 64 digits) of a JSON-able value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def content_id(prefix: str, *parts: Any) -> str:
    """A short, stable id such as `q_3f9a…` (16 hex digits, 64 bits)."""
    return f"{prefix}_{content_hash(list(parts))[:16]}"


def derived_seed(*parts: Any) -> int:
    """A 31-bit seed that depends on content only, never on order of work."""
    return int(content_hash(list(parts))[:8], 16) & 0x7FFFFFFF


def file_hash(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# Rows are frozen records; a table is a row type with a name, a key and one Arrow schema.
#
# The Arrow schema is derived from the row's annotations, so a column is declared once. Arrow columns are
# nullable throughout (Hub features know no "not null"); which values may be absent is the row's business.


class Row(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


R = TypeVar("R", bound=Row)
CONVERTED = 4096
"""Rows that are converted together."""

_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


def arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of one annotation: scalars, `Literal`, `X | None`, `tuple[X, ...]`, nested rows."""
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
    """A named table: its row type, its key column and what its columns refer to."""

    name: str
    row: type[R]
    key: str
    references: tuple[tuple[str, str], ...] = ()
    """Pairs of (column here, "table.column" there)."""

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema([(n, arrow_type(f.annotation)) for n, f in self.row.model_fields.items()])

    def to_arrow(self, rows: Iterable[R]) -> pa.Table:
        """Rows to Arrow, columns in the order of the row type; empty input keeps its types.

        They go through JSON, which both sides read and write exactly: pyarrow imports pandas, a second's
        work, before it makes an array of Python's objects.
        """
        left, parts = iter(rows), [pa.Table.from_batches([], self.arrow_schema)]
        while some := list(islice(left, CONVERTED)):
            lines = b"\n".join(to_json(row.model_dump(), inf_nan_mode="constants") for row in some)
            part = pj.read_json(
                io.BytesIO(lines),
                read_options=pj.ReadOptions(use_threads=False, block_size=len(lines) + 1),
                parse_options=pj.ParseOptions(self.arrow_schema, unexpected_field_behavior="error"),
            )
            parts.append(part)
        return pa.concat_tables(parts)

    def from_arrow(self, table: pa.Table) -> Iterator[R]:
        """Arrow to validated rows, in the table's order."""
        for batch in table.to_batches(max_chunksize=4096):
            for record in batch.to_pylist():
                yield self.row.model_validate(record)
