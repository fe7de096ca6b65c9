"""The wheel works when it is installed alone, outside a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from tests.conftest import DATA, PROJECT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    from hatchling.builders.wheel import WheelBuilder

    out = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(PROJECT)).build(directory=str(out), versions=["standard"])
    return Path(path)


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a new environment with the wheel and the libraries of this one.

    The libraries come through a path file, so that the checkout, which this environment installs in editable
    form, is not among them.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    packages = home / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    with ZipFile(wheel) as archive:
        archive.extractall(packages)
    return home / "bin" / "python"


def run(python: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a clean environment and folder."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"}
    command = [str(python), "-c", "from flows.cli import main; main()", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done


def test_wheel_holds_the_vocabulary_and_nothing_of_a_run(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {"counterfoil/data/recipes/quickstart.yaml", "counterfoil/prefect.yaml"} <= set(names)
    assert not [name for name in names if name.startswith(("data/", "tests/", "counterfoil/data/runs"))]
    shipped = subprocess.run(
        ["git", "ls-files", "data"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {f"counterfoil/{name}" for name in shipped} <= set(names)


def test_code_comes_from_the_wheel(python: Path, tmp_path: Path) -> None:
    code = "import counterfoil, tasks; print(tasks.__file__)"
    found = subprocess.run(
        [str(python), "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert str(PROJECT) not in found
    assert str(python.parent.parent) in found


def test_plan_of_a_shipped_recipe(python: Path, tmp_path: Path) -> None:
    plan = json.loads(run(python, tmp_path, "plan", "quickstart", "--json").stdout)
    assert plan["stages"]


def test_relabel_and_measure(python: Path, tmp_path: Path) -> None:
    example = DATA / "examples" / "retrieval.jsonl"
    out = tmp_path / "clean.jsonl"
    result = json.loads(run(python, tmp_path, "relabel", str(example), "--out", str(out), "--json").stdout)
    assert result["rows"] > 0
    answers = tmp_path / "answers.csv"
    answers.write_text(
        "context,anti_stereotype,stereotype,unrelated,item_category,type_category,response\n"
        "She is _.,kind,lazy,blue,positive,type1,kind\n"
        "She is _.,kind,lazy,blue,negative,type1,lazy\n",
        encoding="utf-8",
    )
    measured = run(
        python, tmp_path, "measure", "completion", str(answers), "--format", "subtler-biases", "--json"
    )
    assert json.loads(measured.stdout)["invalid"]["n"] == 2


@pytest.mark.slow
def test_build_of_a_small_quickstart(python: Path, tmp_path: Path) -> None:
    """Every part of the quickstart, with fewer and shorter answers of the same real model."""
    recipe = yaml.safe_load((DATA / "recipes" / "quickstart.yaml").read_text(encoding="utf-8"))
    recipe |= {
        "families": {
            "open": {"questions": 2, "samples": 2, "max_tokens": 8},
            "completion": {"questions": 1, "samples": 1, "attributes": ["youth"]},
            "decision": {"questions": 1, "samples": 1, "conditions": ["plain"]},
        },
        "evolve": {"rounds": 1, "questions_per_round": 1, "save_threshold": 0.01},
        "holdout": {"samples": 2},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    built = json.loads(run(python, tmp_path, "build", "small.yaml", "--json").stdout)
    release = Path(built["release"])
    assert release.is_relative_to(tmp_path)
    assert (release / "report.html").is_file()


def test_this_interpreter_is_the_one_that_is_tested(python: Path) -> None:
    asked = subprocess.run([str(python), "-V"], capture_output=True, text=True, check=True).stdout
    assert asked.split()[1] == sys.version.split()[0]
