"""Who may import whom, read off the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("flows", "tasks", "schemas")
TOOLS = ("store", "journal", "progress")
DOORS = {
    "openai": "tasks/models/",
    "vllm": "tasks/models/",
    "xllamacpp": "tasks/models/",
    "great_expectations": "tasks/gate/great_expectations.py",
    "rapidfuzz": "tasks/text/normalize.py",
    "huggingface_hub": "tasks/publish/hub.py",
    "prefect": "flows/",
}
SOURCES = sorted(p for package in PACKAGES for p in (PROJECT / package).rglob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def is_stage(path: Path) -> bool:
    """A file directly in tasks/ that does one of the pipeline's verbs."""
    return path.parent == PROJECT / "tasks" and path.stem not in (*TOOLS, "__init__")


STAGES = {p.stem for p in SOURCES if is_stage(p)}


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_imports_follow_the_house(path: Path) -> None:
    for module in imports_of(path):
        top, *rest = module.split(".")
        if top == "flows":
            assert path.parts[len(PROJECT.parts)] == "flows", f"{place(path)} imports {module}"
        if top == "tasks":
            assert place(path).split("/")[0] != "schemas", f"a schema imports {module}"
            if rest and rest[0] in STAGES:
                assert place(path).startswith("flows/"), f"{place(path)} imports the stage {module}"
        if top in DOORS and path.parts[len(PROJECT.parts)] in PACKAGES:
            assert place(path).startswith(DOORS[top]), f"{place(path)} imports {module}: use {DOORS[top]}"


@pytest.mark.parametrize("path", [p for p in SOURCES if place(p).startswith("schemas/")], ids=place)
def test_schemas_need_only_the_standard_library_pydantic_and_arrow(path: Path) -> None:
    allowed = {*sys.stdlib_module_names, "pydantic", "pydantic_core", "pyarrow", "schemas"}
    assert {m.split(".")[0] for m in imports_of(path)} <= allowed


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_has_a_test_of_its_own(stage: str) -> None:
    assert (PROJECT / "tests" / "tasks" / f"test_{stage}.py").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_every_module_says_what_it_is(path: Path) -> None:
    if path.stem != "__init__":
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), (
            f"{place(path)} has no docstring"
        )
