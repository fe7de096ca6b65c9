"""The decision about a refreshed release: only unsurprising ones are published without a review."""

from __future__ import annotations

import random
from typing import Any

from schemas.answers import RESPONSES
from schemas.question import QUESTIONS
from schemas.release import ReleaseComparison
from tasks.package.compare import decide, moved_effects, relabelled_questions
from tasks.release import Contents
from tests.tasks.judge.material import make_choice, make_response
from tests.tasks.measure.test_measure import YES_NO


def comparison(**changes: Any) -> ReleaseComparison:
    fields: dict[str, Any] = {
        "old_version": "1.0.0",
        "new_version": "1.1.0",
        "bump": "minor",
        "added": (),
        "removed": (),
        "reworded": (),
        "relabelled": (),
        "schema_changes": (),
        "common": 10,
        "fitness_drift": 0.0,
        **changes,
    }
    return ReleaseComparison(**fields)


QUESTIONS_ASKED = [make_choice(n, "decision", YES_NO) for n in range(30)]


def contents(refused_women: float, *, seed: int = 0, first: int = 0, count: int = 20) -> Contents:
    """A release with decisions about women and men, of which women are refused a share."""
    generator = random.Random(seed)
    questions = QUESTIONS_ASKED[first : first + count]
    answers = [
        make_response(
            q, v.index, k, "Yes", option=int(v.value == "woman" and generator.random() < refused_women)
        )
        for q in questions
        for v in q.variants
        for k in range(4)
    ]
    tables = {QUESTIONS.name: QUESTIONS.to_arrow(questions), RESPONSES.name: RESPONSES.to_arrow(answers)}
    return Contents(tables)


SAME = contents(0.2)


def test_nothing_changed_means_no_release() -> None:
    assert decide(comparison(bump="none"), SAME, SAME).verdict == "unchanged"


def test_new_questions_that_give_the_same_are_safe() -> None:
    decision = decide(comparison(added=("q_1", "q_2")), SAME, contents(0.2, seed=1, first=2))
    assert decision.verdict == "safe"
    assert "2 added" in decision.reasons[0]


def test_an_effect_that_differs_on_common_questions_is_for_people() -> None:
    decision = decide(comparison(added=("q_1",)), SAME, contents(0.9, seed=1, first=2))
    assert decision.verdict == "risky"
    assert {item.kind for item in decision.review} == {"effect_moved"}
    assert any("gender" in item.subject for item in decision.review)
    assert all("18 common questions" in item.why for item in decision.review)


def test_another_effect_on_other_questions_moves_nothing() -> None:
    assert moved_effects(contents(0.0, count=10), contents(1.0, first=10, count=10)) == []


def test_equal_models_hardly_ever_move() -> None:
    moved = [bool(moved_effects(contents(0.3, seed=s), contents(0.3, seed=s + 500))) for s in range(30)]
    assert sum(moved) <= 4


def test_fresh_answers_may_confirm_a_candidate_without_a_change_of_label() -> None:
    before = {"q": {"label": "confirmed"}, "p": {"label": "accepted"}, "r": {"label": "confirmed"}}
    after = {"q": {"label": "candidate"}, "p": {"label": "candidate"}, "r": {"label": "hard_negative"}}
    assert relabelled_questions(before, after, {}) == ["r"]


def test_labels_columns_and_lost_questions_are_for_people() -> None:
    changes: dict[str, dict[str, Any]] = {
        "relabelled": {"relabelled": ("q_1",)},
        "schema": {"schema_changes": ("effects.x is new",)},
        "removed": {"removed": tuple(f"q_{i}" for i in range(11))},
    }
    for kind, change in changes.items():
        decision = decide(comparison(**change), SAME, SAME)
        assert decision.verdict == "risky", kind
        assert {item.kind for item in decision.review} == {kind}


def test_a_first_release_has_nothing_to_be_compared_with() -> None:
    assert decide(comparison(old_version=None, bump="first"), None, SAME).verdict == "safe"
