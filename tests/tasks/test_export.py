"""Export: a release's questions as CAB's rows, and back into a build."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from schemas.errors import InputError
from tasks.expand import expand_family
from tasks.package.harness import export_release
from tests.conftest import DATA, recipe_of
from tests.material.good_release import write_release
from tests.material.good_tables import good_tables


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("releases") / "good"
    write_release(path, *good_tables())
    return path


def test_exported_rows_can_be_built_on(tmp_path: Path, release: Path) -> None:
    out = tmp_path / "cab.csv"
    result = export_release(release, format="cab", out=out)
    with out.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == result["questions"] > 0
    assert result["left_out"] == 0
    recipe = recipe_of(families={"open": {"questions": 1, "files": [{"path": str(out)}]}})
    imported = [q for q in expand_family(recipe, DATA, "open") if q.origin == "imported"]
    assert {q.template for q in imported if q.control == "none"} == {r["example"] for r in rows}
    repeated = [q for q in imported if q.control == "a_a"]
    assert repeated
    assert all(q.variants[0].text == q.variants[1].text for q in repeated)


def test_an_unknown_format_is_refused(tmp_path: Path, release: Path) -> None:
    with pytest.raises(InputError, match="no export format"):
        export_release(release, format="xlsx", out=tmp_path / "x.csv")
    with pytest.raises(InputError, match=r"\.csv"):
        export_release(release, format="cab", out=tmp_path / "x.txt")
