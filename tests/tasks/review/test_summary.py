"""The review summary of a release, and the number of required reviews."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.recipe import Review
from schemas.release import PeopleReview
from tasks.release import read_manifest
from tasks.review import accepted_questions, reviews_needed
from tasks.review.events import current_verdicts, summarise_reviews
from tests.release_fixtures import package_build
from tests.tasks.release.example import example_question, small_build
from tests.tasks.review.test_settlements import make_event

IDS = [f"q_{i}" for i in range(6)]
EVENTS = {
    "Ada": [
        make_event("Ada", i, name, verdict="good" if i else "offensive") for i, name in enumerate(IDS[:4])
    ],
    "Ben": [make_event("Ben", i, name, verdict="good") for i, name in enumerate(IDS[:5])],
    "Cleo": [
        make_event("Cleo", 0, "p", subject="passage", query_id="who", verdict="answers"),
        make_event("Cleo", 1, "q_gone", verdict="good"),
    ],
}


def test_the_summary_covers_the_build_and_has_no_names() -> None:
    found = summarise_reviews(current_verdicts(EVENTS), IDS, {("who", "p")})
    assert found is not None
    assert (found.people, found.questions, found.passages) == (3, 5, 1)
    assert (found.kept, found.contested, found.shared) == (4, 1, 4)
    assert not any(name in found.model_dump_json() for name in EVENTS)
    assert summarise_reviews(current_verdicts(EVENTS), ["q_elsewhere"], ()) is None


def test_the_card_reports_reviews_and_warns_of_disagreement(tmp_path: Path) -> None:
    seen = PeopleReview(
        people=3,
        questions=1200,
        passages=0,
        kept=1100,
        dropped=80,
        edited=9,
        contested=11,
        undecided=0,
        shared=240,
        alpha=0.71,
        alpha_low=0.62,
        alpha_high=0.8,
    )
    release = package_build(tmp_path, small_build(), review=seen)
    card = " ".join((release / "README.md").read_text(encoding="utf-8").split())
    assert "People: 3; groups: 1,200" in card
    assert "is 0.71 (95 % interval 0.62 to 0.80)" in card
    assert "> **Reviewers are divided.**" in card
    assert read_manifest(release).review == seen


def test_a_card_without_reviews_does_not_mention_them(tmp_path: Path) -> None:
    card = (package_build(tmp_path, small_build()) / "README.md").read_text(encoding="utf-8")
    assert "Looked at by people" not in card
    assert "divided" not in card


@pytest.mark.parametrize(
    ("share", "accepted", "needed"), [(0.2, 60, 12), (0.1, 30, 3), (0.2, 61, 13), (1, 7, 7)]
)
def test_a_share_is_rounded_up(share: float, accepted: int, needed: int) -> None:
    assert reviews_needed(Review(required=True, share=share), accepted) == needed
    assert reviews_needed(Review(share=share), accepted) == 0


def test_the_share_is_of_accepted_open_questions() -> None:
    asked = [
        example_question(),
        example_question(topic="another thing", label="hard_negative"),
        example_question(control="a_a", label="control"),
        example_question(family="decision"),
    ]
    assert accepted_questions(asked) == [asked[0].id]
