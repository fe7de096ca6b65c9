"""Adopting keeps the questions of a release without their measurements."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.answers import RESPONSES
from schemas.question import QUESTIONS
from schemas.tables import file_hash
from tasks.mend import ADOPT_STAGE
from tasks.release import ReleaseRef
from tasks.run.store import RunContext, read_table, run_stage
from tests.material.good_release import write_release
from tests.material.good_tables import good_tables


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> ReleaseRef:
    path = tmp_path_factory.mktemp("releases") / "good"
    write_release(path, *good_tables())
    return ReleaseRef(path=str(path), sha256=file_hash(path / "manifest.json"))


def test_both_parts_together_are_the_release(
    release: ReleaseRef, make_context: Callable[..., RunContext]
) -> None:
    parts = {
        part: read_table(
            run_stage(ADOPT_STAGE, make_context(), release=release, part=part).table("questions"), QUESTIONS
        )
        for part in ("open", "templated")
    }
    assert {q.family == "open" for q in parts["open"]} == {True}
    assert "open" not in {q.family for q in parts["templated"]}
    asked = [q for part in parts.values() for q in part]
    tables, _ = good_tables()
    released = {q.id for q in tables["questions"] if q.label != "hard_negative"}
    assert {q.id for q in asked} == released
    assert {q.fitness for q in asked} == {None}


def test_answers_come_along_only_when_asked_for(
    release: ReleaseRef, make_context: Callable[..., RunContext], tmp_path: Path
) -> None:
    step = run_stage(ADOPT_STAGE, make_context(), release=release, part="open", answers=True)
    answers = read_table(step.table("responses"), RESPONSES)
    ids = {q.id for q in read_table(step.table("questions"), QUESTIONS)}
    assert {r.phase for r in answers} <= {"holdout"}
    assert {r.question_id for r in answers} <= ids
