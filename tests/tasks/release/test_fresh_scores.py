"""The first screen shows scores on fresh answers, not those that decided the selection."""

from __future__ import annotations

from pathlib import Path

from schemas.answers import JUDGEMENTS
from schemas.question import QUESTIONS
from tasks.release import CONTROLS, open_release
from tasks.release.fitness import fresh_scores_by_outcome
from tasks.report import report_data, write_report
from tests.tasks.judge.material import DATA


def test_scores_of_the_search_are_no_part(planted_release: Path) -> None:
    contents = open_release(planted_release).contents
    questions, judgements = contents.rows(QUESTIONS), contents.rows(JUDGEMENTS)
    found = fresh_scores_by_outcome(questions, contents.rows(CONTROLS), judgements)
    fresh = {j.question_id for j in judgements if j.phase == "holdout" and j.fitness is not None}
    assert sum(map(len, found.values())) == len(fresh)
    searched = [j.model_copy(update={"phase": "search"}) for j in judgements]
    assert fresh_scores_by_outcome(questions, contents.rows(CONTROLS), searched) == {}


def test_page_shows_fresh_scores_beside_the_verdict_on_trust(planted_release: Path, tmp_path: Path) -> None:
    opened = open_release(planted_release)
    page = tmp_path / "report.html"
    write_report(page, report_data(opened.manifest, opened.contents), DATA)
    text = page.read_text(encoding="utf-8")
    assert "Do selected questions differ from controls?" in text
    assert "score on fresh answers" in text
    assert "the picture is no evidence" not in text, "the search has a section of its own"
