from __future__ import annotations

from benchmarks.planted_judges import release
from benchmarks.planted_power import Cell, auroc, mean_excess, observe, power_of_one, shared
from benchmarks.planted_search import Budget, search, true_excess, unit_of
from benchmarks.planted_worlds import draw_superdomains, plant_in, target_of


def test_large_effects_are_told_from_none() -> None:
    clean = observe(Cell(None, "", "middle", 4), 30)
    planted = observe(Cell("content", "large", "middle", 4), 30)
    assert auroc(planted.excess, clean.excess) > 0.8
    assert auroc(mean_excess(planted, 10), mean_excess(clean, 10)) > 0.9
    assert auroc(shared(planted, 10), shared(clean, 10)) > 0.9
    assert power_of_one(clean) < 0.2 < power_of_one(planted)


def test_controls_and_clean_questions_are_rarely_significant() -> None:
    found = release(3, planted=0, samples=4, llm=False)
    assert len(found.clean) > 100
    assert sum(p <= 0.05 for p in found.clean) / len(found.clean) < 0.12
    assert found.discoveries == found.false


def test_search_accepts_and_confirms_what_is_planted() -> None:
    biased = draw_superdomains(3, 1)
    target = target_of(plant_in(biased, ["refusal"], size="large"), "middle", 1)
    found = search(target, "thompson", Budget(24, 12, 1), 1, holdout=4)
    confirmed = {unit_of(q) for q in found.confirmed()}
    assert confirmed
    assert confirmed <= set(biased)
    hit = next(q for q in found.confirmed() if q.id in found.again)
    assert abs(found.again[hit.id] - true_excess(target, hit)) < 0.2
