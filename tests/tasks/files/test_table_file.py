"""Tables that people bring come in as they are, or are refused with a reason."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError
from tasks.files import tables as table_file
from tasks.files.tables import escape_cell, read_csv_rows, read_table_file, unescape_cell, write_csv

ROWS = [
    {"text": "two\nlines", "n": 1, "day": "2025-01-02", "tags": ["2025-01-02"], "code": "007"},
    {"text": 'ünïcode, "quoted"', "n": 2, "day": "2025-01-03T10:00:00Z", "tags": [], "code": "010"},
]
LINES = "\n".join(map(json.dumps, ROWS)).encode()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("t.jsonl", bytes),
        ("t.jsonl.gz", gzip.compress),
        ("t.ndjson.zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_json_lines_keep_their_dates_as_text(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(LINES))
    assert read_table_file(tmp_path / name).to_pylist() == ROWS


def test_parquet_keeps_its_types(tmp_path):
    table = pa.table({"x": pa.array([1, None], pa.int8())})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_table_file(tmp_path / "t.parquet") == table


def test_csv_becomes_numbers_only_if_nothing_is_lost(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        'text,n,code,share,empty\n"two\nlines",1,007,0.5,\n"a ""b""",-20,10,1.25,\n', encoding="utf-8"
    )
    assert read_table_file(path).to_pylist() == [
        {"text": "two\nlines", "n": 1, "code": "007", "share": 0.5, "empty": ""},
        {"text": 'a "b"', "n": -20, "code": "10", "share": 1.25, "empty": ""},
    ]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")), min_size=1))
def test_any_text_comes_out_of_a_csv_as_it_went_in(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    pcsv.write_csv(pa.table({"text": texts}), path)
    read = ["" if value is None else str(value) for value in read_table_file(path)["text"].to_pylist()]
    assert read == texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b"", "has no rows"),
        ("t.csv", b"a,b\n", "has no rows"),
        ("t.parquet", b"", "has no rows"),
        ("t.jsonl", b"not json\n", "not readable as jsonl"),
        ("t.csv", b"a,b\n1,2\n3\n", r"(?s)the row has 1 cell.*t\.csv:3"),
        ("t.csv", b"a,b\n\xff\xfe,1\n", r"(?s)not a UTF-8 text file.*t\.csv:2"),
        ("t.parquet", b"PAR1 and nothing else", "not readable as parquet"),
        ("t.jsonl.gz", b"not gzip", "damaged or incomplete"),
        ("t.xlsx", b"x", "the format of .* is unknown"),
        ("t", b"x", "the format of .* is unknown"),
    ],
)
def test_unreadable_cells_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_table_file(tmp_path / name)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_table_file(tmp_path / "absent.csv")


def test_a_file_can_be_read_some_rows_at_a_time_as_often_as_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "BATCH_ROWS", 7)
    table = pa.table({"n": list(range(50)), "text": [f"row {i}" for i in range(50)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    pj = "\n".join(json.dumps(row) for row in table.to_pylist())
    (tmp_path / "a.jsonl").write_text(pj)
    for name in ("a.parquet", "a.jsonl"):
        file = table_file.TableFile(tmp_path / name)
        assert file.rows == 50
        for _ in range(2):
            batches = list(file.batches())
            assert max(batch.num_rows for batch in batches) <= 7
            assert pa.Table.from_batches(batches).to_pylist() == table.to_pylist()


def test_a_file_without_rows_has_none_to_give(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has no rows"):
        table_file.TableFile(tmp_path / "a.parquet")


@given(st.text())
def test_escaping_a_cell_disarms_formulas_and_can_be_undone(text):
    starts = ("=", "+", "-", "@", "\t", "\r")
    assert not escape_cell(text).startswith(starts) or re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", text, re.I)
    if not (text.startswith("'") and unescape_cell(text) != text):
        assert unescape_cell(escape_cell(text)) == text


def test_a_written_sheet_reads_back_with_the_first_line_of_each_row(tmp_path):
    path = tmp_path / "sheet.csv"
    rows = [{"id": "-1", "text": "two\nlines"}, {"id": "2", "text": "=1+1"}]
    write_csv(path, ("id", "text"), rows)
    assert list(read_csv_rows(path, ("text",), escaped=True)) == [
        (f"{path}:2", rows[0]),
        (f"{path}:4", rows[1]),
    ]
    assert [row["id"] for _, row in read_csv_rows(path)] == ["-1", "2"]  # numbers stay numbers
    assert [row["text"] for _, row in read_csv_rows(path)] == ["two\nlines", "'=1+1"]


def test_compressed_csv_is_read_row_by_row(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert list(read_csv_rows(path)) == [(f"{path}:2", {"a": "1", "b": "2"})]


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        (b"a\n1\n", "missing column: b", 1),
        (b"a,b,b\n1,2,3\n", "the column b occurs twice", 1),
        (b'a,b\n1,2\n"open,2\n3,4\n', "not readable as CSV", 3),
        (b"a,b\n1,2,3\n", "the row has 3 cells, the header 2", 2),
    ],
)
def test_a_broken_csv_is_refused_with_its_line(tmp_path, content, message, line):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(read_csv_rows(path, ("b",)))
    assert caught.value.place == f"{path}:{line}"
