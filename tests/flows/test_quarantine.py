"""A build with a forbidden question in its vocabulary stops, or continues without the question."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.answers import EFFECTS, RESPONSES
from schemas.labels import DROPPED
from tasks.gate import validate_path
from tasks.release import open_release
from tests.conftest import DATA
from tests.flows.test_build import run, scripted, write_recipe
from tests.servers.openai_server import OpenAIServer

GENERATED = shutil.ignore_patterns("runs", "cache", "releases")


@pytest.fixture
def vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the project's vocabulary and add a phone number to one decision."""
    own = tmp_path / "vocabulary"
    shutil.copytree(DATA, own, ignore=GENERATED)
    place = own / "templates" / "decision" / "work_and_money.yaml"
    file: dict[str, Any] = yaml.safe_load(place.read_text(encoding="utf-8"))
    file["items"] = file["items"][:4]
    file["items"][0]["text"] += " Call 030 1234567 first. What should it be?"
    place.write_text(yaml.safe_dump(file, allow_unicode=True), encoding="utf-8")
    monkeypatch.setenv("COUNTERFOIL_VOCABULARY", str(own))


@pytest.mark.slow
def test_a_question_that_fails_stops_the_build_or_is_taken_out(tmp_path: Path, vocabulary: None) -> None:
    asked = {"decision": {"questions": 0, "samples": 1, "templates": ["work_and_money"]}}
    parts = {"families": asked, "evolve": {"rounds": 0}, "relabel": {}, "holdout": {"samples": 0}}
    with OpenAIServer(scripted) as server:
        recipe = write_recipe(tmp_path / "recipe.yaml", server, **parts)
        stopped = run(tmp_path, "build", recipe)
        assert stopped.returncode == 3
        assert "personal_data" in stopped.stderr
        assert len(stopped.stderr.split("error: ")[1].splitlines()) <= 24
        settings = {"on_failure": "quarantine", "max_quarantine_rate": 0.5, "max_failure_rate": 0.2}
        recipe = write_recipe(tmp_path / "recipe.yaml", server, **parts, validate=settings)
        done = run(tmp_path, "build", recipe, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["counts"]["quarantine"]["dropped"] == 1
    release = open_release(Path(result["release"]))
    (lost,) = [d for d in release.contents.rows(DROPPED) if d.stage == "validate"]
    assert lost.reason == "personal_data"
    question = json.loads(lost.record)["id"]
    assert question not in {r.question_id for r in release.contents.rows(RESPONSES)}
    assert question not in {e.name for e in release.contents.rows(EFFECTS)}
    assert not any(
        b"030 1234567" in file.read_bytes() for file in release.path.rglob("*.*") if file.suffix != ".parquet"
    )
    assert release.manifest.quarantine is not None
    assert release.manifest.quarantine.taken == 1
    assert validate_path(release.path).passed
    assert validate_path(tmp_path / "runs" / "tested").passed
