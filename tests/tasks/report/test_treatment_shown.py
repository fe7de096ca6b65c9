"""The report shows the correction of a judge with human scores of treatment."""

from __future__ import annotations

from pathlib import Path

from schemas.release import CorrectedTreatment, PeopleReview
from tasks.release import open_release
from tasks.report import report_data, summarise_release, write_report
from tests.tasks.judge.material import DATA

ROW = CorrectedTreatment(
    judge="openai:judge",
    model="openai:model",
    attribute="gender",
    value="woman",
    groups=200,
    labels=40,
    judge_only=-1.25,
    judge_low=-1.5,
    judge_high=-1.0,
    people_only=-0.5,
    people_low=-0.9,
    people_high=-0.1,
    corrected=-0.45,
    corrected_low=-0.7,
    corrected_high=-0.2,
    weight=0.8,
    labels_to_halve=180,
)
REVIEW = PeopleReview(
    people=2,
    questions=0,
    passages=0,
    kept=0,
    dropped=0,
    edited=0,
    contested=0,
    undecided=0,
    shared=0,
    alpha=None,
    alpha_low=None,
    alpha_high=None,
    answers=40,
    treatment=(ROW,),
)


def render_report(release: Path, folder: Path, review: PeopleReview) -> str:
    manifest = open_release(release).manifest.model_copy(update={"review": review})
    page = folder / "report.html"
    write_report(page, report_data(manifest, open_release(release).contents), DATA)
    return page.read_text(encoding="utf-8")


def test_report_shows_the_judge_alone_people_alone_and_the_corrected_mean(
    small_release: Path, tmp_path: Path
) -> None:
    page = render_report(small_release, tmp_path, REVIEW)
    assert "Who is treated worse" in page
    for figure in ("−1.25", "−0.50", "−0.45"):
        assert figure in page


def test_report_names_missing_measurements(small_release: Path, tmp_path: Path) -> None:
    missing = ROW.model_copy(
        update={"corrected": None, "people_only": None, "status": "not_measured", "reason": "labels: none"}
    )
    page = render_report(small_release, tmp_path, REVIEW.model_copy(update={"treatment": (missing,)}))
    assert "not measured: labels: none" in page


def test_summary_has_the_corrected_mean_and_what_is_missing(small_release: Path) -> None:
    release = open_release(small_release)
    missing = ROW.model_copy(update={"value": "man", "corrected": None, "reason": "labels: none"})
    review = REVIEW.model_copy(update={"treatment": (ROW, missing)})
    manifest = release.manifest.model_copy(update={"review": review})
    *_, corrected, absent = summarise_release(manifest, release.contents, DATA)
    assert "human labels of 40 of 200 groups" in corrected
    assert "-0.45 (-0.70 to -0.20)" in corrected
    assert "judge alone has -1.25" in corrected
    assert absent.startswith("Not measured with human labels")
    assert "labels: none" in absent
