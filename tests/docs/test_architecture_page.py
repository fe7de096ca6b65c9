"""The architecture page describes the existing tree and terms."""

from __future__ import annotations

import re

import pytest

from tests.conftest import PROJECT

PAGE = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = ("counterfoil", "flows", "tasks", "schemas")
LINE = re.compile(r"^(?P<indent> *)(?P<name>[\w.]+?)(?P<slash>/?)(?: {2,}|$)")


def drawn_tree() -> set[str]:
    """Return the folders and files under the packages that the page draws, as paths."""
    block = PAGE.split("## The tree\n\n```\n")[1].split("```")[0]
    paths, package = set(), ""
    for line in block.splitlines():
        match = LINE.match(line)
        if match is None or len(match["indent"]) > 2:
            continue
        if not match["indent"]:
            package = match["name"]
        path = package if not match["indent"] else f"{package}/{match['name']}"
        if package in PACKAGES:
            paths.add(path)
    return paths


def existing_tree() -> set[str]:
    """Return the folders with Python files under the packages, and the stages that are single files."""
    folders = {
        path.parent.relative_to(PROJECT).as_posix()
        for package in PACKAGES
        for path in (PROJECT / package).rglob("*.py")
    }
    stages = {f"tasks/{path.name}" for path in (PROJECT / "tasks").glob("*.py") if path.stem != "__init__"}
    return folders | stages


def test_drawn_tree_is_the_existing_tree() -> None:
    assert drawn_tree() == existing_tree()


@pytest.mark.parametrize(
    "reference", sorted(set(re.findall(r"`((?:schemas|tasks)(?:\.\w+)+)`", PAGE))), ids=str
)
def test_names_in_the_vocabulary_exist(reference: str) -> None:
    parts = reference.split(".")
    place = PROJECT.joinpath(*parts)
    if place.is_dir() or place.with_suffix(".py").is_file():
        return
    module = PROJECT.joinpath(*parts[:-1]).with_suffix(".py")
    assert re.search(rf"^(class|def) {parts[-1]}\b", module.read_text(encoding="utf-8"), re.MULTILINE)


FILES = re.compile(r"`((?:docs|tasks|tests|flows|schemas)/[\w/.]+)`")


@pytest.mark.parametrize("path", sorted(set(FILES.findall(PAGE))))
def test_files_that_the_page_names_exist(path: str) -> None:
    assert (PROJECT / path).exists()
