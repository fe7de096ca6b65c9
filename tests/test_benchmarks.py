"""The quick runs of the benchmarks end with the required figures."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import PROJECT

pytestmark = pytest.mark.slow


def run(*command: str) -> dict[str, Any]:
    """Run a benchmark module and return its JSON output."""
    done = subprocess.run(
        [sys.executable, "-m", *command, "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_gate_catches_every_corruption() -> None:
    found = run("benchmarks.gate_mutations", "--quick")
    assert found["caught"] == found["corruptions"]
    assert found["not_flagged"] == found["harmless"]


@pytest.mark.parametrize("benchmark", ["benchmarks.chaos", "benchmarks.planted_bias"])
def test_quick_run_ends_well(benchmark: str) -> None:
    assert run(benchmark, "--quick")


def test_calls_are_measured_with_a_bare_loop_beside_them() -> None:
    arguments = (
        "--quick",
        "--prompts",
        "200",
        "--in-flight",
        "16",
        "--latency",
        "0",
        "--memory",
        "200",
        "400",
    )
    assert run("benchmarks.respond", *arguments)


def test_growth_has_a_row_for_every_stage() -> None:
    found = run("benchmarks.growth", "--sizes", "50,100")
    stages = {row["name"]: row for row in found["stages"]}
    assert {"prepare", "respond", "judge", "measure", "assemble", "validate", "package"} <= set(stages)
    assert {"relabel file", "deduplicate shared frame", "deduplicate unlike"} <= set(stages)
    for row in stages.values():
        assert {"exponent_cpu", "exponent_memory", "cpu_s", "peak_mb"} <= set(row)
        assert row["peak_mb"] > 0


def test_index_in_files_finds_the_passages_of_the_index_in_memory() -> None:
    found = run("benchmarks.corpus_index", "--sizes", "300,600", "--queries", "5")
    assert found["same_passages"]
    assert [(row["index"], row["passages"]) for row in found["rows"]] == [
        ("files", 300),
        ("memory", 300),
        ("files", 600),
        ("memory", 600),
    ]


def test_equated_changes_and_contamination_tests_keep_their_promises() -> None:
    found = run("benchmarks.equating", "--quick")
    assert {line["name"].partition(":")[0] for line in found["lines"]} == {
        "equating",
        "drift",
        "parallel forms",
        "contamination",
        "saturation",
    }


def test_a_refresh_names_a_planted_change_and_no_other() -> None:
    found = run("benchmarks.refresh", "--decision", "--quick")
    assert found["ok"]
    assert found["decision"][0]["false_alarms"] <= 0.02
