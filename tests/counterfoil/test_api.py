"""The Python API and its results, in a script and inside a running event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import counterfoil as cf
from schemas.errors import InputError
from tests.conftest import DATA, PROJECT

EXAMPLE = DATA / "examples" / "retrieval.jsonl"


def test_plan_has_costs_and_prints_a_table() -> None:
    plan = cf.plan(DATA / "recipes" / "quickstart.yaml")
    assert plan.total_cost_usd == 0
    assert {stage["name"] for stage in plan.to_dict()["stages"]} >= {"expand", "respond", "judge"}
    assert "respond" in str(plan)


def test_a_shipped_recipe_is_found_by_its_name() -> None:
    assert cf.plan("quickstart").to_dict() == cf.plan(DATA / "recipes" / "quickstart.yaml").to_dict()


def test_relabel_returns_counts_and_writes_the_cleaned_set(tmp_path: Path) -> None:
    result = cf.relabel(EXAMPLE, out=tmp_path / "clean.jsonl")
    assert (tmp_path / "clean.jsonl").is_file()
    assert result["rows"] == len(EXAMPLE.read_text(encoding="utf-8").splitlines())
    assert (
        result["promoted"] + result["filtered"] + result["kept"] + result["abstained"] <= result["candidates"]
    )


def test_paths_may_be_text(tmp_path: Path) -> None:
    result = cf.relabel(
        str(EXAMPLE),
        judge="lexical",
        truth=str(EXAMPLE.with_suffix(".qrels")),
        out=str(tmp_path / "clean.jsonl"),
    )
    assert result["relabel_precision"]["n"] > 0


def test_release_has_tables_as_attributes(small_release: Path) -> None:
    release = cf.open_release(small_release)
    assert release.report.is_file()
    assert len(release.questions) == len(release.questions.to_pandas()) == release.manifest.rows["questions"]
    assert release.effects.to_dicts()[0].keys() >= {"value", "low", "high"}
    with pytest.raises(AttributeError, match="no table 'answers'"):
        _ = release.answers


def test_a_folder_without_a_manifest_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a release"):
        cf.open_release(tmp_path)


def test_release_equals_itself_in_a_diff(small_release: Path) -> None:
    release = cf.open_release(small_release)
    assert cf.diff(release, release)["bump"] == "none"


def test_functions_work_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def notebook() -> tuple[float, int]:
        plan = cf.plan("quickstart")
        result = cf.relabel(EXAMPLE, out=tmp_path / "clean.jsonl")
        return plan.total_cost_usd, result["rows"]

    cost, rows = asyncio.run(notebook())
    assert (cost, rows) == (0, len(EXAMPLE.read_text(encoding="utf-8").splitlines()))


def test_errors_pass_unchanged_through_a_running_event_loop(tmp_path: Path) -> None:
    async def notebook() -> None:
        cf.plan(tmp_path / "absent.yaml")

    with pytest.raises(InputError):
        asyncio.run(notebook())


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, counterfoil; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"pydantic", "pyarrow", "pandas", "prefect", "openai", "numpy", "yaml"} & set(loaded)


@pytest.mark.parametrize("name", ["tasks", "flows", "schemas"])
def test_a_module_that_hides_an_internal_package_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("", encoding="utf-8")
    tried = subprocess.run(
        [sys.executable, "-c", "import counterfoil"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 1
    assert "ImportError" in tried.stderr
    assert str(tmp_path / f"{name}.py") in tried.stderr
