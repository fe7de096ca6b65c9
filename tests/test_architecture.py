"""The import rules of the project, read from the source code.

Run `python -m tests.test_architecture` to print the order of the folders.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("counterfoil", "flows", "tasks", "schemas")
LAYERS: tuple[tuple[str, ...], ...] = (
    ("schemas",),
    ("tasks.run", "tasks.stats", "tasks.text"),
    ("tasks.files",),
    ("tasks.models", "tasks.questions"),
    ("tasks.judges",),
    ("tasks.families", "tasks.release"),
    ("tasks.checks", "tasks.near_duplicates", "tasks.report"),
    (
        *(
            "tasks.audit",
            "tasks.carry_over",
            "tasks.continuation",
            "tasks.deduplicate",
            "tasks.evolve",
            "tasks.expand",
            "tasks.gate",
        ),
        *("tasks.hold_back", "tasks.judge", "tasks.material", "tasks.measure", "tasks.mend"),
        "tasks.package",
        *("tasks.publish", "tasks.relabel", "tasks.respond", "tasks.review", "tasks.translate"),
        "tasks.vary",
    ),
    ("tasks.estimate",),
    ("flows",),
    ("flows.cli", "counterfoil"),
)
"""Folders from the lowest layer to the highest.

A folder imports lower layers and, among tools, its own layer. The eighth layer holds the stages: no stage
imports another. `tasks.estimate` is above the stages, because a plan calls the functions of every stage
without running it.
"""
STAGES = LAYERS[7]
DOORS = {
    "openai": "tasks/models/",
    "vllm": "tasks/models/",
    "xllamacpp": "tasks/models/",
    "great_expectations": "tasks/gate/great_expectations.py",
    "rapidfuzz": "tasks/text/",
    "huggingface_hub": "tasks/publish/hub.py",
    "prefect": "flows/",
}
"""Only importer by package."""
SOURCES = sorted(p for package in PACKAGES for p in (PROJECT / package).rglob("*.py"))
SMALL = 90
"""A module with fewer lines and a single importer in its folder belongs inside that importer."""


def place(path: Path) -> str:
    """Return the path relative to the project."""
    return path.relative_to(PROJECT).as_posix()


def module_of(path: Path) -> str:
    """Return the dotted name of a source file."""
    return place(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")


MODULES = {module_of(path): path for path in SOURCES}


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a source file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, also inside functions and under `TYPE_CHECKING`."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)


def folder_of(module: str) -> str:
    """Return the folder that the import rules count a module to: `tasks.models`, `flows.cli`, `schemas`."""
    top, *rest = module.split(".")
    if top == "tasks" and rest:
        return f"tasks.{rest[0]}"
    return "flows.cli" if [top, *rest][:2] == ["flows", "cli"] else top


@cache
def file_graph() -> dict[str, set[str]]:
    """Return every module with the modules of the project that it imports."""
    return {
        name: {m for m in imports_of(path) if m in MODULES and m != name} for name, path in MODULES.items()
    }


@cache
def folder_graph() -> dict[str, set[str]]:
    """Return every folder with the folders that it imports."""
    graph: dict[str, set[str]] = defaultdict(set)
    for module, imported in file_graph().items():
        graph[folder_of(module)] |= {folder_of(m) for m in imported} - {folder_of(module)}
    return graph


def cycle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """Return one cycle of a graph, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_modules_do_not_import_each_other_in_a_cycle() -> None:
    assert not cycle_in(file_graph())


def test_folders_do_not_import_each_other_in_a_cycle() -> None:
    assert not cycle_in(folder_graph())


def test_every_folder_has_a_layer() -> None:
    folders = {folder_of(name) for name in MODULES} - {"tasks"}
    assert folders == {folder for layer in LAYERS for folder in layer}


@pytest.mark.parametrize("folder", [folder for layer in LAYERS for folder in layer])
def test_folders_import_lower_layers_only(folder: str) -> None:
    height = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    for imported in folder_graph()[folder]:
        same_layer_of_tools = height[imported] == height[folder] and folder not in STAGES
        assert height[imported] < height[folder] or same_layer_of_tools, f"{folder} imports {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_packages_are_imported_through_their_doors(path: Path) -> None:
    for module in imports_of(path):
        top = module.split(".")[0]
        if top in DOORS:
            assert place(path).startswith(DOORS[top]), f"{place(path)} imports {module}: use {DOORS[top]}"


@pytest.mark.parametrize("path", [p for p in SOURCES if place(p).startswith("schemas/")], ids=place)
def test_schemas_need_only_the_standard_library_pydantic_and_arrow(path: Path) -> None:
    allowed = {*sys.stdlib_module_names, "pydantic", "pydantic_core", "pyarrow", "schemas"}
    assert {m.split(".")[0] for m in imports_of(path)} <= allowed


def test_no_public_class_has_the_name_of_another() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for name, path in MODULES.items():
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    assert not {name: found for name, found in homes.items() if len(found) > 1}


def test_small_modules_with_one_importer_are_merged_into_it() -> None:
    importers: dict[str, set[str]] = defaultdict(set)
    for module, imported in file_graph().items():
        for name in imported:
            importers[name].add(module)
    pages = [
        f"{name} belongs inside {importer}"
        for name, path in MODULES.items()
        for importer in (next(iter(importers[name]), ""),)
        if len(importers[name]) == 1
        and MODULES[importer].parent == path.parent
        and len(path.read_text(encoding="utf-8").splitlines()) < SMALL
        and folder_of(name) not in ("flows", "flows.cli")
    ]
    assert not pages


def test_no_test_imports_a_benchmark() -> None:
    tests = (PROJECT / "tests").rglob("*.py")
    assert not [
        place(path) for path in tests if any(m.split(".")[0] == "benchmarks" for m in imports_of(path))
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_tests_of_its_own(stage: str) -> None:
    name = stage.removeprefix("tasks.")
    tests = PROJECT / "tests" / "tasks"
    assert (tests / f"test_{name}.py").is_file() or list((tests / name).glob("test_*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_every_module_has_a_docstring(path: Path) -> None:
    if path.stem != "__init__" or path.read_text(encoding="utf-8").strip():
        assert ast.get_docstring(parsed(path)), f"{place(path)} has no docstring"


def printed_layers() -> str:
    """Return the layers as text, the highest first."""
    return "\n".join("  ".join(layer) for layer in reversed(LAYERS))


def test_the_architecture_page_shows_these_layers() -> None:
    page = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert f"```text\n{printed_layers()}\n```" in page


if __name__ == "__main__":
    print(printed_layers())
