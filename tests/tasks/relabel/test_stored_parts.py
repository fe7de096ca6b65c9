"""Parts of a stopped relabelling are used only if they are what was written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from tasks.relabel.planning import RATE_FILE, read_rates
from tasks.relabel.stored_parts import Parts, Summary

SUMMARY = Summary(counts={"rows": 1}, judged_by=("lexical",))


def lead_away(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty summary": lambda part: (part / "summary.json").write_text(""),
    "other summary": lambda part: (part / "summary.json").write_text("[1]"),
    "summary of before": lambda part: (part / "summary.json").write_text('{"counts": {}}'),
    "deep summary": lambda part: (part / "summary.json").write_text("[" * 100_000),
    "bytes": lambda part: (part / "summary.json").write_bytes(b"\xff\x00"),
    "more rows": lambda part: (part / "sets.jsonl").write_text("{}\n"),
    "changes": lambda part: (part / "changes.jsonl").write_text("{}\n"),
    "no review": lambda part: (part / "review.jsonl").unlink(),
    "a link": lambda part: lead_away(part / "sets.jsonl"),
    "a link to a summary": lambda part: lead_away(part / "summary.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_parts_are_done_again(damage: str, tmp_path: Path) -> None:
    parts = Parts(tmp_path / ".out.parts", "job")
    parts.write(0, [], SUMMARY)
    found = Parts(tmp_path / ".out.parts", "job").find(0)
    assert found is not None
    assert (found.counts, tuple(found.judged_by)) == ({"rows": 1}, ("lexical",))
    DAMAGES[damage](parts.folder / "00000")
    assert parts.find(0) is None
    assert not (parts.folder / "00000").exists()
    parts.write(0, [], SUMMARY)
    assert parts.find(0) is not None


def test_part_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("mine")
    parts = Parts(tmp_path / ".out.parts", "job")
    (parts.folder / "00000").symlink_to(tmp_path / "other")
    assert parts.find(0) is None
    assert (tmp_path / "other" / "mine").read_text() == "mine"


@pytest.mark.parametrize("kind", ["folder", "file", "pipe", "link", "link to nothing"])
def test_foreign_folder_in_place_of_parts_is_kept(kind: str, tmp_path: Path) -> None:
    place = tmp_path / ".out.parts"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("mine")
    {
        "folder": lambda: (tmp_path / "other").rename(place),
        "file": lambda: place.write_text("mine"),
        "pipe": lambda: os.mkfifo(place),
        "link": lambda: place.symlink_to(tmp_path / "other"),
        "link to nothing": lambda: place.symlink_to(tmp_path / "nothing"),
    }[kind]()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(InputError, match="not a folder of this program"):
        Parts(place, "job")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_parts_of_another_job_are_deleted(tmp_path: Path) -> None:
    Parts(tmp_path / ".out.parts", "job").write(0, [], SUMMARY)
    assert Parts(tmp_path / ".out.parts", "other").find(0) is None


@pytest.mark.parametrize(
    "content", [b"[[[", b"[5]", b"\xff\x00", b'{"a": "x", "b": -1, "c": 1e999}', b"null"]
)
def test_damaged_rates_have_no_effect(content: bytes, tmp_path: Path) -> None:
    (tmp_path / RATE_FILE).write_bytes(content)
    assert read_rates(tmp_path) == {}
