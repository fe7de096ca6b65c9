"""The gate catches every corruption by name, and leaves harmless changes alone."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tasks.checks.catalogue import CHECKS, DATASET_CHECKS
from tasks.gate import validate_path
from tasks.gate.examination import examine
from tests.material.gate_mutations import (
    CHANGES,
    SUITE_CHECKS,
    Case,
    Change,
    ChangeFindings,
    columns_with_defaults_are_not_there_yet,
    measure,
)
from tests.material.good_release import write_release
from tests.material.good_tables import good_tables

ELSEWHERE = {*DATASET_CHECKS, "too_many_to_quarantine", "cells_uncovered", "own_expectation"}
"""Checks with their own tests: foreign datasets, quarantine, and settings of a recipe."""


@pytest.fixture(scope="module")
def good() -> Case:
    tables, knowledge = good_tables()
    return Case({n: [r.model_dump(mode="json") for r in rows] for n, rows in tables.items()}, knowledge)


def _apply(good: Case, changes: list[Change]) -> set[str]:
    case = Case(deepcopy(good.tables), good.knowledge)
    for change in changes:
        change.apply(case)
    return {f.check for f in examine(case.arrow(), case.knowledge).validation.findings}


def test_corruptions_and_harmless_changes_are_many() -> None:
    assert sum(c.check is not None for c in CHANGES) >= 40
    assert sum(c.check is None for c in CHANGES) >= 20
    assert len({c.name for c in CHANGES}) == len(CHANGES)


def test_every_check_of_the_catalogue_has_a_corruption() -> None:
    assert {c.check for c in CHANGES if c.check} | ELSEWHERE == set(CHECKS)


@pytest.mark.slow
def test_corruptions_of_groups_and_tables_are_each_caught_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.material.gate_mutations.CHANGES", [c for c in CHANGES if c.check not in SUITE_CHECKS]
    )
    missed = [findings for findings in measure(quick=True) if not findings.as_wanted]
    assert missed == []


def test_corruptions_of_columns_are_caught_together(good: Case) -> None:
    changes = [c for c in CHANGES if c.check in SUITE_CHECKS]
    assert {c.check for c in changes} - _apply(good, changes) == set()


def test_harmless_changes_are_left_alone_together(good: Case) -> None:
    alone = {columns_with_defaults_are_not_there_yet.__name__}  # filled in by other tests
    together = [c for c in CHANGES if c.check is None and not c.of_release and c.name not in alone]
    assert _apply(good, together) == set()


def test_a_missed_corruption_and_a_false_alarm_are_both_failures() -> None:
    def nothing(_: Any) -> None:
        return None

    assert not ChangeFindings(Change("x", "key_repeated", nothing), ()).as_wanted
    assert not ChangeFindings(Change("x", None, nothing), ("key_repeated",)).as_wanted
    assert ChangeFindings(Change("x", None, nothing), ()).as_wanted


def test_a_good_release_passes_and_an_edited_one_does_not(tmp_path: Path) -> None:
    release = tmp_path / "r"
    write_release(release, *good_tables())
    found = validate_path(release)
    assert found.passed
    assert found.findings == ()
    assert found.rows["questions"] == 62
    (release / "README.md").write_text("Better than ever.\n")
    edited = validate_path(release)
    assert [f.check for f in edited.findings] == ["file_changed"]
    assert not edited.passed
