"""Events are appended completely, in order, and once."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.labels import Act
from tasks.review.events import (
    ReviewLog,
    append_event,
    append_events,
    file_name,
    latest_verdicts,
    read_events,
    reviewer_name,
    reviews_folder,
    subject_of,
)


def verdict(subject_id: str, label: str = "good", note: str = "") -> Act:
    return Act.model_validate(
        {"action": "verdict", "subject": "question", "subject_id": subject_id, "verdict": label, "note": note}
    )


def undo(event_id: str, subject_id: str) -> Act:
    return Act(action="undo", subject="question", subject_id=subject_id, undoes=event_id)


def own_file(directory: Path) -> Path:
    (path,) = directory.glob("*.jsonl")
    return path


def test_events_are_read_in_the_order_of_writing(tmp_path: Path) -> None:
    stored = [append_event(tmp_path, "anna", verdict(f"q_{i}")) for i in range(5)]
    assert read_events(tmp_path) == {"anna": stored}
    assert [event.number for event in stored] == list(range(5))


def test_reviewers_have_files_of_their_own(tmp_path: Path) -> None:
    append_event(tmp_path, "berta", verdict("q_1"))
    append_event(tmp_path, "anna", verdict("q_1"))
    assert list(read_events(tmp_path)) == ["anna", "berta"]
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_an_incomplete_last_line_is_skipped_reported_and_removed(tmp_path: Path) -> None:
    first = append_event(tmp_path, "anna", verdict("q_1"))
    with own_file(tmp_path).open("ab") as stream:
        stream.write(b'{"id":"r_1","reviewer":"an')
    with pytest.warns(UserWarning, match="incomplete last line"):
        assert read_events(tmp_path) == {"anna": [first]}
    second = append_event(tmp_path, "anna", verdict("q_2"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_events(tmp_path) == {"anna": [first, second]}


def test_an_event_without_newline_is_ignored(tmp_path: Path) -> None:
    append_event(tmp_path, "anna", verdict("q_1"))
    path = own_file(tmp_path)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    stored = append_event(tmp_path, "anna", verdict("q_1"))
    assert read_events(tmp_path) == {"anna": [stored]}


def test_an_invalid_line_is_reported_with_its_number(tmp_path: Path) -> None:
    append_event(tmp_path, "anna", verdict("q_1"))
    with own_file(tmp_path).open("ab") as stream:
        stream.write(b'{"id": 3}\n')
    with pytest.raises(InputError) as error:
        read_events(tmp_path)
    assert str(error.value.place).endswith(".jsonl:2")


def test_a_repeated_verdict_is_not_stored_again(tmp_path: Path) -> None:
    first = append_event(tmp_path, "anna", verdict("q_1", note="fine"))
    assert append_event(tmp_path, "anna", verdict("q_1", note="fine")) == first
    assert append_event(tmp_path, "anna", verdict("q_1", note="finer")) != first
    assert len(read_events(tmp_path)["anna"]) == 2


def test_a_repeated_undo_counts_once_and_restores_the_previous_verdict(tmp_path: Path) -> None:
    good = append_event(tmp_path, "anna", verdict("q_1"))
    offensive = append_event(tmp_path, "anna", verdict("q_1", "offensive"))
    taken = append_event(tmp_path, "anna", undo(offensive.id, "q_1"))
    assert append_event(tmp_path, "anna", undo(offensive.id, "q_1")) == taken
    events = read_events(tmp_path)["anna"]
    assert len(events) == 3
    assert latest_verdicts(events) == {subject_of(good): good}


def test_after_an_undo_the_same_verdict_can_be_given_again(tmp_path: Path) -> None:
    good = append_event(tmp_path, "anna", verdict("q_1"))
    again = append_events(tmp_path, "anna", [undo(good.id, "q_1"), verdict("q_1")])[1]
    assert again.id != good.id
    assert list(latest_verdicts(read_events(tmp_path)["anna"]).values()) == [again]


def _append_twenty(directory: Path, writer: int) -> None:
    for i in range(20):
        append_event(directory, "anna", verdict(f"q_{writer}_{i}"))


def test_processes_that_write_at_once_do_not_interleave(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_twenty, args=(tmp_path, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    events = read_events(tmp_path)["anna"]
    assert [event.number for event in events] == list(range(60))
    assert len({event.subject_id for event in events}) == 60


def test_threads_that_write_at_once_do_not_interleave(tmp_path: Path) -> None:
    writers = [threading.Thread(target=_append_twenty, args=(tmp_path, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len({event.number for event in read_events(tmp_path)["anna"]}) == 60


def test_an_open_log_reads_new_events(tmp_path: Path) -> None:
    log = ReviewLog(tmp_path)
    append_event(tmp_path, "anna", verdict("q_1"))
    assert log.refresh()
    assert not log.refresh()
    assert len(log.events["anna"]) == 1


def test_a_missing_folder_has_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "nobody") == {}


HOSTILE = ["../../etc/passwd", "a/b", "NUL", "Anna", "anna ", "Ärger", "=cmd()", ".hidden", "x" * 80, "名前"]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_becomes_a_file_in_its_directory(tmp_path: Path, name: str) -> None:
    stored = append_event(tmp_path / "reviews", name, verdict("q_1"))
    path = own_file(tmp_path / "reviews")
    assert path.resolve().parent == (tmp_path / "reviews").resolve()
    assert read_events(tmp_path / "reviews") == {stored.reviewer: [stored]}


@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=5, unique=True))
def test_different_names_have_different_files_ignoring_case(names: list[str]) -> None:
    files = [file_name(name) for name in names]
    assert len({file.casefold() for file in files}) == len(names)
    assert all("/" not in file and not file.startswith(".") and file.isascii() for file in files)


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\u202eb", "a\x00b"])
def test_unprintable_names_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        reviewer_name(name)


def test_one_name_written_in_two_ways_is_one_reviewer() -> None:
    assert reviewer_name(" A\u0308nne   B ") == reviewer_name("Änne B")


def test_a_benchmark_that_is_named_like_a_path_stays_below_reviews(tmp_path: Path) -> None:
    assert reviews_folder(tmp_path, "../other").parent == tmp_path / "reviews"
