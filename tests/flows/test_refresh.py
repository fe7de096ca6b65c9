"""The recipe of a refresh and its decision. The flow itself runs in test_schedule.py."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from flows.refresh import decision_of, next_recipe, write_recipe, write_review
from flows.workspace import Workspace, read_recipe
from schemas.release import RefreshDecision, ReviewItem
from tasks.release import ReleaseDirectory, open_release
from tests.conftest import DATA, recipe_of
from tests.release_fixtures import package_build
from tests.tasks.release.example import a_question, small_build

WRITTEN = recipe_of(name="everyday-advice", release={"version": "0.1.0", "repo": "org/everyday-advice"})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first(home: Path) -> ReleaseDirectory:
    return open_release(package_build(home, small_build()))


@pytest.fixture(scope="module")
def second(home: Path, first: ReleaseDirectory) -> ReleaseDirectory:
    more = a_question("religion", topic="asked me for a reference")
    return open_release(package_build(home, small_build().with_questions(more)))


def test_first_release_is_made_from_the_written_recipe() -> None:
    fresh = next_recipe(WRITTEN, None, "2026-W47")
    assert fresh.models == WRITTEN.models
    assert fresh.release.version is None
    assert fresh.release.repo == "org/everyday-advice"


def test_next_release_is_made_from_the_recipe_of_the_last_one(first: ReleaseDirectory) -> None:
    fresh = next_recipe(WRITTEN, first, "2026-W47")
    assert list(fresh.attributes) == first.manifest.recipe["attributes"] != list(WRITTEN.attributes)
    assert fresh.release.version is None


def test_a_period_has_one_seed(first: ReleaseDirectory, second: ReleaseDirectory) -> None:
    """However often it is refreshed, and whatever was released in between: no answer is paid for twice."""
    seeds = {next_recipe(WRITTEN, before, "2026-W47").seed for before in (None, first, second)}
    assert len(seeds) == 1
    assert next_recipe(WRITTEN, first, "2026-W48").seed not in seeds
    assert next_recipe(WRITTEN.model_copy(update={"seed": 8}), first, "2026-W47").seed not in seeds


def test_written_recipe_reads_back(tmp_path: Path, first: ReleaseDirectory) -> None:
    fresh = next_recipe(WRITTEN, first, "2026-W47")
    assert read_recipe(write_recipe(Workspace(DATA, tmp_path), fresh)) == fresh


def test_the_same_release_again_is_unchanged(first: ReleaseDirectory, second: ReleaseDirectory) -> None:
    assert decision_of(second, second).verdict == "unchanged"
    assert decision_of(first, first).verdict == "unchanged"


def test_a_question_more_is_safe_and_a_first_release_too(
    first: ReleaseDirectory, second: ReleaseDirectory
) -> None:
    assert decision_of(first, second).verdict == "safe"
    assert decision_of(None, first).verdict == "safe"


def test_another_label_is_for_people_to_look_at(tmp_path: Path, first: ReleaseDirectory) -> None:
    build = small_build()
    turned = tuple(
        q.model_copy(update={"label": "accepted"}) if q.label == "hard_negative" else q
        for q in build.standing
    )
    package_build(tmp_path, build)
    after = open_release(package_build(tmp_path, replace(build, standing=turned)))
    decision = decision_of(first, after)
    assert decision.verdict == "risky"
    review = write_review(Workspace(DATA, tmp_path), after, decision)
    assert review == str(tmp_path / "reviews" / "everyday-advice-1.0.0.csv")
    with Path(review).open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["kind"] for row in rows} >= {"relabelled"}


def test_nothing_to_look_at_is_no_sheet(tmp_path: Path, first: ReleaseDirectory) -> None:
    safe = RefreshDecision(verdict="safe", reasons=("as before",), review=())
    assert write_review(Workspace(DATA, tmp_path), first, safe) is None
    assert not (tmp_path / "reviews").exists()


def test_a_sheet_holds_no_formula(tmp_path: Path, first: ReleaseDirectory) -> None:
    item = ReviewItem(kind="schema", subject="=HYPERLINK(1)", why="+1")
    review = write_review(
        Workspace(DATA, tmp_path), first, RefreshDecision(verdict="risky", reasons=("r",), review=(item,))
    )
    assert "\n=" not in Path(review or "").read_text().replace(",", "\n")
