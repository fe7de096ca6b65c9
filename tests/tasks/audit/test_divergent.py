from __future__ import annotations

from schemas.recipe import Bar
from tasks.audit.probes import audit_divergence
from tests.tasks.judge.material import DATA


def test_divergence_separates_planted_differences_from_chance_wording() -> None:
    passport = audit_divergence(DATA)
    flagged = passport.result("a_a", "false_positives")
    assert flagged is not None
    assert flagged.value is not None
    assert flagged.value <= 0.1
    for size, least in ((1, 0.75), (2, 0.95), (3, 0.95)):
        recall = passport.result("planted", f"recall_{size}")
        assert recall is not None
        assert recall.value is not None
        assert recall.value >= least
    assert passport.shortfalls(Bar()) == ()
    assert "gold/bias_pairs.yaml" in passport.gold


def test_its_passport_is_the_same_every_time() -> None:
    assert audit_divergence(DATA, 8).model_dump_json() == audit_divergence(DATA, 8).model_dump_json()
