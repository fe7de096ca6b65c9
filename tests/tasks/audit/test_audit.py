from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BudgetError, ModelError
from schemas.gate import Passport, ProbeResult
from schemas.recipe import Bar
from tasks.audit import audit, check_audit_budget, estimate_audit
from tests.servers.openai_server import OpenAIServer, status
from tests.tasks.audit.material import audit_scripted, scripted
from tests.tasks.judge.material import make_context

SCENES = 16
UNBIASED = (
    ("a_a", "beyond_chance"),
    ("position", "verdicts_lost_to_order"),
    ("position", "picks_lost_to_order"),
    ("position", "first_picked"),
    ("own", "self_preference"),
)
PLANTED = {
    "position": [("position", "verdicts_lost_to_order"), ("position", "first_picked")],
    "authority": [("authority", "verdict_recall_lost"), ("authority", "pick_accuracy_lost")],
    "verbosity": [("verbosity", "verdict_recall_lost"), ("verbosity", "pick_accuracy_lost")],
    "own": [("own", "self_preference")],
    "suspicion": [("a_a", "beyond_chance")],
}


def found(passport: Passport, probe: str, measure: str) -> ProbeResult:
    result = passport.result(probe, measure)
    assert result is not None, (probe, measure)
    return result


def test_clean_noisy_judge_passes_and_shows_no_bias(tmp_path: Path) -> None:
    judge = scripted(noise=0.04, overlooks={1: 0.5, 2: 0.1})
    passport = audit_scripted(tmp_path, judge, scenes=40)
    assert passport.shortfalls(Bar()) == ()
    assert [m for m in UNBIASED if found(passport, *m).differs_from_floor] == []
    assert found(passport, "repeat", "verdicts_identical").value == pytest.approx(0.89, abs=0.09)
    assert found(passport, "planted", "recall_1").value == pytest.approx(0.5, abs=0.15)
    assert found(passport, "planted", "recall_3").value == pytest.approx(0.96, abs=0.1)
    assert found(passport, "gold", "kappa").value == pytest.approx(0.66, abs=0.15)
    assert passport.revision == "test-model-2026-01-01"


@pytest.mark.parametrize("bias", sorted(PLANTED))
def test_planted_bias_is_found_and_no_other(tmp_path: Path, bias: str) -> None:
    passport = audit_scripted(tmp_path, scripted(noise=0.02, seed=1, **{bias: 0.6}), scenes=SCENES)
    planted = PLANTED[bias]
    assert [m for m in planted if not found(passport, *m).differs_from_floor] == []
    excused = {planted[0][0], "own" if bias == "verbosity" else bias}  # spoiled own answers are longer
    others = [m for m in UNBIASED if m[0] not in excused]
    assert [m for m in others if found(passport, *m).differs_from_floor] == []
    below = {words.split(":")[0] for words in passport.shortfalls(Bar())}
    assert planted[0][0] in below or bias == "own"  # the bar has no limit for self-preference


def test_judge_that_answers_at_random_does_not_pass(tmp_path: Path) -> None:
    """A random judge has wide noise floors, but fails on repetition."""
    passport = audit_scripted(tmp_path, scripted(noise=0.5), scenes=SCENES)
    assert any("minus false positives" in words for words in passport.shortfalls(Bar()))


def test_abstentions_are_counted_and_never_scored(tmp_path: Path) -> None:
    passport = audit_scripted(tmp_path, scripted(abstains=0.3), scenes=12, validate={"min_judged": 0})
    assert found(passport, "abstention", "share").value == pytest.approx(0.3, abs=0.1)
    recall = found(passport, "planted", "recall_3")
    assert recall.value == 1.0
    assert recall.n < recall.asked == 12


def test_judge_without_answers_has_no_passport(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"first 20 answers all are not the JSON object.*; the last one: "):
        audit_scripted(tmp_path, scripted(abstains=1.0), scenes=8)


def test_judge_that_abstains_from_a_third_has_no_passport(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="at least 90% must be usable"):
        audit_scripted(tmp_path, scripted(abstains=0.3), scenes=12)


def test_yes_no_checks_two_at_a_time_are_audited_as_well(tmp_path: Path) -> None:
    judging = {"rubric": "precise_boolean", "comparison": "pairwise"}
    passport = audit_scripted(tmp_path, scripted(), scenes=8, judging=judging)
    assert (passport.rubric, passport.comparison) == ("precise_boolean", "pairwise")
    assert found(passport, "planted", "recall_1").value == 1.0
    assert found(passport, "a_a", "false_positives").value == 0.0
    assert found(passport, "gold", "kappa").value == 1.0


def test_audit_is_resumed_from_the_cache_and_comes_out_the_same(tmp_path: Path) -> None:
    with OpenAIServer(scripted(noise=0.1)) as server:
        context = make_context(tmp_path, budget={"free": [server.model()]})
        first = audit(context, server.model(), 8)
        sent = len(server.requests)
        assert audit(context, server.model(), 8) == first
        assert len(server.requests) == sent
        assert estimate_audit(context, server.model(), 8).calls == first[1][0].calls == sent


def test_audit_over_the_budget_is_refused_with_its_cost(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    plan = estimate_audit(context, "openai:gpt-5-mini")
    assert plan.cost_usd > 0
    with pytest.raises(BudgetError, match=r"1,736 calls") as refused:
        check_audit_budget("openai:gpt-5-mini", plan, 0.01)
    assert "--budget" in str(refused.value)


def test_judge_whose_own_answers_fail_has_no_self_preference(tmp_path: Path) -> None:
    judge = scripted()

    def fault(number: int, body: dict[str, object]) -> object:
        return None if "response_format" in body else status(400)

    with OpenAIServer(judge, faults=fault) as server:  # type: ignore[arg-type]
        context = make_context(tmp_path, budget={"free": [server.model()]})
        passport, _ = audit(context, server.model(), 8)
    own = found(passport, "own", "self_preference")
    assert (own.value, own.n, own.asked) == (None, 0, 8)
