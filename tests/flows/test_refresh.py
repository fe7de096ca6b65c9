"""The recipe of a refresh and its decision. The flow itself runs in test_schedule.py."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from flows.next_refresh import next_recipe
from flows.refresh import (
    decision_of,
    recipe_changes,
    refuse_changes,
    reproduced_questions,
    with_contamination,
    write_review,
)
from flows.workspace import Workspace
from schemas.errors import InputError
from schemas.recipe import Budget, Recipe
from schemas.release import RefreshDecision, ReviewItem
from tasks.release import ReleaseDirectory, open_release
from tasks.report.contamination import not_probed
from tests.conftest import DATA, recipe_of
from tests.release_fixtures import package_build
from tests.tasks.release.example import example_question, small_build

WRITTEN = recipe_of(name="everyday-advice", release={"version": "0.1.0", "repo": "org/everyday-advice"})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first(home: Path) -> ReleaseDirectory:
    return open_release(package_build(home, small_build()))


@pytest.fixture(scope="module")
def second(home: Path, first: ReleaseDirectory) -> ReleaseDirectory:
    more = example_question("religion", topic="asked me for a reference")
    return open_release(package_build(home, small_build().with_questions(more)))


def test_the_written_recipe_decides_everything() -> None:
    fresh = next_recipe(WRITTEN, "2026-W47")
    assert fresh.release.version is None
    assert fresh.release.repo == "org/everyday-advice"
    unchanged = {"seed": WRITTEN.seed, "release": WRITTEN.release}
    assert fresh.model_copy(update=unchanged) == WRITTEN


def test_a_period_has_one_seed() -> None:
    """Repeated refreshes of a period never pay twice for an answer."""
    seed = next_recipe(WRITTEN, "2026-W47").seed
    assert next_recipe(WRITTEN, "2026-W47").seed == seed
    assert next_recipe(WRITTEN, "2026-W48").seed != seed
    assert next_recipe(WRITTEN.model_copy(update={"seed": 8}), "2026-W47").seed != seed


def test_differences_are_listed_and_changes_of_the_meaning_must_be_accepted(first: ReleaseDirectory) -> None:
    recipe = Recipe.model_validate(first.manifest.recipe)
    assert recipe_changes(first, recipe) == ()
    cheaper = recipe.model_copy(update={"budget": Budget(usd=0.5)})
    (lowered,) = recipe_changes(first, cheaper)
    assert (lowered.key, lowered.after, lowered.meaning) == ("budget.usd", "0.5", False)
    refuse_changes(first, (lowered,))
    targets = (*recipe.models.targets, "openai:one-more")
    more = recipe.model_copy(update={"models": recipe.models.model_copy(update={"targets": targets})})
    changes = recipe_changes(first, more)
    assert [change.key for change in changes if change.meaning] == ["models.targets"]
    with pytest.raises(InputError, match=r"models\.targets: .* became .*openai:one-more"):
        refuse_changes(first, changes)
    assert recipe_changes(None, more) == ()


def decided(before: ReleaseDirectory | None, after: ReleaseDirectory) -> RefreshDecision:
    return decision_of(before, after, Recipe.model_validate(after.manifest.recipe), DATA)


def test_the_same_release_again_is_unchanged(first: ReleaseDirectory, second: ReleaseDirectory) -> None:
    assert decided(second, second).verdict == "unchanged"
    assert decided(first, first).verdict == "unchanged"


def test_a_first_release_is_safe(first: ReleaseDirectory) -> None:
    assert decided(None, first).verdict == "safe"


def test_a_small_release_is_for_people_to_look_at(
    tmp_path: Path, first: ReleaseDirectory, second: ReleaseDirectory
) -> None:
    decision = decided(first, second)
    assert decision.verdict == "risky"
    assert all(reason.startswith("inconclusive") for reason in decision.reasons)
    review = write_review(Workspace(DATA, tmp_path), second, decision)
    assert review == str(tmp_path / "reviews" / f"everyday-advice-{second.manifest.version}.csv")
    with Path(review).open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["kind"] for row in rows} == {"inconclusive"}


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


def flagged_contamination(*, flagged: bool) -> dict[str, Any]:
    test = {"test": "continuation", "corrected": 0.001, "effect": 0.4, "flagged": flagged}
    return {"status": "measured", "models": [{"model": "openai:first", "flagged": flagged, "tests": [test]}]}


def test_questions_that_a_flagged_model_reproduced_are_named() -> None:
    flagged, other = flagged_contamination(flagged=True), flagged_contamination(flagged=False)
    flagged["models"][0]["reproduced"], other["models"][0]["reproduced"] = ["q_2", "q_1"], ["q_3"]
    both = {"status": "measured", "models": [*flagged["models"], *other["models"]]}
    assert reproduced_questions(both) == ("q_1", "q_2")
    assert reproduced_questions(not_probed("the models were not probed")) == ()


def test_a_model_that_knows_the_questions_makes_a_refresh_risky() -> None:
    safe = RefreshDecision(verdict="safe", reasons=("as before",), review=())
    assert with_contamination(safe, flagged_contamination(flagged=False)) == safe
    risky = with_contamination(safe, flagged_contamination(flagged=True))
    assert risky.verdict == "risky"
    assert risky.reasons == (
        "contamination: openai:first: it knows the published questions: continuation (p = 0.001, "
        "effect +0.40)",
    )
    assert [(item.kind, item.subject) for item in risky.review] == [("contamination", "openai:first")]
    unchanged = RefreshDecision(verdict="unchanged", reasons=("nothing differs",), review=())
    assert with_contamination(unchanged, flagged_contamination(flagged=True)) == unchanged
    assert with_contamination(safe, not_probed("the models were not probed")) == safe
