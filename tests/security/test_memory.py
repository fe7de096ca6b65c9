"""Small files that expand far take a bounded amount of memory in every command that reads them."""

from __future__ import annotations

import gzip
import json
import os
import struct
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
from tasks.files import bounded, limits, values
from tasks.files.arrow_stream import stream_arrow
from tasks.files.bounded import MemoryBudget, TooLargeError, read_parquet, stream_parquet
from tasks.files.pages import Page, RowLengths
from tasks.files.records import BadRows, read_records
from tasks.files.tables import read_table_file
from tests.security.hostile import change_manifest, copy_release
from tests.servers.openai_server import OpenAIServer

COUNTERFOIL = Path(sys.executable).with_name("counterfoil")
MEGABYTE = "x" * 1_000_000
LARGEST_MEMORY_MB = 1_500
MEASURED: list[str] = []


def equal_texts(count: int) -> pa.DictionaryArray:
    """Return texts of 1 MB each that take memory once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([MEGABYTE]))


def lists(array: Any, length: int) -> pa.ListArray:
    offsets = pa.array(range(0, len(array) + 1, length), pa.int32())
    return pa.ListArray.from_arrays(offsets, array)


def write_parquet(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **{"compression": "zstd", "store_schema": False, **options})
    assert path.stat().st_size < 200_000
    return path


def one_row(negatives: Any) -> pa.Table:
    return pa.table({"query": ["q"], "pos": [["p"]], "neg": lists(negatives, len(negatives))})


def zeros_in_one_row(folder: Path, count: int = 30_000_000) -> Path:
    return write_parquet(folder / "zeros.parquet", one_row(pa.array(np.zeros(count, np.int64))))


def fewer_zeros_in_one_row(folder: Path) -> Path:
    return zeros_in_one_row(folder, 9_000_000)


def texts_in_one_row(folder: Path) -> Path:
    return write_parquet(folder / "texts.parquet", one_row(equal_texts(4_400)))


def lists_of_lists(folder: Path) -> Path:
    return write_parquet(folder / "nested.parquet", one_row(lists(equal_texts(4_400), 1)))


def many_rows(folder: Path) -> Path:
    table = pa.table({"query": equal_texts(150), "pos": lists(equal_texts(150), 1)})
    return write_parquet(folder / "rows.parquet", table)


def fixed_size_values(folder: Path) -> Path:
    one = pa.array([MEGABYTE.encode()], pa.binary(1_000_000))
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), one)
    return write_parquet(folder / "fixed.parquet", pa.table({"query": values}))


def saved_dataset(folder: Path, batch: pa.RecordBatch, compression: str | None = "zstd") -> Path:
    """Write a dataset as `save_to_disk` does, with one compressed Arrow file."""
    place = folder / "saved"
    place.mkdir()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(str(place / "data.arrow"), batch.schema, options=options) as writer:
        writer.write_batch(batch)
    (place / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    return place


def compressed_buffers(folder: Path) -> Path:
    return saved_dataset(folder, pa.record_batch({"query": [MEGABYTE] * 400, "pos": [["p"]] * 400}))


def promised_terabyte(folder: Path) -> Path:
    """Let a compressed buffer of a few bytes name 1 TiB as its size."""
    place = saved_dataset(folder, pa.record_batch({"query": ["x" * 100] * 100}))
    content = bytearray((place / "data.arrow").read_bytes())
    at = content.index(struct.pack("<q", 10_000))
    content[at : at + 8] = struct.pack("<q", 1 << 40)
    (place / "data.arrow").write_bytes(content)
    return place


def arrow_dictionary(folder: Path) -> Path:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array([MEGABYTE * 100]))
    return saved_dataset(folder, pa.record_batch({"query": texts}))


def arrow_views(folder: Path) -> Path:
    """Let a thousand values share the same 10 MB."""
    one = pa.array([MEGABYTE * 10], pa.string_view())
    _, view, data = one.buffers()
    buffers = [None, pa.py_buffer(view.to_pybytes()[:16] * 1000), data]
    shared = pa.Array.from_buffers(pa.string_view(), 1000, buffers)
    return saved_dataset(folder, pa.record_batch({"query": shared}))


def compressed_text(name: str, start: bytes, part: bytes, count: int, end: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with gzip.open(folder / name, "wb") as stream:
            stream.write(start)
            block = part * 1_000
            for _ in range(count // 1_000):
                stream.write(block)
            stream.write(end)
        return folder / name

    write.__name__ = name.split(".")[0]
    return write


empty_lists = compressed_text(
    "empty.jsonl.gz", b'{"query": "q", "pos": ["p"], "neg": [', b"[],", 20_000_000, b"[]]}\n"
)
json_array = compressed_text("array.json.gz", b"[\n", b'{"query": "q"},\n' * 50, 1_500_000, b"{}]\n")
empty_cells = compressed_text(
    "cells.csv.gz", b"query" + b",a" * 1_500 + b"\n", b"q" + b"," * 1_500 + b"\n", 400_000, b""
)
many_keys = compressed_text(
    "keys.jsonl.gz",
    "".join(json.dumps({"query": "q", f"k{i}": "x"}) + "\n" for i in range(1_500)).encode(),
    b'{"query": "q"}\n',
    1_000_000,
    b"",
)
BOMBS = (
    zeros_in_one_row,
    texts_in_one_row,
    lists_of_lists,
    many_rows,
    fixed_size_values,
    compressed_buffers,
    promised_terabyte,
    arrow_dictionary,
    arrow_views,
)


def names(value: Any) -> str:
    return str(getattr(value, "__name__", value))


def measured(folder: Path, *arguments: object) -> tuple[int, int, str]:
    """Run a command. Return its exit code, its largest memory in megabytes, and its errors."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True, timeout=240)\n"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)\n"
        "print(done.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(COUNTERFOIL), *map(str, arguments)],
        env={**os.environ, "COUNTERFOIL_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    first, _, errors = done.stdout.partition("\n")
    exit_code, megabytes = map(int, first.split())
    MEASURED.append(f"{arguments[0]} ended with {exit_code} and took {megabytes} MB")
    return exit_code, megabytes, errors


def check_bounded(outcome: tuple[int, int, str], codes: set[int]) -> None:
    exit_code, megabytes, errors = outcome
    assert "Traceback" not in errors
    assert exit_code in codes, errors[-500:]
    assert megabytes < LARGEST_MEMORY_MB


@pytest.mark.slow
@pytest.mark.parametrize("bomb", [*BOMBS, empty_lists, json_array], ids=names)
def test_relabel_takes_bounded_memory(bomb: Callable[[Path], Path], tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out.jsonl")
    check_bounded(measured(tmp_path, "relabel", bomb(tmp_path), *out), {0, 2})


PARQUET = (zeros_in_one_row, texts_in_one_row, lists_of_lists, many_rows)
ALL_TABLES = (*PARQUET, fixed_size_values, empty_cells, many_keys, json_array)


@pytest.mark.slow
@pytest.mark.parametrize("bomb", ALL_TABLES, ids=names)
@pytest.mark.parametrize("option", ["input", "--against"])
def test_deduplicate_takes_bounded_memory(bomb: Callable[[Path], Path], option: str, tmp_path: Path) -> None:
    place = bomb(tmp_path)
    own = tmp_path / "own.jsonl"
    own.write_text('{"query": "one"}\n{"query": "two"}\n')
    inputs = (place,) if option == "input" else (own, "--against", place)
    outcome = measured(tmp_path, "deduplicate", *inputs, "--text", "query", "--out", tmp_path / "out")
    check_bounded(outcome, {0, 2})


@pytest.mark.slow
@pytest.mark.parametrize("bomb", PARQUET, ids=names)
def test_verify_and_evaluate_take_bounded_memory(
    bomb: Callable[[Path], Path], small_release: Path, tmp_path: Path
) -> None:
    release = copy_release(small_release, tmp_path)
    place = release / "data/questions/test-00000-of-00001.parquet"
    place.write_bytes(bomb(tmp_path).read_bytes())
    change_manifest(release, lambda manifest: None)
    check_bounded(measured(tmp_path, "verify", release), {6})
    with OpenAIServer("Yes") as server:
        model = server.model()
        evaluate = ("evaluate", release, "--model", model, "--free", model, "--judge", "divergence")
        check_bounded(measured(tmp_path, *evaluate, "--out", tmp_path / "out"), {2})
        assert not server.requests
    check_bounded(measured(tmp_path, "validate", release), {2, 3})


@pytest.fixture(autouse=True)
def _print_memory(request: pytest.FixtureRequest) -> Any:
    """Print the measurements of a test: `pytest -s -m slow tests/security/test_memory.py`."""
    MEASURED.clear()
    yield
    for line in MEASURED:
        print(f"{request.node.name}: {line}")


@pytest.mark.parametrize("bomb", [texts_in_one_row, fewer_zeros_in_one_row], ids=names)
def test_row_that_is_too_large_is_refused_before_it_is_read(
    bomb: Callable[[Path], Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError):
        next(stream_parquet(bomb(tmp_path)))


@pytest.mark.parametrize(
    "bomb", [compressed_buffers, promised_terabyte, arrow_dictionary, arrow_views], ids=names
)
def test_arrow_stream_is_refused_before_memory_is_reserved(
    bomb: Callable[[Path], Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError):
        next(stream_arrow(bomb(tmp_path) / "data.arrow", 100))


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_ordinary_arrow_stream_is_read(tmp_path: Path, compression: str | None) -> None:
    category = pa.array(["a", "b", None] * 10).dictionary_encode()
    batch = pa.record_batch({"query": [str(n) for n in range(30)], "neg": [["x", None]] * 30, "c": category})
    place = saved_dataset(tmp_path, batch, compression)
    parts = list(stream_arrow(place / "data.arrow", 7))
    assert [part.num_rows for part in parts] == [7, 7, 7, 7, 2]
    assert pa.Table.from_batches(parts).to_pylist() == batch.to_pylist()
    assert [row.record for row in read_records(place, BadRows())] == batch.to_pylist()


def test_arrow_offsets_outside_their_buffer_are_refused(tmp_path: Path) -> None:
    place = saved_dataset(tmp_path, pa.record_batch({"query": ["abc", "def", "ghi"]}), None) / "data.arrow"
    content = bytearray(place.read_bytes())
    at = content.index(struct.pack("<4i", 0, 3, 6, 9))
    content[at : at + 16] = struct.pack("<4i", 0, 1 << 30, 6, 9)
    place.write_bytes(content)
    with pytest.raises((InputError, pa.ArrowInvalid)):
        list(stream_arrow(place, 10))


@pytest.mark.parametrize(
    "content", ["[" * 200_000, "{}", '{"splits": 3}', '{"splits": [[]]}', '{"splits": ["../x"]}']
)
def test_index_of_a_saved_dataset_is_checked(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset_dict.json").write_text(content)
    with pytest.raises(InputError):
        list(read_records(tmp_path, BadRows()))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
def test_rows_of_nested_columns_are_counted_from_their_levels(
    tmp_path: Path, compression: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MAX_UNCHECKED_BYTES", 0)
    table = pa.table(
        {"neg": [[["x" * (n % 7)] * (n % 3)] * (n % 40) if n % 11 else None for n in range(900)]}
    )
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, compression=compression, data_page_version=version, data_page_size=300)
    assert pa.Table.from_batches(list(stream_parquet(path, 64))).to_pylist() == table.to_pylist()
    monkeypatch.setattr(bounded, "MAX_BATCH_BYTES", 500)
    with pytest.raises(TooLargeError, match="a row of 0 MB"):
        list(stream_parquet(path))


def test_row_may_span_pages(tmp_path: Path) -> None:
    """Levels of two pages: 0 1 1 | 1 1 0 1. The first row has five values."""
    lengths = RowLengths(1, "UNCOMPRESSED")
    for levels in ((0, 1, 1), (1, 1, 0, 1)):
        packed = bytes([3, sum(level << i for i, level in enumerate(levels))])
        (tmp_path / "page").write_bytes(len(packed).to_bytes(4, "little") + packed)
        with (tmp_path / "page").open("rb") as file:
            lengths.add(file, Page(len(levels), 6, 0, 6))
    assert (lengths.rows, lengths.longest) == (2, 5)


def test_tables_of_a_release_share_one_limit(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": list(range(1_000))}), tmp_path / "x.parquet")
    budget = MemoryBudget(30_000)
    read_parquet(tmp_path / "x.parquet", budget=budget)
    budget.used = 29_000
    with pytest.raises(TooLargeError, match="together with the tables before it"):
        read_parquet(tmp_path / "x.parquet", budget=budget)


def test_streamed_file_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.MAX_BYTES_VARIABLE, "10")
    table = pa.table({"text": equal_texts(40)})
    with pytest.raises(InputError, match="times its size"):
        list(stream_parquet(write_parquet(tmp_path / "x.parquet", table)))


def test_json_of_small_values_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b'{"neg": [' + b"[]," * 1_000_000 + b"[]]}"
    assert values.parse_json(text)
    with pytest.raises(ValueError, match="MB of memory"):
        values.parse_json(text, 100 << 20)
    with pytest.raises(ValueError, match="nested too deeply"):
        values.parse_json(b"[" * 200_000 + b"NaN" + b"]" * 200_000)
    monkeypatch.setenv(limits.MAX_BYTES_VARIABLE, "1")
    (tmp_path / "x.json").write_bytes(b"[" + b'{"query": "q"},' * 60_000 + b"{}]")
    with pytest.raises(InputError, match="MB of JSON"):
        list(read_records(tmp_path / "x.json", BadRows()))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("keys.jsonl", b'{"a": 1}\n' * 30_000 + b"".join(b'{"k%d": 1}\n' % i for i in range(50))),
        ("columns.jsonl", b"".join(b'{"k%d": 1}\n' % i for i in range(2_500))),
        ("cells.csv", b"a" + b",b" * 99 + b"\n" + (b"," * 99 + b"\n") * 4_000),
        ("columns.csv", b"a" + b",b" * 2_500 + b"\n" + b"x" + b",y" * 2_500 + b"\n"),
    ],
)
def test_empty_cells_are_counted(
    tmp_path: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(limits.MAX_BYTES_VARIABLE, "1")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TooLargeError):
        read_table_file(tmp_path / name)
