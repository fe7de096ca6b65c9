from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.stats.length_control import hold_length_equal, saturated

Floats = NDArray[np.float64]


def drawn(
    seed: int, n: int, *, length: float, effect: float, longer: float
) -> tuple[Floats, Floats, list[str]]:
    """Draw binary outcomes of `n` treated units and `n` controls.

    The log odds are −1, plus `effect` for treated units, plus `length` per unit of saturated difference.
    Lengths of treated units differ `longer` times as much."""
    rng = np.random.default_rng(seed)
    differences = np.concatenate([longer * rng.gamma(2, 10, n), rng.gamma(2, 10, n)])
    treated = np.repeat([1.0, 0.0], n)
    odds = -1 + effect * treated + length * saturated(differences)
    outcomes = (rng.random(2 * n) < 1 / (1 + np.exp(-odds))).astype(float)
    return outcomes, differences, ["treated"] * n + ["control"] * n


OUTCOME = st.floats(0, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(OUTCOME, min_size=1, max_size=12), st.lists(st.floats(0, 500), min_size=1, max_size=4))
def test_outcomes_are_unchanged_if_length_explains_nothing(
    outcomes: list[float], lengths: list[float]
) -> None:
    """Every outcome occurs with every length, so length carries no information."""
    pairs = [(outcome, length) for outcome in outcomes for length in lengths]
    y, d = (list(column) for column in zip(*pairs, strict=True))
    control = hold_length_equal(y, d, ["one"] * len(y))
    assert control.held_equal == pytest.approx(y, abs=1e-6)
    assert control.coefficient == pytest.approx(0, abs=1e-4)


def test_pure_length_effect_leaves_no_difference() -> None:
    gaps, raw = [], []
    for seed in range(20):
        y, d, strata = drawn(seed, 300, length=2.5, effect=0.0, longer=4)
        held = hold_length_equal(y, d, strata).held_equal
        gaps.append(held[:300].mean() - held[300:].mean())
        raw.append(y[:300].mean() - y[300:].mean())
    assert np.mean(raw) > 0.15
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(20) + 0.01


def test_planted_effect_remains_if_lengths_differ_as_well() -> None:
    expected = 1 / (1 + np.exp(1 - 1.5)) - 1 / (1 + np.exp(1))
    found = []
    for seed in range(20):
        y, d, strata = drawn(seed, 300, length=2.5, effect=1.5, longer=4)
        held = hold_length_equal(y, d, strata).held_equal
        found.append(held[:300].mean() - held[300:].mean())
    assert np.mean(found) == pytest.approx(expected, abs=0.04)


def test_fit_is_that_of_a_published_library() -> None:
    import statsmodels.api as sm

    y, d, strata = drawn(3, 80, length=1.5, effect=0.7, longer=2)
    y = 0.2 + 0.6 * y  # fractions
    design = np.column_stack([np.array(strata) == "treated", np.array(strata) == "control", saturated(d)])
    fit = sm.GLM(y, design.astype(float), family=sm.families.Binomial()).fit()
    control = hold_length_equal(y, d, strata, ridge=0)
    assert control.coefficient == pytest.approx(fit.params[2], abs=1e-6)
    expected = 1 / (1 + np.exp(-fit.params[:2]))
    assert [control.held_equal[:80].mean(), control.held_equal[80:].mean()] == pytest.approx(
        expected, abs=1e-6
    )


def test_preference_for_the_longer_side_is_no_preference_for_that_side() -> None:
    """The judge picks the longer of two answers, and one side is longer more often."""
    rng = np.random.default_rng(5)
    differences = rng.normal(30, 60, 600)
    picked = (rng.random(600) < 1 / (1 + np.exp(-3 * saturated(differences)))).astype(float)
    control = hold_length_equal(picked, differences, ["own"] * 600)
    assert picked.mean() > 0.6
    assert control.held_equal.mean() == pytest.approx(0.5, abs=0.05)
    assert control.coefficient == pytest.approx(3, abs=0.6)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(OUTCOME, st.floats(-1e4, 1e4), st.sampled_from("abc")), min_size=1, max_size=30, unique=True
    ),
    st.randoms(use_true_random=False),
)
def test_any_outcomes_give_finite_results_that_do_not_depend_on_their_order(
    units: list[tuple[float, float, str]], rng: object
) -> None:
    y, d, strata = (list(column) for column in zip(*units, strict=True))
    control = hold_length_equal(y, d, strata)
    assert np.isfinite(control.held_equal).all()
    assert np.isfinite(control.coefficient)
    back = hold_length_equal(y[::-1], d[::-1], strata[::-1])
    assert back.held_equal[::-1] == pytest.approx(control.held_equal, abs=1e-5)


def test_strata_without_variation_and_equal_lengths_are_left_alone() -> None:
    assert list(hold_length_equal([0, 0, 1, 1], [5, 9, 5, 9], ["a", "a", "b", "b"]).held_equal) == [
        0,
        0,
        1,
        1,
    ]
    control = hold_length_equal([0, 1, 0.5], [0, 0, 0], ["a", "a", "a"])
    assert (list(control.held_equal), control.coefficient) == ([0, 1, 0.5], 0)
