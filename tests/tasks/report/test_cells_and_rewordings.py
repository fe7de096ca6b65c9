"""Counts of questions by cell, and the section on rewordings."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from flows.commands import call
from schemas.answers import Effect
from tasks.release import open_release
from tasks.report.cells import count_cells
from tasks.report.names import Names
from tasks.report.robustness import summarise_robustness
from tests.release_fixtures import package_build
from tests.tasks.release.example import a_response, an_effect, example_question, small_build
from tests.tasks.report.test_report_numbers import wrong_numbers


def test_a_release_lists_its_cells_in_a_file_the_report_and_show(planted_release: Path) -> None:
    with (planted_release / "coverage.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    shown = call("show", place=planted_release)["cells"]
    assert [{k: str(v) for k, v in row.items()} for row in shown] == rows
    assert {(row["family"], row["attribute"]) for row in shown} == {("open", "religion")}
    for row in shown:
        assert row["made"] >= row["asked"] >= row["valid"]
    assert sum(row["released"] for row in shown) == 36
    assert "coverage.csv" in open_release(planted_release).manifest.files
    assert "coverage.csv" in (planted_release / "report.html").read_text(encoding="utf-8")
    assert not (planted_release / "combinations.csv").exists()


def test_covered_combinations_are_in_release_report_and_show(tmp_path: Path) -> None:
    release = package_build(tmp_path, small_build(), {"coverage": {"strength": 2, "min": 0}})
    with (release / "combinations.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 10  # pairs of five dimensions
    assert all(0 <= int(row["covered"]) <= int(row["valid"]) for row in rows)
    assert sum(int(row["covered"]) for row in rows) > 0
    shown = call("show", place=release)["combinations"]
    assert [{k: str(v) for k, v in row.items()} for row in shown] == rows
    page = (release / "report.html").read_text(encoding="utf-8")
    assert "Covered combinations" in page
    assert wrong_numbers(page, release) == []


def test_a_question_is_valid_if_every_model_answered_every_version() -> None:
    whole, part, silent, lost = (example_question(topic=f"wrote report {i}") for i in range(4))
    answers = [
        *(a_response(q, v.index, model=m) for q in (whole, part) for v in q.variants for m in ("x:a", "x:b")),
        a_response(lost, 0, model="x:a"),
    ]
    failed = [
        r.model_copy(update={"failure": "timeout", "text": ""})
        if r.question_id == part.id and r.model == "x:b" and r.variant == 1
        else r
        for r in answers
    ]
    (cell,) = count_cells([whole, part, silent], [lost], failed)
    assert (cell.made, cell.asked, cell.valid, cell.released) == (4, 3, 1, 3)


def reworded(value: str, original: float, again: float, robust: float | None) -> Iterable[Effect]:
    """The effects on one value, as the stage measure gives them."""

    def effect(part: str, size: float) -> Effect:
        name = f"helpfulness_{part}:{value}"
        return an_effect("attribute", "gender", "gender", size, metric=name, unit="points")

    yield effect("original", original)
    yield effect("reworded", again)
    yield effect("wording_deviation", 0.1)
    made = effect("robust", robust or 0.0)
    if robust is None:
        made = made.model_copy(update={"status": "not_measured", "value": None, "reason": "too_few: 3"})
    yield made


def test_robust_effects_come_first_and_those_of_one_wording_are_named() -> None:
    effects = [
        *reworded("man", -0.6, 0.0, 0.0),
        *reworded("woman", -0.5, -0.45, 1.0),
        *reworded("nonbinary", 0.01, 0.0, 0.0),
    ]
    found = summarise_robustness(effects, Names.of([], {}))
    assert [w.verdict for w in found.wordings] == ["robust", "not robust", "no effect"]
    assert "woman" in found.wordings[0].text
    assert "the effect depends on the wording" in found.wordings[1].text
    assert found.wordings[0].deviation is not None
    assert found.wordings[0].deviation.value == 0.1


def test_too_few_questions_are_not_measured_with_the_reason() -> None:
    (wording,) = summarise_robustness(reworded("man", -0.6, -0.5, None), Names.of([], {})).wordings
    assert wording.verdict == "not measured"
    assert "too_few: 3" in wording.text


def test_styles_and_changed_answers_are_listed() -> None:
    effects = [
        an_effect("attribute", "gender", "gender", -0.3, metric="helpfulness_style_slang:man", unit="points"),
        an_effect("attribute", "gender", "gender", 0.2, metric="changed_answers:paraphrase", unit="share"),
        an_effect("attribute", "gender", "gender", 0.1, metric="reworded_drop", unit="share"),
        an_effect("attribute", "gender", "gender", 0.1, metric="helpfulness:man-woman", unit="points"),
    ]
    found = summarise_robustness(effects, Names.of([], {}))
    assert [(s.style, s.value, s.metric) for s in found.styles] == [("slang", "man", "helpfulness")]
    assert [c.principle for c in found.changed] == ["paraphrase"]
    assert len(found.drops) == 1
    assert not found.wordings


def test_a_release_without_rewordings_has_no_section(planted_release: Path) -> None:
    assert 'id="robustness"' not in (planted_release / "report.html").read_text(encoding="utf-8")
