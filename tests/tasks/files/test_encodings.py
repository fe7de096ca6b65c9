"""Every reader refuses a file that is not UTF-8 with its first invalid byte and line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import InputError
from tasks.files.tables import TableFile, read_table_file
from tasks.gate.examination import GateContext
from tasks.gate.foreign import examine_dataset
from tasks.measure import measure_file

RECORD = '{"statement": "s", "condition": "plain", "response": "café"}\n'
FILES = {
    "a.csv": "statement,condition,response\ns,plain,yes\ns,plain,café\n",
    "a.tsv": "statement\tcondition\tresponse\ns\tplain\tyes\ns\tplain\tcafé\n",
    "a.jsonl": RECORD.replace("café", "yes") * 2 + RECORD,
    "a.csv.gz": "statement,condition,response\ns,plain,yes\ns,plain,café\n",
}
READERS: dict[str, Callable[[Path], object]] = {
    "validate": lambda path: examine_dataset(path, GateContext()),
    "measure": lambda path: measure_file("agreement", path, format="statements"),
    "deduplicate": TableFile,
    "question files": read_table_file,
}


def put(folder: Path, name: str, encoding: str) -> Path:
    path = folder / name
    content = FILES[name].encode(encoding)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", FILES)
def test_the_first_invalid_byte_is_named_with_its_line(tmp_path: Path, name: str, reader: str) -> None:
    with pytest.raises(InputError, match="byte 0xe9") as caught:
        READERS[reader](put(tmp_path, name, "latin-1"))
    assert str(caught.value.place).endswith(f"{name}:3")
    assert "UTF-8" in str(caught.value.hint)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", FILES)
def test_utf_16_is_named(tmp_path: Path, name: str, reader: str) -> None:
    with pytest.raises(InputError, match="UTF-16"):
        READERS[reader](put(tmp_path, name, "utf-16"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", FILES)
def test_utf_8_is_read(tmp_path: Path, name: str, reader: str) -> None:
    assert READERS[reader](put(tmp_path, name, "utf-8"))
