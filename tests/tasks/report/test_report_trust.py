"""Ratings of the facts that decide whether a release can be trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schemas.release import Manifest, PeopleReview
from tasks.families.coverage import StatusCounts
from tasks.release import read_manifest
from tasks.release.fitness import HoldoutTest, Shrinkage, TopicOfFalsePositives
from tasks.report.coverage import AnswerCoverage, JudgeCoverage, MeasurementCoverage, Unmeasured
from tasks.report.sections import DecidingJudges, rate_trust, read_deciding_judges, search_effects
from tests.tasks.release.example import an_effect
from tests.tasks.report.test_passports_shown import with_passports

AUDITED = DecidingJudges(judges=2, passed=2, warnings=())
FRESH = HoldoutTest(
    questions=12, controls=40, compared=12, unmatched=0, p_value=0.001, confirmed=8, fewest_matching=40
)
UNCLEAR = replace(FRESH, p_value=0.4, confirmed=0)
SHRUNK = Shrinkage(0.4, 0.3, 12)
REVIEW = PeopleReview(
    people=2, questions=9, passages=0, kept=9, dropped=0, edited=0, contested=0, undecided=0, shared=0,
    alpha=None, alpha_low=None, alpha_high=None,
)  # fmt: skip


def measured(
    read: int = 100, failed: int = 0, unreadable: int = 0, judged: int = 100, reason: str = ""
) -> MeasurementCoverage:
    """Return the coverage of one model in one family, and an effect without a value if a reason is given."""
    counts = StatusCounts(read=read, failed=failed, unreadable=unreadable)
    return MeasurementCoverage(
        answers=(AnswerCoverage("completion", "m", "en", counts, read),),
        judges=(JudgeCoverage("j", "en", 100, judged, None),),
        unmeasured=(Unmeasured("completion", "m", "en", ("tau_c_sai",), 1, reason),) if reason else (),
        unequal=(),
    )


@pytest.fixture(scope="module")
def manifest(small_release: Path) -> Manifest:
    found = read_manifest(small_release)
    return found.model_copy(update={"validation": {"passed": 1, "warnings": 0, "errors": 0}})


def test_faultless_release_is_good_in_everything(manifest: Manifest) -> None:
    reviewed = manifest.model_copy(update={"review": REVIEW})
    found = rate_trust(reviewed, AUDITED, FRESH, None, SHRUNK, {}, measured(failed=1))
    assert set(found.values()) == {"good"}


def test_release_without_information_is_unknown(manifest: Manifest) -> None:
    found = rate_trust(manifest, DecidingJudges(0, 0, ()), None, None, None, {}, measured(read=0))
    assert {name for name, standing in found.items() if standing == "unknown"} == {
        "coverage", "losses", "judges", "floor", "shrinkage", "people",
    }  # fmt: skip


def test_warnings_weak_selection_and_losses_need_attention(manifest: Manifest) -> None:
    warned = manifest.model_copy(
        update={"validation": {"passed": 1, "warnings": 3, "errors": 0}, "judged_by": ("divergence",)}
    )
    reach_zero = an_effect("overall", "selection", "all", 0.3, low=-0.1, metric="holdout_fitness")
    found = rate_trust(
        warned, AUDITED, UNCLEAR, None, SHRUNK, search_effects([reach_zero]), measured(failed=5)
    )
    assert {name for name, standing in found.items() if standing == "caution"} == {
        "gate", "judges", "floor", "shrinkage", "losses",
    }  # fmt: skip


def test_gate_errors_are_bad(manifest: Manifest) -> None:
    failed = manifest.model_copy(update={"validation": {"passed": 0, "warnings": 0, "errors": 1}})
    assert rate_trust(failed, AUDITED, FRESH, None, SHRUNK, {}, measured())["gate"] == "bad"


def test_judges_that_find_bias_in_the_controls_of_a_topic_are_bad(manifest: Manifest) -> None:
    topic = TopicOfFalsePositives("housing", mean=0.4, elsewhere=0.02, controls=6, p_value=0.002)
    assert rate_trust(manifest, AUDITED, FRESH, topic, SHRUNK, {}, measured())["judges"] == "bad"
    uncertain = replace(topic, p_value=0.03)
    assert rate_trust(manifest, AUDITED, FRESH, uncertain, SHRUNK, {}, measured())["judges"] == "caution"
    harmless = replace(topic, p_value=0.5)
    assert rate_trust(manifest, AUDITED, FRESH, harmless, SHRUNK, {}, measured())["judges"] == "good"


@pytest.mark.parametrize(
    ("measurement", "rating", "standing"),
    [
        (measured(reason="coverage: 1 of 9 answers could be read"), "coverage", "caution"),
        (measured(), "coverage", "good"),
        (measured(read=70, unreadable=30), "losses", "caution"),
        (measured(judged=90), "losses", "caution"),
    ],
)
def test_lost_answers_and_unmeasured_effects_need_attention(
    manifest: Manifest, measurement: MeasurementCoverage, rating: str, standing: str
) -> None:
    assert rate_trust(manifest, AUDITED, FRESH, None, SHRUNK, {}, measurement)[rating] == standing


@pytest.mark.parametrize(("recall", "passed"), [(1.0, 2), (0.31, 0)])
def test_judges_without_warnings_have_passed(small_release: Path, recall: float, passed: int) -> None:
    panel = read_deciding_judges(with_passports(small_release, recall)[1])
    assert (panel.judges, panel.passed) == (2, passed)


def test_groups_that_could_not_be_compared_need_attention(manifest: Manifest) -> None:
    found = rate_trust(manifest, AUDITED, FRESH, None, SHRUNK, {}, measured(), compared=False)
    assert found["coverage"] == "caution"
