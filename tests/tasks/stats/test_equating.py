"""Scores of two releases on one scale, through the questions that both have."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.stats.equating import Respondent, equate

Row = dict[str, float]


class Forms:
    """Two simulated releases: anchors in both, and questions that only one of them has."""

    def __init__(
        self, *, anchors: int, models: int, shift: float, change: float = 0.0, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.anchors = [f"anchor {i}" for i in range(anchors)]
        only_old, only_new = ([f"{form} {i}" for i in range(anchors)] for form in ("old", "new"))
        difficulty = {q: rng.normal(0, 1) for q in [*self.anchors, *only_old]}
        difficulty |= {q: rng.normal(shift, 1) for q in only_new}
        self.scores: dict[Respondent, Row] = {}
        for m in range(models):
            level = rng.normal(0, 0.5)
            own = {q: rng.normal(0, 0.3) for q in difficulty}
            for form, questions, more in (("old", only_old, 0.0), ("new", only_new, change)):
                self.scores[Respondent(f"m{m}", form)] = {  # type: ignore[arg-type]
                    q: level + more + difficulty[q] + own[q] + rng.normal(0, 0.3)
                    for q in [*self.anchors, *questions]
                }


def test_a_harder_form_does_not_change_a_model() -> None:
    forms = Forms(anchors=60, models=4, shift=1.0)
    found = equate(forms.scores, forms.anchors)
    assert (found.status, found.method, found.anchors) == ("measured", "mixed_model", 60)
    change, shift = found.change("m0"), found.shift
    assert change.low is not None
    assert change.high is not None
    assert change.low < 0 < change.high
    assert shift.low is not None
    assert shift.low > 0
    raw = {s.respondent: s.score for s in found.scores}
    assert raw[Respondent("m0", "new")] - raw[Respondent("m0", "old")] > 0.1
    equated = {s.respondent: s.equated.value for s in found.scores}
    assert equated[Respondent("m0", "new")] == pytest.approx(equated[Respondent("m0", "old")], abs=0.15)


@pytest.mark.parametrize(("anchors", "models"), [(20, 2), (60, 6)])
@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5])
def test_equated_changes_are_unbiased_and_covered(anchors: int, models: int, shift: float) -> None:
    covered, errors = [], []
    for seed in range(60):
        forms = Forms(anchors=anchors, models=models, shift=shift, change=0.3, seed=seed)
        change = equate(forms.scores, forms.anchors).change("m1")
        assert change.value is not None
        assert change.low is not None
        assert change.high is not None
        covered.append(change.low <= 0.3 <= change.high)
        errors.append(change.value - 0.3)
    assert np.mean(covered) >= 0.87
    assert abs(np.mean(errors)) < 3.5 * np.std(errors) / np.sqrt(len(errors))


def test_models_that_answered_different_releases_are_comparable() -> None:
    forms = Forms(anchors=80, models=6, shift=0.5, change=0.0)
    only = {r: row for r, row in forms.scores.items() if (int(r.model[1:]) < 3) == (r.form == "old")}
    found = equate(only, forms.anchors)
    first, second = Respondent("m4", "new"), Respondent("m1", "old")
    contrast = found.contrasts[first, second]
    truth = np.mean([forms.scores[Respondent("m4", "old")][q] for q in forms.anchors]) - np.mean(
        [forms.scores[second][q] for q in forms.anchors]
    )
    assert contrast.value == pytest.approx(truth, abs=0.2)


def test_one_model_has_a_change_but_the_form_has_no_shift() -> None:
    forms = Forms(anchors=30, models=1, shift=0.5)
    found = equate(forms.scores, forms.anchors)
    old, new = (forms.scores[Respondent("m0", form)] for form in ("old", "new"))  # type: ignore[arg-type]
    assert found.change("m0").value == pytest.approx(np.mean([new[q] - old[q] for q in forms.anchors]))
    assert (found.shift.status, found.drift) == ("not_measured", "not_measured")
    assert found.shift.reason == "1 model; at least 2 are required in both releases"


def test_drifted_anchors_are_found_and_left_out() -> None:
    forms = Forms(anchors=50, models=6, shift=0.0)
    for respondent, row in forms.scores.items():
        if respondent.form == "new":
            for q in forms.anchors[:4]:
                row[q] += 2.0
    found = equate(forms.scores, forms.anchors)
    assert {d.item for d in found.drifted} == set(forms.anchors[:4])
    assert all(d.change > 1 and d.p_value < 0.02 for d in found.drifted)
    assert found.anchors == 46
    assert found.change("m0").value == pytest.approx(0, abs=0.2)


def test_a_uniform_change_is_no_drift() -> None:
    forms = Forms(anchors=50, models=4, shift=0.2, change=1.0, seed=1)
    found = equate(forms.scores, forms.anchors)
    assert found.drifted == ()
    assert found.change("m2").value == pytest.approx(1.0, abs=0.2)


def test_forms_without_a_common_scale_are_not_equated() -> None:
    forms = Forms(anchors=40, models=4, shift=0.0)
    for respondent, row in forms.scores.items():
        if respondent.form == "new":
            for q in forms.anchors[:10]:
                row[q] += 6.0
    found = equate(forms.scores, forms.anchors)
    assert found.status == "not_measured"
    assert found.reason == "10 of 40 anchors drifted, so the releases have no common scale"
    assert found.change("m0").reason == found.reason


def test_too_few_anchors_or_models_are_not_equated() -> None:
    forms = Forms(anchors=9, models=3, shift=0.0)
    found = equate(forms.scores, forms.anchors)
    assert (found.status, found.reason) == ("not_measured", "9 anchors; at least 10 are required")
    only_new = {r: row for r, row in forms.scores.items() if r.form == "new"}
    assert equate(only_new, forms.anchors).reason == "no model has scores on the earlier release"
    assert equate({}, ()).status == "not_measured"


def test_members_of_a_twin_family_count_once() -> None:
    forms = Forms(anchors=20, models=2, shift=0.0)
    families = {q: str(i // 2) for i, q in enumerate(forms.anchors)}
    assert equate(forms.scores, forms.anchors, clusters=families).anchors == 10


def test_equal_answers_have_no_interval_of_width_zero() -> None:
    forms = Forms(anchors=30, models=2, shift=0.0)
    for m in ("m0", "m1"):
        for q in forms.anchors:
            forms.scores[Respondent(m, "new")][q] = forms.scores[Respondent(m, "old")][q]
    change = equate(forms.scores, forms.anchors).change("m0")
    assert (change.value, change.low, change.status) == (0.0, None, "measured")
    assert change.reason == "most anchors are answered as before, so that no interval can be given"
    bounded = equate(forms.scores, forms.anchors, bounds=(-20.0, 20.0)).change("m0")
    assert bounded.low is not None
    assert bounded.high is not None
    assert bounded.low < 0 < bounded.high
    assert bounded.p_value == 1.0


def test_unanswered_questions_are_allowed() -> None:
    forms = Forms(anchors=60, models=3, shift=0.5)
    rng = np.random.default_rng(1)
    scores = {r: {q: s for q, s in row.items() if rng.random() > 0.15} for r, row in forms.scores.items()}
    change = equate(scores, forms.anchors).change("m0")
    assert change.value == pytest.approx(0, abs=0.25)


def binary_forms(
    respondents: int, *, better: float, seed: int = 0
) -> tuple[dict[Respondent, Row], list[str]]:
    rng = np.random.default_rng(seed)
    anchors = [f"anchor {i}" for i in range(20)]
    scores: dict[Respondent, Row] = {}
    questions = {"old": [f"old {i}" for i in range(20)], "new": [f"new {i}" for i in range(20)]}
    easier = {q: rng.normal(0, 0.8) for q in [*anchors, *questions["old"]]}
    easier |= {q: rng.normal(-0.8, 0.8) for q in questions["new"]}
    for form, more in (("old", 0.0), ("new", better)):
        for i in range(respondents):
            theta = rng.normal(more, 1)
            row = {
                q: float(rng.random() < 1 / (1 + np.exp(-1.2 * theta - easier[q])))
                for q in [*anchors, *questions[form]]
            }
            scores[Respondent(f"{form} {i}", form)] = row  # type: ignore[arg-type]
    return scores, anchors


def test_a_hundred_respondents_are_linked_by_item_response_theory() -> None:
    scores, anchors = binary_forms(120, better=0.5)
    found = equate(scores, anchors)
    assert found.method == "stocking_lord"
    mean = {
        form: np.mean([s.equated.value for s in found.scores if s.respondent.form == form])
        for form in ("old", "new")
    }
    assert mean["new"] - mean["old"] == pytest.approx(0.1, abs=0.06)
    assert found.shift.value is not None
    assert found.shift.value < -0.02
    few, few_anchors = binary_forms(99, better=0.5)
    assert equate(few, few_anchors).method == "mixed_model"
