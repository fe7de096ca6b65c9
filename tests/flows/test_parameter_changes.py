"""Parameters that a server refuses are recorded in the release, also if the answers come from the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli import cli
from schemas.release import ParameterChange
from tasks.models import capabilities
from tasks.models.capabilities import Capabilities, keep_capabilities, parameter_changes
from tests.servers.openai_server import Answer, Body, Messages, OpenAIServer, smallest_instance

FAMILIES = "{completion: {questions: 6, samples: 1}}"


def script(messages: Messages, body: Body) -> Answer:
    return "B"


def recipe(path: Path, model: str) -> Path:
    path.write_text(
        f"name: changed\nseed: 3\nattributes: [beauty]\nfamilies: {FAMILIES}\nbudget: {{free: ['{model}']}}\n"
        f"models: {{targets: ['{model}']}}\n",
        encoding="utf-8",
    )
    return path


def run(home: Path, *arguments: object) -> Any:
    done = CliRunner().invoke(
        cli, [*map(str, arguments), "--json"], env={"COUNTERFOIL_HOME": str(home)}, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_release_names_the_parameters_that_its_server_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenAIServer(script, rejects=("temperature", "seed")) as server:
        path = recipe(tmp_path / "changed.yaml", server.model())
        release = Path(run(tmp_path, "build", path)["release"])
        manifest = json.loads((release / "manifest.json").read_text())
        changes = {c["parameter"]: c["change"] for c in manifest["parameter_changes"]}
        assert changes["seed"] == "seed requested, server default used"
        assert changes["temperature"].startswith("temperature ")
        assert changes["temperature"].endswith(" requested, server default used")
        assert {c["model"] for c in manifest["parameter_changes"]} == {"openai:test-model"}
        assert run(tmp_path, "show", release)["parameter_changes"] == manifest["parameter_changes"]
        for page in ("README.md", "report.html"):
            assert "requested, server default used" in (release / page).read_text(encoding="utf-8")

        sent = len(server.requests)
        monkeypatch.setattr(capabilities, "_known", {})  # as in another process
        again = Path(run(tmp_path, "build", path, "--fresh", "--out", tmp_path / "again")["release"])
        assert len(server.requests) == sent, "every answer is from the cache"
        assert (again / "manifest.json").read_bytes() == (release / "manifest.json").read_bytes()


def test_all_requested_temperatures_are_named_in_order(tmp_path: Path) -> None:
    known = Capabilities()
    for value in (1.0, 0.0, 0.7):
        known.note_dropped("temperature", value)
    for number in (5, 6):
        known.note_dropped("seed", number)
    keep_capabilities(tmp_path, "openai:m@http://localhost:1/v1", known)
    assert parameter_changes(tmp_path) == (
        ParameterChange(model="openai:m", parameter="seed", change="seed requested, server default used"),
        ParameterChange(
            model="openai:m",
            parameter="temperature",
            change="temperature 0, 0.7, 1 requested, server default used",
        ),
    )
    restored = Capabilities()
    restored.restore(known.describe())
    restored.note_dropped("temperature", 0.5)
    assert restored.changes["temperature"].startswith("temperature 0, 0.5, 0.7, 1 ")


def test_relabel_names_the_parameters_that_its_own_judge_refused(tmp_path: Path) -> None:
    row = {"query": "Which river?", "pos": ["The Elbe."], "neg": ["A baker."]}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")

    def graded(messages: Messages, body: Body) -> Answer:
        schema = body["response_format"]["json_schema"]["schema"]
        return {**smallest_instance(schema), "evidence": "NO_ANSWER"}

    def relabel(server: OpenAIServer) -> Any:
        judge = server.model()
        return run(
            tmp_path,
            "relabel",
            tmp_path / "in.jsonl",
            "--judge",
            judge,
            "--free",
            judge,
            "--strategy",
            "graded",
        )

    with OpenAIServer(graded, rejects=("seed",)) as refusing, OpenAIServer(graded) as accepting:
        changes = relabel(refusing)["parameter_changes"]
        assert [(c["parameter"], c["model"]) for c in changes] == [("seed", "openai:test-model")]
        assert "parameter_changes" not in relabel(accepting), "another judge of the same file"
