"""Tables that people bring come in as they are, or are refused with a reason."""

import gzip
import json

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError
from tasks.files import tables as table_file
from tasks.files.tables import read_table_file

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


def test_csv_becomes_numbers_only_where_nothing_is_lost(tmp_path):
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
        ("t.csv", b"a,b\n1,2\n3\n", "not readable as csv"),
        ("t.csv", b"a,b\n\xff\xfe,1\n", "not readable as csv"),
        ("t.parquet", b"PAR1 and nothing else", "not readable as parquet"),
        ("t.jsonl.gz", b"not gzip", "not readable as jsonl"),
        ("t.xlsx", b"x", "does not say what format"),
        ("t", b"x", "does not say what format"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
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
