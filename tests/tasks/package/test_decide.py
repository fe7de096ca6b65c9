"""What becomes of a refreshed release: only what nobody would be surprised by goes out by itself."""

from __future__ import annotations

from typing import Any

from schemas.answers import EFFECTS, Effect
from schemas.release import ReleaseComparison
from tasks.package.compare import decide, moved_effects
from tasks.release import Contents
from tests.tasks.release.example import an_effect


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


def contents(*effects: Effect) -> Contents:
    return Contents({EFFECTS.name: EFFECTS.to_arrow(effects)})


SAME = contents(an_effect("attribute", "gender", "gender", 0.2))


def test_nothing_changed_means_no_release() -> None:
    assert decide(comparison(bump="none"), SAME, SAME).verdict == "unchanged"


def test_new_questions_that_say_the_same_are_safe() -> None:
    moved = contents(an_effect("attribute", "gender", "gender", 0.24))
    decision = decide(comparison(added=("q_1", "q_2")), SAME, moved)
    assert decision.verdict == "safe"
    assert "2 added" in decision.reasons[0]


def test_an_effect_that_left_its_interval_is_for_people() -> None:
    moved = contents(an_effect("attribute", "gender", "gender", 0.5))
    decision = decide(comparison(added=("q_1",)), SAME, moved)
    assert decision.verdict == "risky"
    assert [item.kind for item in decision.review] == ["effect_moved"]
    assert "gender" in decision.review[0].subject


def test_single_questions_and_other_metrics_may_move() -> None:
    old = [an_effect("question", "q_1", "gender", 0.0), an_effect("attribute", "age", "age", 0.0)]
    new = [an_effect("question", "q_1", "gender", 0.9), an_effect("attribute", "age", "age", 0.9, metric="x")]
    assert moved_effects(old, new) == []


def test_an_effect_without_an_interval_cannot_leave_it() -> None:
    loose = an_effect("attribute", "gender", "gender", 0.9, low=None, high=None)
    assert moved_effects([an_effect("attribute", "gender", "gender", 0.1)], [loose]) == []


def test_labels_columns_and_lost_questions_are_for_people() -> None:
    changes = {
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
