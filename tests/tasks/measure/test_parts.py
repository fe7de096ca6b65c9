"""Open answers are compared in parts, with the result of all answers at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Effect
from schemas.question import QUESTIONS
from tasks import measure
from tasks.measure import open_answers
from tasks.run.parts import PartRunner
from tests.tasks.release.example import a_context, large_build, write_ref
from tests.workers import send_to_workers


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("run_parts", [None, send_to_workers])
def test_parts_give_the_effects_of_all_answers_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, run_parts: PartRunner | None
) -> None:
    build, context = large_build(), a_context(tmp_path)
    tables = (
        write_ref(tmp_path / "questions.parquet", QUESTIONS, build.standing),
        write_ref(tmp_path / "responses.parquet", RESPONSES, build.responses),
        write_ref(tmp_path / "judgements.parquet", JUDGEMENTS, build.judgements),
    )
    whole = measure.measure(context, *tables)
    effects = [e for e in whole.tables[EFFECTS] if isinstance(e, Effect)]
    assert any(e.level == "question" and e.family == "open" for e in effects)
    monkeypatch.setattr(open_answers, "QUESTIONS_AT_ONCE", size)
    monkeypatch.setattr(open_answers, "LEAST_QUESTIONS", size)
    parts = measure.measure(context, *tables, run_parts=run_parts)
    assert list(parts.tables[EFFECTS]) == effects
    assert list(parts.tables[QUESTIONS]) == list(whole.tables[QUESTIONS])
    assert not list(Path(context.run_dir).glob(".measure-*"))
