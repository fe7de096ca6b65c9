"""User suites are read before a build and run on the released tables. A suite that cannot run fails."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from schemas.question import QUESTIONS
from tasks.gate.great_expectations import ModuleOnFirstUse, imported_on_first_use
from tasks.gate.own_suites import check_own_suites, read_own_suites
from tests.tasks.release.example import example_question

TABLES = {QUESTIONS.name: QUESTIONS.to_arrow([example_question(), example_question("age", language="de")])}
ENGLISH = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "language", "value_set": ["en"]}}
SHORT = {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "text", "max_value": 20}}


def suite_file(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_failing_rows_are_named_with_the_suite(tmp_path: Path) -> None:
    path = suite_file(tmp_path / "questions.json", {"name": "mine", "expectations": [ENGLISH]})
    (problem,) = check_own_suites(read_own_suites([path]), TABLES)
    assert (problem.table, problem.check, problem.column) == ("questions", "own_expectation", "language")
    assert problem.rows == (example_question("age", language="de").id,)
    assert problem.detail == "mine: expect_column_values_to_be_in_set"


def test_a_nested_table_and_a_passing_suite(tmp_path: Path) -> None:
    nested = {"name": "short", "meta": {"table": "questions.variants"}, "expectations": [SHORT]}
    (problem,) = check_own_suites(read_own_suites([suite_file(tmp_path / "a.json", nested)]), TABLES)
    assert problem.table == "questions.variants"
    assert len(problem.rows) == 2
    row_count = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}
    passing = {"name": "few", "meta": {"table": "questions"}, "expectations": [row_count]}
    assert check_own_suites(read_own_suites([suite_file(tmp_path / "b.json", passing)]), TABLES) == []


STARTED = """
import sys
from tasks.gate.great_expectations import SLOW_IMPORTS, great_expectations
great_expectations(".expectations")
print(*(name for name in (*SLOW_IMPORTS, "scipy.stats._stats_py") if name in sys.modules))
import scipy.stats
print(scipy.stats.norm.cdf(0.0))
"""


def test_the_library_starts_without_modules_that_few_expectations_need(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "\n0.5\n"


def test_a_module_that_is_used_at_once_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with imported_on_first_use(["colorsys"]):
        placed = importlib.import_module("colorsys")
        assert isinstance(placed, ModuleOnFirstUse)
        assert placed.rgb_to_hsv(1.0, 0.0, 0.0) == (0.0, 1.0, 1.0)
    assert not isinstance(sys.modules["colorsys"], ModuleOnFirstUse)


def test_an_expectation_that_needs_a_module_left_out_at_the_start_runs(tmp_path: Path) -> None:
    for english, failing in ((0.5, 0), (0.999, 1)):
        partition = {"values": ["en", "de"], "weights": [english, 1 - english]}
        kwargs = {"column": "language", "partition_object": partition, "threshold": 0.1}
        listed = [{"type": "expect_column_kl_divergence_to_be_less_than", "kwargs": kwargs}]
        path = suite_file(tmp_path / "questions.json", {"name": "mixed", "expectations": listed})
        assert len(check_own_suites(read_own_suites([path]), TABLES)) == failing


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ({"name": "x", "expectations": []}, "no expectations"),
        ({"name": "x", "expectations": [{"kwargs": {}}]}, "expectation 1 has no type"),
        ({"name": "x", "meta": {"table": "answers"}, "expectations": [ENGLISH]}, "which no release has"),
    ],
)
def test_a_faulty_file_is_refused_before_anything_runs(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_own_suites([suite_file(tmp_path / "questions.json", content)])
    with pytest.raises(InputError, match="there is no suite"):
        read_own_suites([str(tmp_path / "absent.json")])


@pytest.mark.parametrize(
    "expectation",
    [
        {"type": "expect_nothing_known", "kwargs": {"column": "language"}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "absent"}},
    ],
)
def test_a_suite_that_cannot_be_run_is_an_error(tmp_path: Path, expectation: dict[str, Any]) -> None:
    path = suite_file(tmp_path / "questions.json", {"name": "x", "expectations": [expectation]})
    with pytest.raises(InputError, match="suite 'x'"):
        check_own_suites(read_own_suites([path]), TABLES)
