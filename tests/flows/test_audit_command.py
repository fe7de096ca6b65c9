"""`counterfoil audit-judge`: one JSON object, exit codes, nothing spent over the budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from flows.cli import cli
from schemas.errors import BudgetError, GateError
from tests.servers.openai_server import OpenAIServer
from tests.tasks.audit.material import scripted


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["audit-judge", *map(str, arguments)])


def recipe_file(tmp_path: Path, judge: str, **judging: object) -> Path:
    path = tmp_path / "recipe.yaml"
    recipe = {
        "name": "mine",
        "attributes": ["gender"],
        "models": {"targets": ["embedded:smollm2-135m"], "judges": [judge]},
        "families": {"open": {"questions": 2}},
        "judging": judging,
        "budget": {"free": [judge]},
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_divergence_is_audited_offline_with_one_entry_a_probe() -> None:
    said = json.loads(run("divergence", "--json").stdout)
    assert set(said["probes"]) == {"repeat", "a_a", "planted", "position", "gold", "abstention"}
    assert set(said["probes"]["planted"]["recall_2"]) >= {"value", "low", "high", "n"}
    assert Path(said["passport"]).is_file()
    assert (said["calls"], said["cost_usd"], said["below_the_bar"]) == (0, 0.0, [])


def test_biased_judge_ends_with_exit_code_3_if_the_recipe_has_a_bar(tmp_path: Path) -> None:
    with OpenAIServer(scripted(authority=0.8)) as server:
        judge = server.model()
        path = recipe_file(tmp_path, judge, rubric="precise_boolean", comparison="pairwise")
        said = run(judge, "--recipe", path, "--scenes", 8, "--json")
        plain = run(judge, "--free", judge, "--scenes", 8, "--rubric", "precise_boolean")
    assert isinstance(said.exception, GateError)
    assert said.exception.exit_code == 3
    report = json.loads(said.stdout)
    assert (report["rubric"], report["comparison"]) == ("precise_boolean", "pairwise")
    assert any(words.startswith("authority: ") for words in report["below_the_bar"])
    assert plain.exit_code == 0
    assert "below the bar" in plain.stdout


def test_request_options_reach_the_server_of_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_JUDGE_KEY", "sk-of-the-judge")
    with OpenAIServer(scripted()) as server:
        judge = server.model()
        options = ("--extra-body", '{"top_k": 1}', "--max-tokens", 900, "--api-key-env", "MY_JUDGE_KEY")
        done = run(judge, "--free", judge, "--scenes", 8, *options)
        judged = [r for r in server.requests if r.body.get("top_k") == 1]
    assert done.exit_code == 0
    assert len(judged) > 8
    assert {r.body["max_tokens"] for r in judged} == {900}
    assert {dict(r.headers)["authorization"] for r in judged} == {"Bearer sk-of-the-judge"}


def test_over_the_budget_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    refused = run("openai:gpt-5-mini", "--budget", "0.01")
    assert isinstance(refused.exception, BudgetError)
    assert "--budget" in str(refused.exception)
