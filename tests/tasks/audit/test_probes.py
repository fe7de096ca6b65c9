"""Measures of an audit, worked out by hand."""

from __future__ import annotations

import pytest

from schemas.gate import ProbeResult
from tasks.audit.probes import gold_results, own_results, pick_results, verdict_results
from tasks.audit.scenes import (
    A_A,
    PLAIN,
    PLANTED,
    POSITION,
    AuditMaterial,
    ProbeItem,
    plan_preferences,
    plan_self_preferences,
    plan_verdicts,
    read_material,
)
from tests.tasks.judge.material import DATA

MATERIAL = read_material(DATA, 10)
SCENES = [scene.id for scene in MATERIAL.scenes]
ITEMS = [verdict.item for verdict in plan_verdicts(MATERIAL)]


def truth(item: ProbeItem) -> bool:
    """Return the truth of a scene. Scenes at odd places repeat identical answers."""
    if item.probe == "repeat":
        return SCENES.index(item.scene) % 2 == 0
    return item.probe not in (A_A, "reworded")


def perfect() -> dict[ProbeItem, bool | None]:
    return {item: truth(item) for item in ITEMS}


def result(results: tuple[ProbeResult, ...], probe: str, measure: str) -> ProbeResult:
    (found,) = [r for r in results if (r.probe, r.measure) == (probe, measure)]
    return found


def test_perfect_judge_is_perfect_in_everything() -> None:
    results = verdict_results(perfect(), MATERIAL)
    assert {r.value for r in results if r.measure.startswith("recall")} == {1.0}
    assert {r.value for r in results if r.measure.endswith("_lost")} == {0.0}
    assert result(results, "a_a", "beyond_chance").value == 0.0
    assert result(results, "gold", "kappa").value == 1.0


def test_every_item_is_asked_once() -> None:
    assert len(set(ITEMS)) == len(ITEMS) == 10 * (1 + 1 + 1 + 3 + 2 + 1 + len(MATERIAL.cues))


def test_verdicts_that_change_with_the_order_are_counted_beyond_repetition() -> None:
    detections = perfect() | {ProbeItem(POSITION, scene): False for scene in SCENES[:4]}
    lost = result(verdict_results(detections, MATERIAL), "position", "verdicts_lost_to_order")
    assert lost.value == pytest.approx(0.4)
    detections |= {
        ProbeItem("repeat", scene, 1): not detections[ProbeItem("repeat", scene, 1)] for scene in SCENES[:3]
    }
    lost = result(verdict_results(detections, MATERIAL), "position", "verdicts_lost_to_order")
    assert lost.value == pytest.approx(0.4 - 2 / 3 * 0.3)


def test_loss_to_a_cue_is_before_minus_after_over_scenes_with_both() -> None:
    detections = perfect() | {ProbeItem("authority", scene): False for scene in SCENES[:3]}
    detections[ProbeItem("authority", SCENES[5])] = None
    results = verdict_results(detections, MATERIAL)
    lost = result(results, "authority", "verdict_recall_lost")
    assert (lost.value, lost.n, lost.asked) == (pytest.approx(3 / 9), 9, 10)
    assert result(results, "authority", "verdict_recall_unchanged").value == pytest.approx(6 / 9)
    assert result(results, "bandwagon", "verdict_recall_lost").value == 0.0


def test_kappa_and_confusion_by_hand() -> None:
    detections = perfect() | {ProbeItem(PLANTED, scene, 1): False for scene in SCENES}
    (gold,) = gold_results(detections, MATERIAL)
    agreed, chance = 40 / 50, (30 / 50) * (20 / 50) + (20 / 50) * (30 / 50)
    assert gold.value == pytest.approx((agreed - chance) / (1 - chance))
    assert gold.note == "planted 20 found, 10 missed; fair 20 passed, 0 flagged"


def test_judge_with_constant_verdicts_has_a_kappa_of_zero() -> None:
    (gold,) = gold_results(dict.fromkeys(ITEMS, True), MATERIAL)
    assert gold.value == 0.0


def test_nothing_read_is_nothing_measured() -> None:
    results = verdict_results(dict.fromkeys(ITEMS), MATERIAL)
    assert {r.value for r in results} == {None}
    assert {r.n for r in results} == {0}


def test_judge_that_picks_the_first_has_a_first_rate_of_one_and_no_consistency() -> None:
    picks = list(plan_preferences(MATERIAL))
    results = pick_results(picks, dict.fromkeys((p.item for p in picks), 0), MATERIAL)
    first = result(results, "position", "first_picked")
    assert (first.value, first.differs_from_floor) == (1.0, True)
    assert result(results, "position", "picks_that_stand").value == 0.0
    assert result(results, "repeat", "picks_identical").value == 1.0


def test_cue_is_put_on_the_worse_answer() -> None:
    by_item = {pick.item: pick for pick in plan_preferences(MATERIAL)}
    for scene in SCENES:
        plain, cued = by_item[ProbeItem(PLAIN, scene)], by_item[ProbeItem("verbosity", scene)]
        assert plain.better == cued.better
        assert cued.answers[cued.better] == plain.answers[plain.better]
        assert len(cued.answers[1 - cued.better]) > len(plain.answers[1 - plain.better])


@pytest.mark.parametrize(("own_wins", "points"), [(1.0, 50), (0.5, 0), (0.0, -50)])
def test_self_preference_is_own_win_rate_minus_gold_win_rate(own_wins: float, points: float) -> None:
    picks = list(plan_self_preferences(MATERIAL, {scene: f"Mine for {scene}." for scene in SCENES}))
    assert len(picks) == 20
    chosen: dict[ProbeItem, int | None] = {}
    for pick in picks:
        mine = next(i for i, answer in enumerate(pick.answers) if answer.startswith("Mine"))
        always = {1.0: mine, 0.0: 1 - mine}
        chosen[pick.item] = always.get(own_wins, pick.better)
    (found,) = own_results(picks, chosen, MATERIAL)
    assert found.value == points


def test_scene_without_an_own_answer_is_left_out() -> None:
    picks = list(plan_self_preferences(MATERIAL, {SCENES[0]: "Mine."}))
    (found,) = own_results(picks, {pick.item: pick.better for pick in picks}, MATERIAL)
    assert (found.n, found.asked) == (1, 10)


def test_material_is_the_same_for_everyone() -> None:
    assert [v.item for v in plan_verdicts(read_material(DATA, 10))] == ITEMS
    assert isinstance(MATERIAL, AuditMaterial)
