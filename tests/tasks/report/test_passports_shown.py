"""The card and the report show the audits of the judges."""

from __future__ import annotations

from pathlib import Path

from schemas.gate import Passport, ProbeResult
from schemas.recipe import Recipe
from schemas.release import Manifest
from tasks.package.card import write_card
from tasks.release import open_release
from tasks.report import report_data, write_report
from tests.tasks.judge.material import DATA


def with_passports(release: Path, recall: float) -> tuple[Recipe, Manifest]:
    """Return the release with a passport of the given recall for each judge."""
    manifest = open_release(release).manifest
    recipe = Recipe.model_validate(manifest.recipe)
    planted = ProbeResult(
        probe="planted", measure="recall_2", value=recall, low=recall, high=1.0, n=62, asked=62
    )
    passports = tuple(
        Passport(
            judge=judge,
            revision=None,
            rubric="four_scores",
            rubric_hash="",
            prompt_hash="",
            comparison="all_at_once",
            scenes=62,
            probes=(planted,),
        )
        for judge in recipe.models.judges
    )
    return recipe, manifest.model_copy(update={"passports": passports})


def card(release: Path, recipe: Recipe, manifest: Manifest) -> str:
    return " ".join(write_card(recipe, manifest, open_release(release).contents, DATA).split())


def test_card_warns_of_judges_without_audit(small_release: Path) -> None:
    recipe, manifest = with_passports(small_release, 1.0)
    text = card(small_release, recipe, manifest.model_copy(update={"passports": ()}))
    assert "not all above the bar" in text
    assert "was not audited" in text


def test_card_names_shortfalls_of_a_judge(small_release: Path) -> None:
    text = card(small_release, *with_passports(small_release, 0.31))
    assert "recall of medium planted differences: 0.31" in text.replace("\\", "")


def test_card_reports_passed_audits(small_release: Path) -> None:
    text = card(small_release, *with_passports(small_release, 1.0))
    assert "Every judge was audited" in text
    assert "not all above the bar" not in text


def test_report_has_a_table_for_every_passport(small_release: Path, tmp_path: Path) -> None:
    _, manifest = with_passports(small_release, 0.31)
    write_report(tmp_path / "report.html", report_data(manifest, open_release(small_release).contents), DATA)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("Passport of ") == len(manifest.passports) > 0
    assert "Below the bar." in page
    assert "0.310" in page
