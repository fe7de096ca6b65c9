"""Judgements are the same if the questions are judged in one part or in many."""

from __future__ import annotations

from pathlib import Path

import pytest

import tasks.judge as stage
from schemas.answers import JUDGEMENTS, RESPONSES
from schemas.question import QUESTIONS
from tasks.run.partitions import first_questions, split_by_question
from tasks.run.parts import PartRunner
from tests.tasks.release.example import a_context, large_build, write_ref
from tests.workers import send_to_workers


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("run_parts", [None, send_to_workers])
def test_parts_give_the_same_rows_counts_and_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, run_parts: PartRunner | None
) -> None:
    build = large_build()
    context = a_context(tmp_path)
    questions = write_ref(tmp_path / "questions.parquet", QUESTIONS, build.standing)
    responses = write_ref(tmp_path / "responses.parquet", RESPONSES, build.responses)
    whole = stage.judge(context, questions, responses, "holdout", judges=["divergence"])
    monkeypatch.setattr(stage, "JUDGED_AT_ONCE", size)
    monkeypatch.setattr(stage, "LEAST_QUESTIONS", size)
    parts = stage.judge(context, questions, responses, "holdout", judges=["divergence"], run_parts=run_parts)
    assert list(parts.tables[JUDGEMENTS]) == list(whole.tables[JUDGEMENTS])
    assert (parts.counts, parts.costs) == (whole.counts, whole.costs)
    assert not list(Path(context.run_dir).glob(".judge-*"))


def test_every_row_is_in_the_part_of_its_question(tmp_path: Path) -> None:
    build = large_build()
    questions = write_ref(tmp_path / "questions.parquet", QUESTIONS, build.standing)
    responses = write_ref(tmp_path / "responses.parquet", RESPONSES, build.responses)
    bounds = first_questions(questions, size=5)
    asked = [part.rows(QUESTIONS) for part in split_by_question(questions, "id", bounds, tmp_path)]
    given = [part.rows(RESPONSES) for part in split_by_question(responses, "question_id", bounds, tmp_path)]
    assert sorted(q.id for part in asked for q in part) == sorted(q.id for q in build.standing)
    assert sum(map(len, given)) == len(build.responses)
    assert all(len(part) <= 5 for part in asked)
    for part, answers in zip(asked, given, strict=True):
        assert {r.question_id for r in answers} <= {q.id for q in part}
