"""The guide on the Python API: its examples run, and it names every public function."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import counterfoil
from tests.conftest import DATA, PROJECT

GUIDE = (PROJECT / "docs" / "guides" / "python.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python( no-run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(bool(no_run), code) for no_run, code in BLOCK.findall(GUIDE)]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_release: Path) -> Path:
    """Work in a folder with the example files and a release at the path of the quickstart."""
    shutil.copytree(DATA / "examples", tmp_path / "data" / "examples")
    shutil.copytree(small_release, tmp_path / "data" / "releases" / "quickstart" / "0.1.0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "data"))
    return tmp_path


def run_examples() -> None:
    """Run the examples in their order, as one program."""
    names: dict[str, Any] = {}
    for no_run, code in BLOCKS:
        if not no_run:
            exec(compile(code, "docs/guides/python.md", "exec"), names)


def test_examples_run_in_their_order(checkout: Path) -> None:
    run_examples()
    assert (checkout / "clean.jsonl").is_file()
    assert (checkout / "deduplicated" / "kept.parquet").is_file()


@pytest.mark.slow
def test_examples_run_inside_an_event_loop(checkout: Path) -> None:
    async def notebook() -> None:
        run_examples()

    asyncio.run(notebook())
    assert (checkout / "clean.jsonl").is_file()


@pytest.mark.parametrize("name", [name for name in counterfoil.__all__ if name.islower()])
def test_every_public_function_has_an_example(name: str) -> None:
    assert any(f"cf.{name}(" in code for _, code in BLOCKS)


@pytest.mark.parametrize("code", [code for _, code in BLOCKS], ids=range(len(BLOCKS)))
def test_examples_are_valid_python(code: str) -> None:
    compile(code, "docs/guides/python.md", "exec")
