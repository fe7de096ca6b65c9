"""The page on the gate lists every check, and every change that the benchmark makes."""

from __future__ import annotations

import re
from collections import Counter

from tasks.checks.catalogue import CHECKS
from tests.conftest import PROJECT
from tests.material.gate_mutations import CHANGES

PAGE = (PROJECT / "docs" / "gate.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (error|warning) \|(?: (.+) \|)?$", re.MULTILINE)


def test_every_check_is_listed_with_its_severity() -> None:
    assert {name: severity for name, severity, _ in ROW.findall(PAGE)} == {
        name: check.severity for name, check in CHECKS.items()
    }


def test_every_corruption_is_listed_with_its_check() -> None:
    listed = {name: len(text.split(" · ")) for name, _, text in ROW.findall(PAGE) if text}
    assert listed == Counter(change.check for change in CHANGES if change.check)


def test_every_harmless_change_is_listed() -> None:
    harmless = PAGE.split("## Harmless changes")[1]
    assert harmless.count("\n- ") == sum(change.check is None for change in CHANGES)


def test_numbers_of_changes_are_those_of_the_benchmark() -> None:
    corruptions = sum(change.check is not None for change in CHANGES)
    harmless = len(CHANGES) - corruptions
    assert f"| corruptions | {corruptions} | {corruptions} reported by their check |" in PAGE
    assert f"| harmless changes | {harmless} | {harmless} not reported |" in PAGE
