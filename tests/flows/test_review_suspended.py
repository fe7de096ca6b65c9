"""A deployed build that lacks reviews: a real Prefect server, a run that suspends, a review that ends it."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.release import open_release
from tests.flows.test_build import run, scripted
from tests.flows.test_review_build import recipe_at, waiting_at
from tests.flows.test_schedule import ask, free_port, start_serving, wait_for
from tests.servers.openai_server import OpenAIServer

pytestmark = pytest.mark.slow

Served = tuple[str, Path, subprocess.Popen[str]]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Start `counterfoil serve` with a recipe that requires reviews. Return API, home and process."""
    with OpenAIServer(scripted) as server:
        recipe = recipe_at(tmp_path, server, required=True, share=0.4)
        port = free_port()
        process = start_serving(tmp_path, port, "build", recipe)
        try:
            yield f"http://127.0.0.1:{port}/api", tmp_path, process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_a_suspended_build_is_resumed_by_the_review_that_it_waits_for(served: Served) -> None:
    api, home, process = served
    deployment = wait_for(lambda: ask(api, "deployments/filter", {}), process)[0]
    begun = ask(api, f"deployments/{deployment['id']}/create_flow_run", {})

    def state_in(*types: str) -> Any:
        state = ask(api, f"flow_runs/{begun['id']}")["state"]
        return state if state["type"] in (*types, "FAILED", "CRASHED") else None

    suspended = wait_for(lambda: state_in("PAUSED", "COMPLETED"), process)
    assert (suspended["type"], suspended["name"]) == ("PAUSED", "Suspended"), suspended["message"]
    artifact = ask(api, "artifacts/counterfoil-review/latest")["data"]
    assert "counterfoil review" in artifact
    assert f"0 of {waiting_at(home).needed} reviewed" in artifact
    assert waiting_at(home).flow_run == begun["id"]

    assert review(home, verdicts=1)["resumed"] is False
    assert state_in("PAUSED") is not None
    assert review(home, verdicts=waiting_at(home).needed)["resumed"] is True

    ended = wait_for(lambda: state_in("COMPLETED"), process)
    assert ended["type"] == "COMPLETED", ended["message"]
    (release,) = (home / "releases" / "tested").iterdir()
    found = open_release(release).manifest.review
    assert found is not None
    assert found.people == 1
    assert not (home / "runs" / "tested" / "waiting.json").exists()


def review(home: Path, *, verdicts: int) -> dict[str, Any]:
    """Export a sheet, fill in this number of verdicts that the build waits for, and import it."""
    run_dir, sheet = home / "runs" / "tested", home / f"sheet-{verdicts}.csv"
    done = run(home, "review", run_dir, "--export", sheet)
    assert done.returncode == 0, done.stderr
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    wanted = waiting_at(home).questions[:verdicts]
    assert {row["subject_id"] for row in rows} >= set(wanted)
    filled = [{**row, "reviewer": "Ada", "verdict": "good"} for row in rows if row["subject_id"] in wanted]
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(filled)
    done = run(home, "review", run_dir, "--import", sheet, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
