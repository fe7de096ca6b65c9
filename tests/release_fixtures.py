"""Packaged releases for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from schemas.release import ReleaseComparison
from tasks.package import Findings, Provenance, package
from tasks.package.assemble import STAGE as ASSEMBLE
from tasks.package.compare import STAGE as COMPARE
from tasks.release import find_last_release
from tasks.run.store import run_stage
from tests.tasks.release.example import PASSED, RECORD, Build, a_context, large_build, small_build

Packager = Callable[..., Path]


def package_build(home: Path, build: Build, recipe: dict[str, Any] | None = None, **other: Any) -> Path:
    """Assemble, compare with the releases in `home`, and package, as a build does."""
    context = a_context(home, **(recipe or {}))
    releases = home / "releases"
    tables = run_stage(ASSEMBLE, context, **build.write(home / "in")).tables
    previous = find_last_release(releases, context.recipe.name)
    notes = run_stage(COMPARE, context, assembled=list(tables), previous=previous).notes
    arguments = {
        "comparison": ReleaseComparison.model_validate_json(notes),
        "validation": PASSED,
        "write_data_docs": write_one_page,
        "previous": previous,
        "releases": releases,
        **RECORD,
        **other,
    }
    records = [
        record(**{f.name: arguments.pop(f.name) for f in fields(record) if f.name in arguments})
        for record in (Provenance, Findings)
    ]
    return package(context, tables, *records, **arguments)


def write_one_page(out: Path) -> None:
    """Write one page instead of Data Docs."""
    out.mkdir()
    (out / "index.html").write_text("<p>what was expected</p>", encoding="utf-8")


@pytest.fixture(scope="session")
def small_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_build(tmp_path_factory.mktemp("small"), small_build())


@pytest.fixture(scope="session")
def large_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_build(tmp_path_factory.mktemp("large"), large_build())


@pytest.fixture(scope="session")
def planted_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tasks.report.planted import package_planted

    return package_planted(tmp_path_factory.mktemp("planted"))
