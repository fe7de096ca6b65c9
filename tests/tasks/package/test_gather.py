"""Gathering: one table of several, each row once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.answers import RESPONSES
from schemas.question import QUESTIONS, Question
from tasks.expand import expand_family
from tasks.package.assemble import gather_tables as gather
from tasks.run.store import Outcome, RunContext, TableRef, write_step
from tests.conftest import DATA, recipe_of


def part(place: Path, questions: list[Question]) -> TableRef:
    return write_step(place, "x", "0", Outcome(tables={QUESTIONS: questions}, counts=())).table("questions")


def test_row_in_two_parts_counts_once_and_the_later_part_wins(
    tmp_path: Path, make_context: Callable[..., RunContext]
) -> None:
    questions = expand_family(recipe_of(), DATA, "open")
    later = [questions[0].model_copy(update={"fitness": 0.5})]
    outcome = gather(make_context(), [part(tmp_path / "a", questions), part(tmp_path / "b", later)])
    rows = outcome.tables[QUESTIONS]
    assert len(rows) == len(questions)
    assert {r.fitness for r in rows if isinstance(r, Question) and r.id == questions[0].id} == {0.5}


def test_parts_of_different_kinds_are_refused(
    tmp_path: Path, make_context: Callable[..., RunContext]
) -> None:
    other = write_step(tmp_path / "r", "x", "0", Outcome(tables={RESPONSES: []}, counts=())).table(
        "responses"
    )
    with pytest.raises(ValueError, match="too many values"):
        gather(make_context(), [part(tmp_path / "a", []), other])
