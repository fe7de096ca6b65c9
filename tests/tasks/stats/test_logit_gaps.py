from __future__ import annotations

import numpy as np
import pytest

from tasks.families import decision as logit_gaps
from tasks.families.decision import Coefficient, ScenarioAnswer, fit_mixed_model, within_scenario_gaps

BASE = {"gender": "male", "race": "white"}


def planted(seed: int, noise: float, scenarios: int = 30, gap: float = 0.8) -> list[ScenarioAnswer]:
    rng = np.random.default_rng(seed)
    return [
        ScenarioAnswer(
            f"s{s:02}",
            {"gender": gender, "race": race},
            level + (gap + slope) * (gender == "female") + noise * rng.normal(),
        )
        for s, (level, slope) in enumerate(
            zip(rng.normal(0, 5, scenarios), rng.normal(0, 0.2, scenarios), strict=True)
        )
        for gender in ("male", "female")
        for race in ("white", "Black", "Asian")
    ]


def test_planted_gap_is_found_and_no_other() -> None:
    coefficients = fit_mixed_model(planted(1, 0.3), BASE)
    female = coefficients["gender", "female"]
    assert abs(female.value - 0.8) < 3 * female.standard_error
    assert female.standard_error < 0.12
    for race in ("Black", "Asian"):
        assert abs(coefficients["race", race].value) < 3 * coefficients["race", race].standard_error


def test_in_a_complete_design_the_coefficient_is_the_mean_gap_within_scenarios() -> None:
    decisions = planted(2, 0.3)
    gaps = within_scenario_gaps(decisions, "gender", "female", "male")
    assert len(gaps) == 30
    fitted = fit_mixed_model(decisions, BASE)["gender", "female"].value
    assert fitted == pytest.approx(np.mean(list(gaps.values())), abs=1e-6)


def test_shuffling_rows_changes_nothing_and_exchanging_values_flips_the_sign() -> None:
    decisions = planted(3, 0.2)
    shuffled = [decisions[i] for i in np.random.default_rng(0).permutation(len(decisions))]
    gaps = within_scenario_gaps(decisions, "gender", "female", "male")
    assert within_scenario_gaps(shuffled, "gender", "female", "male") == pytest.approx(gaps)
    back = within_scenario_gaps(decisions, "gender", "male", "female")
    assert back == pytest.approx({k: -v for k, v in gaps.items()})


def test_decisions_that_do_not_depend_on_the_value_have_exactly_no_gap() -> None:
    same = [ScenarioAnswer(d.scenario, d.values, float(d.scenario[1:])) for d in planted(4, 0.0)]
    assert set(within_scenario_gaps(same, "race", "Black", "white").values()) == {0.0}
    coefficient = fit_mixed_model(same, BASE)["race", "Black"]
    assert (coefficient.value, coefficient.standard_error) == (0.0, 0.0)


def test_scenarios_that_lack_a_value_are_left_out() -> None:
    decisions = [d for d in planted(5, 0.1) if d.scenario != "s00" or d.values["gender"] == "male"]
    assert "s00" not in within_scenario_gaps(decisions, "gender", "female", "male")
    assert fit_mixed_model(decisions[:3], BASE) == {}


def test_closed_form_equals_reml_if_all_scenarios_have_the_same_fills() -> None:
    decisions = planted(6, 0.3, scenarios=40)
    terms = [("gender", "female"), ("race", "Asian"), ("race", "Black")]
    by_scenario = {
        s: [d for d in decisions if d.scenario == s] for s in sorted({d.scenario for d in decisions})
    }
    slopes = np.random.default_rng(1).normal(0, 0.4, (40, 2))
    blocks = [logit_gaps._block(rows, terms) for rows in by_scenario.values()]
    blocks = [(x, y + x[:, 2:] @ slope) for (x, y), slope in zip(blocks, slopes, strict=True)]
    closed_fixed, closed_errors = logit_gaps._fit(blocks)
    least_squares = np.array([np.linalg.lstsq(x, y, rcond=None)[0] for x, y in blocks])
    start = least_squares.mean(axis=0), np.cov(least_squares.T) / 0.09
    fitted = logit_gaps._fit_by_reml(blocks, *start)
    assert fitted is not None
    assert closed_fixed == pytest.approx(fitted[0], abs=1e-6)
    assert closed_errors == pytest.approx(fitted[1], rel=2e-3)


def test_gap_is_found_if_fills_are_missing() -> None:
    decisions = [d for i, d in enumerate(planted(7, 0.3, scenarios=40)) if i % 11]
    female = fit_mixed_model(decisions, BASE)["gender", "female"]
    assert abs(female.value - 0.8) < 3 * female.standard_error < 0.4


def test_p_is_that_of_student_with_the_scenarios_as_sample() -> None:
    assert Coefficient(2.776445, 1.0, 5).p_value == pytest.approx(0.05, abs=1e-6)
    assert Coefficient(-2.776445, 1.0, 5).p_value == pytest.approx(0.05, abs=1e-6)
    assert (Coefficient(0.0, 0.0, 5).p_value, Coefficient(0.1, 0.0, 5).p_value) == (1.0, 2 / 2**5)
