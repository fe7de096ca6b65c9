"""Agreement on categories, against published figures."""

from __future__ import annotations

import pytest

from tasks.stats.agreement import nominal_alpha, nominal_kappa

OBSERVERS = [
    "123321412...",
    "1233224125.3",
    ".3332342251.",
    "12332441251.",
]
"""Four observers, twelve units, values missing (Krippendorff 2011)."""
UNITS = [[rating for rating in unit if rating != "."] for unit in zip(*OBSERVERS, strict=True)]


def test_alpha_of_the_published_example() -> None:
    found = nominal_alpha(UNITS)
    assert found is not None
    assert found.value == pytest.approx(0.743, abs=5e-4)
    assert found.n == 11, "a unit that one observer saw tells nothing"
    assert (found.low, found.high) == (None, None), "too few units for five categories"


def test_many_units_have_an_interval() -> None:
    found = nominal_alpha(UNITS * 4)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high <= 1


def test_rare_categories_have_no_interval() -> None:
    """Two people drop the same three of 30 questions. One other question would change kappa from 1 to .83."""
    pairs = [("keep", "keep")] * 26 + [("drop", "drop")] * 3 + [("drop", "keep")]
    found = nominal_kappa(pairs)
    assert found is not None
    assert found.value > 0.8
    assert (found.low, found.high) == (None, None)


def test_alpha_does_not_depend_on_the_order_of_raters() -> None:
    turned = [list(reversed(unit)) for unit in UNITS]
    assert nominal_alpha(turned) == nominal_alpha(UNITS)


def test_kappa_of_a_table_worked_out_by_hand() -> None:
    """20 yes and yes, 5 yes and no, 10 no and yes, 15 no and no: .4 (agreement .7, by chance .5)."""
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    found = nominal_kappa(pairs)
    assert found is not None
    assert found.value == pytest.approx(0.4)
    assert found.low is not None
    assert found.high is not None
    assert 0.1 < found.low < 0.4 < found.high < 0.7


def test_full_agreement_is_one_and_nothing_to_confuse_is_undefined() -> None:
    assert nominal_alpha([["a", "a"], ["b", "b"]]).value == 1  # type: ignore[union-attr]
    assert nominal_kappa([("a", "a"), ("b", "b")]).value == 1  # type: ignore[union-attr]
    assert nominal_alpha([["a", "a"], ["a", "a"]]) is None
    assert nominal_alpha([["a"], ["b"]]) is None
    assert nominal_kappa([("a", "a")]) is None
    assert nominal_kappa([]) is None


def test_kappa_without_a_variance_has_no_interval() -> None:
    found = nominal_kappa([("a", "a"), ("a", "b"), ("b", "a")])
    assert found is not None
    assert found.value <= 0
    assert found.n == 3
