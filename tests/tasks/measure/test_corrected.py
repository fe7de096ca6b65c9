"""Effects of judges that are corrected with people's scores are rows of `effects`."""

from __future__ import annotations

import pytest

from schemas.release import CorrectedTreatment
from tasks.families.effects import VerdictRule, correct_for_multiplicity
from tasks.measure.verdicts import corrected_effects
from tasks.release.findings import findings_of
from tests.material.review_release import many_questions

ROW = CorrectedTreatment(
    judge="openai:judge", model="openai:model", attribute="gender", value="woman", groups=200, labels=44,
    judge_only=-1.25, judge_low=-1.5, judge_high=-1.0, people_only=-0.5, people_low=-0.9, people_high=-0.1,
    corrected=-0.45, corrected_low=-0.7, corrected_high=-0.2, corrected_p=0.0006, families=40, weight=0.8,
    labels_to_halve=180,
)  # fmt: skip
QUESTIONS = [q for q in many_questions(12, ("work",)) if q.attribute == "gender"]


def test_corrected_contrast_has_interval_test_and_verdict() -> None:
    (effect,) = VerdictRule().apply(correct_for_multiplicity(corrected_effects([ROW], QUESTIONS)))
    assert (effect.metric, effect.compared) == ("corrected_treatment_contrast:woman", "woman")
    assert (effect.value, effect.low, effect.high, effect.n) == (-0.45, -0.7, -0.2, 40)
    assert (effect.q_value, effect.verdict, effect.language) == (0.0006, "differs", "en")
    assert effect.standard_error == pytest.approx(0.25 / 2.0227, rel=1e-3)
    (finding,) = findings_of([effect])
    assert (finding.metric, finding.unit, finding.contrast) == ("corrected_treatment", "points of 4", -0.45)


def test_rows_without_labels_are_not_measured() -> None:
    missing = ROW.model_copy(
        update={"corrected": None, "corrected_low": None, "corrected_high": None, "reason": "labels: none"}
    )
    (effect,) = VerdictRule().apply(corrected_effects([missing], QUESTIONS))
    assert (effect.value, effect.status, effect.verdict) == (None, "not_measured", "not_measured")
    assert effect.reason == "labels: none"


def test_of_several_judges_only_their_mean_counts() -> None:
    rows = [ROW.model_copy(update={"judge": judge}) for judge in ("openai:a", "openai:b")]
    mean = ROW.model_copy(update={"judge": "all", "corrected": -0.4})
    assert [e.value for e in corrected_effects([*rows, mean], QUESTIONS)] == [-0.4]


def test_questions_in_several_languages_have_one_effect() -> None:
    other = [q.model_copy(update={"language": "de"}) for q in QUESTIONS[:1]]
    (effect,) = corrected_effects([ROW], [*QUESTIONS, *other])
    assert effect.language == "all"
