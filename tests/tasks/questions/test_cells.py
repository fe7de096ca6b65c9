"""Coverage of the combinations of domain, framing, attribute, style and request."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.expand import expand_family
from tasks.gate import check_cells
from tasks.questions.cells import (
    DIMENSIONS,
    measure_cells,
    recipe_coverage,
    total_coverage,
    valid_cells,
)
from tests.conftest import DATA, recipe_of

FAMILY = {"open": {"questions": 400, "framings": ["explicit", "implicit"]}}


def recipe(**more: Any) -> Any:
    return recipe_of(attributes=["gender", "belief"], superdomains=["work"], families=FAMILY, **more)


def test_coverage_counts_combinations_of_the_strength() -> None:
    """Compare with a count by hand: two domains × two framings, one attribute, one style, one kind."""
    valid = [(d, f, "a", "plain", "k") for d in "xy" for f in ("explicit", "implicit")]
    found = [valid[0], valid[3]]
    by_pair = {c.dimensions: (c.covered, c.valid) for c in measure_cells(found, valid, 2)}
    assert len(by_pair) == 10
    assert by_pair["domain", "framing"] == (2, 4)
    assert by_pair["domain", "attribute"] == (2, 2)
    assert total_coverage(measure_cells(found, valid, 2)).share == pytest.approx(17 / 19)
    assert total_coverage(measure_cells(found, valid, 1)).share == 1
    assert total_coverage(measure_cells([], valid, 1)).covered == 0


def test_only_possible_cells_are_asked_for() -> None:
    cells = valid_cells(recipe(), DATA)
    assert {c[0] for c in cells} == {
        f"work/{d}" for d in ("promotion", "teamwork", "hiring", "travel_shifts", "responsibility")
    }
    assert ("implicit", "belief") not in {(c[1], c[2]) for c in cells}
    assert {c[3] for c in cells} == {"plain"}
    styled = valid_cells(recipe(augment={"styles": ["slang"], "model": "openai:x"}), DATA)
    assert len(styled) == 2 * len(cells)


def test_a_build_is_held_to_its_coverage() -> None:
    strict = recipe(coverage={"strength": 2, "min": 0.95})
    questions = expand_family(strict, DATA, "open")
    measured = recipe_coverage(strict, questions, DATA)
    assert {c.dimensions for c in measured} == {
        (a, b) for i, a in enumerate(DIMENSIONS) for b in DIMENSIONS[i + 1 :]
    }
    assert check_cells(strict, questions, DATA) == []
    (problem,) = check_cells(strict, questions[:6], DATA)
    assert problem.check == "cells_uncovered"
    assert "coverage.min" in problem.detail
    assert check_cells(recipe(), questions[:6], DATA) == []
