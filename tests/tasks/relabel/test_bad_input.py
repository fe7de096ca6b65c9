"""Broken or contradictory input is reported with its place or resolved by a rule. No row is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from tasks.models import ModelSettings
from tasks.relabel import relabel_file
from tests.tasks.relabel.test_file import ROW, rows, settings, write_grades, write_lines

__all__ = ["settings"]


def relabelled(tmp_path: Path, settings: ModelSettings, *records: dict[str, Any]) -> dict[str, Any]:
    source = write_lines(tmp_path / "in.jsonl", list(records))
    return relabel_file(source, settings=settings, out=tmp_path / "out.jsonl")


def written(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("line", "message"),
    [(b'{"query": "a", "pos": [', "not a JSON line"), (b'{"query": "\xff", "pos": ["a"]}', "UTF-8")],
)
def test_malformed_line_or_encoding_stops_with_its_number_or_is_skipped(
    line: bytes, message: str, tmp_path: Path, settings: ModelSettings
) -> None:
    path = tmp_path / "in.jsonl"
    good = json.dumps({"query": "q", "pos": ["p"], "neg": ["n"]}).encode()
    path.write_bytes(b"\n".join([good, line, good, b""]))
    with pytest.raises(InputError, match=message) as caught:
        relabel_file(path, settings=settings)
    assert caught.value.place == f"{path}:2"
    assert relabel_file(path, settings=settings, skip_bad=True)["rows_skipped"] == 1


def test_repeated_texts_are_removed_once_but_repeated_ids_and_rows_are_kept(
    tmp_path: Path, settings: ModelSettings
) -> None:
    negatives = [{"docid": "n", "text": t} for t in ("Bread.", "Rain.", "Bread.")]
    twice = ROW | {"negative_passages": negatives}
    found = relabelled(tmp_path, settings, twice, twice)
    assert (found["rows"], found["filtered"], found["id_clashes"]) == (2, 2, 1)
    assert found["report"]["by_reason"]["repeated_negative"] == 2
    texts = [[n["text"] for n in row["negative_passages"]] for row in written(tmp_path)]
    assert texts == [["Bread.", "Rain."]] * 2
    history = pq.read_table(tmp_path / "out.jsonl.label_history.parquet")["id"].to_pylist()
    assert len(set(history)) == len(history) == 2


def test_row_without_positives_is_written_as_it_came(tmp_path: Path, settings: ModelSettings) -> None:
    bare = ROW | {"positive_passages": []}
    found = relabelled(tmp_path, settings, bare, ROW)
    assert (found["rows_without_positives"], found["abstained"]) == (1, 3)
    assert [n["docid"] for n in written(tmp_path)[0]["negative_passages"]] == ["same", "near", "off"]


def test_passage_with_both_labels_stays_a_positive(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(
        tmp_path / "in.jsonl",
        [{"query": "a", "passage": "x", "label": 1}, {"query": "a", "passage": "x", "label": 0}],
    )
    found = relabel_file(source, settings=settings, out=tmp_path / "out.jsonl")
    assert found["report"]["by_reason"] == {"duplicate_of_positive": 1}
    assert written(tmp_path) == [{"query": "a", "passage": "x", "label": 1}]


@pytest.mark.parametrize("name", ["truth", "verdicts", "audited", "positives"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe\n"])
def test_file_beside_that_is_missing_or_not_utf8_is_named(
    name: str, content: bytes | None, tmp_path: Path, settings: ModelSettings
) -> None:
    source, beside = write_lines(tmp_path / "in.jsonl", rows(1)), tmp_path / "beside"
    if content is not None:
        beside.write_bytes(content)
    options: dict[str, Any] = {name: beside}
    with pytest.raises(InputError, match="there is no file" if content is None else "not a UTF-8") as caught:
        relabel_file(source, settings=settings, **options)
    assert content is None or caught.value.place == f"{beside}:1"


def test_contradicting_grades_are_an_error_with_their_line(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(tmp_path / "in.jsonl", rows(1))
    truth = tmp_path / "qrels"
    truth.write_text("q0 0 same 3\nq0 0 same 3\nq0 0 same 0\n", encoding="utf-8")
    with pytest.raises(InputError, match="grades 3 and 0") as caught:
        relabel_file(source, settings=settings, truth=truth)
    assert caught.value.place == f"{truth}:3"
    verdicts = write_grades(tmp_path / "v.csv", [("q0", "same", "j", 1), ("q0", "same", "j", 0)])
    with pytest.raises(InputError, match="both 1 and 0") as caught:
        relabel_file(source, settings=settings, verdicts=verdicts)
    assert caught.value.place == f"{verdicts}:3"


def test_contradicting_answers_of_people_are_an_error(tmp_path: Path, settings: ModelSettings) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("row,docid,query,passage,answers\nr,d,q,p,yes\nr,d,q,p,no\n", encoding="utf-8")
    with pytest.raises(InputError, match="yes and no"):
        relabel_file(write_lines(tmp_path / "in.jsonl", rows(1)), settings=settings, audited=sheet)


def test_place_that_cannot_hold_the_format_is_refused_before_any_work(
    tmp_path: Path, settings: ModelSettings
) -> None:
    source = write_lines(tmp_path / "in.jsonl", rows(1))
    with pytest.raises(InputError, match="cannot be written"):
        relabel_file(source, settings=settings, out=tmp_path / "out.tsv")
    assert not list(tmp_path.glob(".*parts"))


@pytest.mark.parametrize("text", ["bm25", "bm25:2", "bm25:x", "cosine:0.5", "bm25:0.1:0.1:0.1", "bm25:-1"])
def test_screen_that_is_none_is_refused(text: str, tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(tmp_path / "in.jsonl", rows(1))
    with pytest.raises(InputError, match="not a screen"):
        relabel_file(source, settings=settings, screen=text)
