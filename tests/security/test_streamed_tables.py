"""Tables that are streamed may have any size, and take a bounded amount of memory."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from tasks.files import bounded, records
from tasks.files.bounded import TooLargeError, stream_parquet
from tasks.files.footer import read_row_groups
from tasks.files.limits import MAX_BYTES_VARIABLE
from tasks.files.pages import read_pages
from tasks.files.records import open_bytes
from tasks.files.tables import read_table_file
from tests.security.commands import run_here

REPOSITORY = Path(__file__).resolve().parents[2]
MEASURE = """
import re, sys
from pathlib import Path
from tasks.files import bounded
bounded.MAX_BATCH_BYTES = int(sys.argv[2]) << 20
rows = sum(batch.num_rows for batch in bounded.stream_parquet(Path(sys.argv[1])))
print(rows, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10)
"""


def stream_in_a_process(path: Path, batch_mb: int) -> tuple[int, int]:
    """Return the number of rows, and the largest memory of the process in megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path, str(batch_mb)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    rows, megabytes = done.stdout.split()
    return int(rows), int(megabytes)


@pytest.mark.slow
def test_equal_texts_are_expanded_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 texts of 1 MB each would take 3 GB. The file has a few kilobytes."""
    text = pa.array(["x" * 1_000_000]).dictionary_encode().dictionary
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000, pa.int32()), text)
    pq.write_table(pa.table({"text": rows}), tmp_path / "bomb.parquet", store_schema=False)
    with pytest.raises(InputError, match="expands to more than 1,024 MB"):
        list(stream_parquet(tmp_path / "bomb.parquet"))
    monkeypatch.setenv(MAX_BYTES_VARIABLE, "4096")
    rows_read, megabytes = stream_in_a_process(tmp_path / "bomb.parquet", 256)
    assert rows_read == 3_000
    assert megabytes < 1_200


@pytest.mark.slow
def test_heavy_rows_behind_light_ones_come_in_small_batches(tmp_path: Path) -> None:
    """The mean row is small, but 600 rows in the middle have 1 MB each, without a dictionary."""
    schema = pa.schema({"text": pa.string()})
    light = pa.table({"text": ["y"] * 200_000})
    heavy = pa.table({"text": ["x" * 1_000_000] * 60})
    with pq.ParquetWriter(
        tmp_path / "skewed.parquet", schema, compression="zstd", use_dictionary=False
    ) as writer:
        for table in (light, *[heavy] * 10, light):
            writer.write_table(table)
    rows_read, megabytes = stream_in_a_process(tmp_path / "skewed.parquet", 32)
    assert rows_read == 400_600
    assert megabytes < 500


def test_streamed_rows_are_those_of_arrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table(
        {
            "text": ["a" * n for n in range(50)],
            "lists": [["x"] * (n % 4) if n % 5 else None for n in range(50)],
            "large": pa.array([str(n) for n in range(50)], pa.large_string()),
            "category": pa.array([str(n % 3) for n in range(50)]).dictionary_encode(),
            "map": pa.array([[("k", "v" * n)] for n in range(50)], pa.map_(pa.string(), pa.string())),
            "bytes": [b"x" * n for n in range(50)],
        },
        metadata={"kept": "yes"},
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=20)
    monkeypatch.setattr(bounded, "MAX_BATCH_BYTES", 900)
    batches = list(stream_parquet(tmp_path / "x.parquet"))
    assert len(batches) > 5
    read = pa.Table.from_batches(batches)
    assert read.schema == table.schema
    assert read.schema.metadata[b"kept"] == b"yes"
    assert read.to_pylist() == table.to_pylist()
    monkeypatch.setattr(bounded, "MAX_BATCH_BYTES", 100)
    with pytest.raises(TooLargeError, match="a row of 0 MB"):
        list(stream_parquet(tmp_path / "x.parquet"))


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_have_the_sizes_of_the_metadata(tmp_path: Path, compression: str, version: str) -> None:
    table = pa.table({"text": [str(n) for n in range(5_000)], "list": [[n, None] for n in range(5_000)]})
    path = tmp_path / "x.parquet"
    pq.write_table(
        table,
        path,
        compression=compression,
        data_page_version=version,
        row_group_size=1_500,
        data_page_size=512,
    )
    metadata = pq.read_metadata(path)
    groups = read_row_groups(path, metadata.num_columns)
    assert [group.rows for group in groups] == [1_500, 1_500, 1_500, 500]
    pages = [found for group in groups for found in read_pages(path, group.columns)]
    for number in range(2):
        chunks = [metadata.row_group(group).column(number) for group in range(metadata.num_row_groups)]
        assert sum(page.values for column, page in pages if column == number) == sum(
            chunk.num_values for chunk in chunks
        )
        assert sum(page.size for column, page in pages if column == number) <= sum(
            chunk.total_uncompressed_size for chunk in chunks
        )
    assert len(pages) > 20


def lie_about_a_page(path: Path, size: int) -> None:
    """Write a table, and let the header of its first page name another size after decompression."""
    pq.write_table(pa.table({"n": list(range(1000))}), path, use_dictionary=False, compression="zstd")
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    content = path.read_bytes()
    # Field 1 (type): 0x15 0x00. Field 2 (size): 0x15 and a number of two bytes, replaced by one of five.
    assert content[start : start + 3] == b"\x15\x00\x15"
    varint, value = bytearray(), size << 1
    while value > 0x7F:
        varint.append(value & 0x7F | 0x80)
        value >>= 7
    varint.append(value)
    body = content[: start + 3] + bytes(varint) + content[start + 5 :]
    path.write_bytes(body)


def test_header_that_promises_gigabytes_is_refused_before_they_are_reserved(tmp_path: Path) -> None:
    lie_about_a_page(tmp_path / "liar.parquet", 2_000_000_000)
    with pytest.raises(TooLargeError, match=r"a page of 1,907 MB"):
        list(stream_parquet(tmp_path / "liar.parquet"))
    with pytest.raises(TooLargeError, match=r"a page of 1,907 MB"):
        bounded.read_parquet(tmp_path / "liar.parquet")


@pytest.mark.parametrize("command", ["relabel", "deduplicate"])
def test_commands_name_the_page(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lie_about_a_page(tmp_path / "liar.parquet", 2_000_000_000)
    out = ("--out", tmp_path / "out", "--text", "n") if command == "deduplicate" else ()
    assert run_here(monkeypatch, tmp_path / "home", command, tmp_path / "liar.parquet", *out) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "liar.parquet has a page of 1,907 MB" in error


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / f"x.{suffix}"
    content = b"short\n" * 500_000 + b"x" * (3 << 20) + b"\n"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    with open_bytes(path) as stream:
        assert next(iter(stream)) == b"short\n"
    with open_bytes(path) as stream, pytest.raises(InputError, match="a line of more than 1 MB"):
        for _ in stream:
            pass


def test_compressed_text_that_expands_too_far_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MAX_BYTES_VARIABLE, "1")
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b'{"text": "same"}\n' * 200_000))
    with pytest.raises(InputError, match="expands to more than 1 MB"):
        read_table_file(tmp_path / "x.jsonl.gz")


DAMAGE_FOOTERS = """
import random, sys
from pathlib import Path
from schemas.errors import CounterfoilError
from tasks.files.bounded import scan_parquet

path, copy = Path(sys.argv[1]), Path(sys.argv[1]).with_suffix(".damaged")
content = path.read_bytes()
footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
for seed in range(int(sys.argv[2])):
    chance = random.Random(seed)
    damaged = bytearray(content)
    at = chance.randrange(footer, len(content) - 8)
    damaged[at] ^= 1 << chance.randrange(8)
    copy.write_bytes(damaged)
    try:
        list(scan_parquet(copy))
    except (CounterfoilError, ValueError, OSError):
        pass
print("done")
"""


@pytest.mark.parametrize("seeds", [200, pytest.param(3_000, marks=pytest.mark.slow)])
def test_damaged_footer_never_ends_the_process(tmp_path: Path, seeds: int) -> None:
    """PyArrow aborts if it is asked for column chunks whose metadata contradict each other."""
    table = pa.table({"text": ["a", None, "b"], "list": [[1], None, [2, None]], "number": [1, 2, None]})
    pq.write_table(table, tmp_path / "x.parquet", write_page_index=True)
    command = [sys.executable, "-c", DAMAGE_FOOTERS, str(tmp_path / "x.parquet"), str(seeds)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr[-2_000:]
