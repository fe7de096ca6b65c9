"""The cells of the tutorial notebook run in order, and its findings match the program's output."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT

NOTEBOOK: dict[str, Any] = json.loads((PROJECT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_valid_and_its_cells_compile() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for number, code in enumerate(CODE):
        compile(code, f"cell {number}", "exec")


@pytest.mark.slow
def test_the_cells_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(PROJECT / "docs" / "tutorial_judge.jsonl", tmp_path)
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "unused"))
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, code in enumerate(CODE):
            exec(compile(code, f"docs/tutorial.ipynb, cell {number}", "exec"), names)
    assert names["release"].manifest.rows["questions"] == 8
    assert names["exported"]["left_out"] == 0
    judged = names["release"].judgements.to_dicts()
    assert {row["judge"] for row in judged} == {"replay:tutorial_judge.jsonl"}
    assert all(row["abstention"] is None and row["version_scores"] for row in judged)
    assert any(metric.startswith("helpfulness_contrast") for metric in names["contrasts"].metric)
    metrics = {f["metric"] for f in names["result"]["findings"]}
    assert "words" in metrics
    assert "8 questions" in printed.getvalue()
