"""Small files that claim many rows are refused before the work. Large files of a person are read."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from tasks.files.arrow_stream import stream_arrow
from tasks.files.bounded import read_parquet, stream_parquet
from tasks.files.limits import MAX_ROWS_VARIABLE
from tasks.files.records import BadRows, read_records
from tasks.files.tables import TableFile, read_table_file
from tests.security.hostile import change_manifest, copy_release

COUNTERFOIL = Path(sys.executable).with_name("counterfoil")
MANY = 300_000_000
PART = 5_000_000


def write_parts(path: Path, part: Any, rows: int) -> Path:
    """Write a table that repeats a part. A row group of equal values takes about 200 bytes."""
    table = pa.table(part)
    with pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False) as writer:
        for _ in range(rows // len(table)):
            writer.write_table(table, row_group_size=len(table))
    return path


def equal_texts(folder: Path, rows: int = PART) -> Path:
    indices = pa.array(np.zeros(PART, np.int8))
    texts = pa.DictionaryArray.from_arrays(indices, pa.array(["the same text"]))
    return write_parts(folder / "equal.parquet", {"query": texts}, rows)


def missing_texts(folder: Path, rows: int = PART) -> Path:
    return write_parts(folder / "missing.parquet", {"query": pa.nulls(PART, pa.string())}, rows)


def empty_lists(folder: Path, rows: int = PART) -> Path:
    empty = pa.ListArray.from_arrays(pa.array(np.zeros(PART + 1, np.int32)), pa.array([], pa.string()))
    columns = {"query": pa.nulls(PART, pa.string()), "pos": empty, "neg": empty}
    return write_parts(folder / "lists.parquet", columns, rows)


def missing_values_in_lists(folder: Path, rows: int = 5 * PART) -> Path:
    """Few rows with many values, which take no space either."""
    offsets = pa.array(np.arange(0, PART + 1, 1_000, dtype=np.int32))
    values = pa.ListArray.from_arrays(offsets, pa.nulls(PART, pa.bool_()))
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(values), np.int8)), pa.array(["x"]))
    return write_parts(folder / "values.parquet", {"query": texts, "neg": values}, rows // 1_000)


FILES = (equal_texts, missing_texts, empty_lists, missing_values_in_lists)


def names(value: Any) -> str:
    return str(getattr(value, "__name__", value))


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COUNTERFOIL, *map(str, arguments)],
        env={**os.environ, "COUNTERFOIL_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("make", FILES, ids=names)
def test_every_reader_refuses_too_many_rows(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    assert path.stat().st_size < 200_000
    readers: tuple[Callable[[Path], Any], ...] = (
        TableFile,
        read_parquet,
        lambda path: next(stream_parquet(path)),
        lambda path: next(read_records(path, BadRows())),
        lambda path: next(read_records(path.parent, BadRows())),
    )
    for read in readers:
        with pytest.raises(InputError) as refused:
            read(path)
        assert MAX_ROWS_VARIABLE in str(refused.value.hint)


@pytest.mark.slow
@pytest.mark.parametrize("make", FILES, ids=names)
@pytest.mark.parametrize("command", ["deduplicate", "against", "validate", "relabel", "verify"])
def test_every_command_refuses_too_many_rows(
    make: Callable[[Path, int], Path], command: str, small_release: Path, tmp_path: Path
) -> None:
    path = make(tmp_path, MANY)
    own = tmp_path / "own.jsonl"
    own.write_text('{"query": "one"}\n{"query": "two"}\n')
    release = copy_release(small_release, tmp_path)
    (release / "data/questions/test-00000-of-00001.parquet").write_bytes(path.read_bytes())
    change_manifest(release, lambda manifest: None)
    done = {
        "deduplicate": lambda: run(tmp_path, "deduplicate", path, "--text", "query", "--out", "out"),
        "against": lambda: run(
            tmp_path, "deduplicate", own, "--text", "query", "--against", path, "--out", "out"
        ),
        "validate": lambda: run(tmp_path, "validate", path),
        "relabel": lambda: run(tmp_path, "relabel", path, "--out", "out.jsonl"),
        "verify": lambda: run(tmp_path, "verify", release),
    }[command]()
    assert done.returncode == (6 if command == "verify" else 2), done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"too many rows|\d rows|values", done.stdout + done.stderr)
    assert not list(tmp_path.glob("out*/*"))


def test_rows_of_ordinary_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short, repeated texts under ids: the densest table that people make."""
    monkeypatch.setenv(MAX_ROWS_VARIABLE, "0")
    rows = 50_000
    table = pa.table({"id": np.arange(rows), "query": [f"text {i * 7919 % 5_000}" for i in range(rows)]})
    pq.write_table(table, tmp_path / "own.parquet", compression="zstd")
    assert TableFile(tmp_path / "own.parquet").rows == rows
    lines = [json.dumps({"id": i, "query": f"text {i * 7919 % 5_000}"}) for i in range(rows)]
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    (tmp_path / "own.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    for name in ("own.jsonl", "own.jsonl.gz"):
        assert len(read_table_file(tmp_path / name)) == rows
    assert sum(1 for _ in read_records(tmp_path / "own.jsonl", BadRows())) == rows


def test_variable_names_another_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_ROWS_VARIABLE, "9999")
    pq.write_table(pa.table({"query": ["a"] * 10_000}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"x.parquet has too many rows for its size: 10,000 or more in"):
        TableFile(tmp_path / "x.parquet")
    monkeypatch.setenv(MAX_ROWS_VARIABLE, "10000")
    assert TableFile(tmp_path / "x.parquet").rows == 10_000
    monkeypatch.setenv(MAX_ROWS_VARIABLE, "many")
    assert TableFile(tmp_path / "x.parquet").rows == 10_000


def test_files_of_a_folder_share_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_ROWS_VARIABLE, "20000")
    for number in range(3):
        pq.write_table(pa.table({"query": ["a"] * 9_000}), tmp_path / f"train-0000{number}-of-00003.parquet")
    with pytest.raises(InputError, match="too many rows"):
        list(read_records(tmp_path, BadRows()))


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.gz", "x.tsv.gz"])
def test_compressed_lines_are_counted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_ROWS_VARIABLE, "10000")
    row = {"jsonl": '{"query": "q"}\n', "json": '{"query": "q"},', "tsv": "q\tp\tn\n"}[name.split(".")[1]]
    text = f"[{row * 100_000}{{}}]" if name == "x.json.gz" else row * 100_000
    (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    with pytest.raises(InputError, match="too many rows"):
        for _ in read_records(tmp_path / name, BadRows()):
            pass


def test_objects_on_one_line_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_ROWS_VARIABLE, "10000")
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b'{"query": "q"}' * 100_000))
    with pytest.raises(InputError):
        read_table_file(tmp_path / "x.jsonl.gz")


def test_rows_of_arrow_messages_are_counted(tmp_path: Path) -> None:
    """A column of the type null takes no space."""
    batch = pa.record_batch({"query": pa.nulls(10_000_000)})
    with pa.ipc.new_stream(str(tmp_path / "data.arrow"), batch.schema) as writer:
        for _ in range(30):
            writer.write_batch(batch)
    assert (tmp_path / "data.arrow").stat().st_size < 20_000
    with pytest.raises(InputError, match="too many rows"):
        next(stream_arrow(tmp_path / "data.arrow", 100))


def test_values_of_arrow_lists_are_counted(tmp_path: Path) -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 100_000_000], pa.int32()), pa.nulls(100_000_000))
    batch = pa.record_batch({"query": lists})
    with pa.ipc.new_stream(str(tmp_path / "data.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(InputError, match="too many values"):
        next(stream_arrow(tmp_path / "data.arrow", 100))


def test_footer_with_two_numbers_of_rows_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": ["a"] * 1_000}), tmp_path / "x.parquet")
    content = (tmp_path / "x.parquet").read_bytes()
    number = bytes([0xD0, 0x0F])  # 1,000 as a zigzag varint
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    at = content.index(number, start)  # the rows of the file stand before its row groups
    (tmp_path / "x.parquet").write_bytes(content[:at] + bytes([0xD2, 0x0F]) + content[at + 2 :])
    for read in (TableFile, read_parquet, lambda path: next(stream_parquet(path))):
        with pytest.raises(InputError, match=r"it has 1,001 rows, and its row groups have 1,000"):
            read(tmp_path / "x.parquet")
