"""A config's Parquet file: the same bytes for the same rows, and features that `datasets` understands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.release.canary import CANARY_COLUMN
from tasks.release.configs import CONFIGS, QUESTION_CONFIGS

if TYPE_CHECKING:
    from datasets import Features


def features_of(config: str) -> Features:
    """What `datasets` calls the columns of a config, the canary included."""
    from datasets import Features

    schema = CONFIGS[config].arrow_schema
    if config in QUESTION_CONFIGS:
        schema = schema.append(pa.field(CANARY_COLUMN, pa.string()))
    return Features.from_arrow_schema(schema)


def release_table(config: str, rows: pa.Table, canary: str) -> pa.Table:
    """A config's rows as they are released: with the canary and the `huggingface` schema metadata."""
    if config in QUESTION_CONFIGS:
        rows = rows.append_column(CANARY_COLUMN, pa.array([canary] * rows.num_rows, pa.string()))
    return rows.cast(features_of(config).arrow_schema)


def write_parquet(path: Path, table: pa.Table) -> None:
    """zstd, page index, content-defined chunks; on disk when this returns.

    An empty table gets no row group at all: `datasets` refuses a row group of no rows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(
        path, table.schema, compression="zstd", write_page_index=True, use_content_defined_chunking=True
    ) as writer:
        if table.num_rows:
            writer.write_table(table)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
