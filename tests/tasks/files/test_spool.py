"""Rows on their way to a table: many, in order, and never all in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.tables import Row, Table
from tasks.run import store as spool
from tasks.run.store import Outcome, RowSpool, read_table, scan_table, write_step


class Word(Row):
    id: str
    length: int


WORDS: Table[Word] = Table("words", Word, key="id")


def words(count: int) -> list[Word]:
    return [Word(id=f"w{i:06d}", length=i % 7) for i in range(count)]


def spooled(rows: list[Word], folder: Path) -> RowSpool[Word]:
    found = RowSpool(WORDS, folder)
    for row in rows:
        found.append(row)
    return found


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 35])
def test_rows_come_back_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(spool, "ROW_GROUP", 10)
    rows = spooled(words(count), tmp_path)
    assert len(rows) == count
    assert list(rows) == words(count) == list(rows)
    assert rows == spooled(words(count), tmp_path)
    assert rows != spooled(words(count + 1), tmp_path)


def test_a_step_with_a_spool_is_read_like_any_other_and_the_same_to_the_byte(tmp_path: Path) -> None:
    steps = [
        write_step(tmp_path / name, "s", "0", Outcome({WORDS: spooled(words(9000), tmp_path)}, ()))
        for name in ("a", "b")
    ]
    refs = [step.table("words") for step in steps]
    assert refs[0].sha256 == refs[1].sha256
    assert refs[0].rows == 9000
    assert read_table(refs[0], WORDS) == words(9000) == list(scan_table(refs[0], WORDS))


def test_nothing_is_left_in_the_folder_before_it_is_saved(tmp_path: Path) -> None:
    rows = spooled(words(5000), tmp_path)
    assert list(tmp_path.iterdir()) == []
    rows.save(tmp_path / "words.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["words.parquet"]


def test_spool_is_closed_by_reading(tmp_path: Path) -> None:
    rows = spooled(words(3), tmp_path)
    assert words(1)[0] in rows
    with pytest.raises(ValueError, match="cannot be appended"):
        rows.append(words(1)[0])
