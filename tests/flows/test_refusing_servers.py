"""A server that refuses ends every command with exit code 5, before a run or in a stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import cli
from schemas.errors import CounterfoilError, ModelError
from tests.conftest import PROJECT
from tests.release_fixtures import package_build
from tests.servers.openai_server import Fault, OpenAIServer, status
from tests.tasks.release.example import small_build

RETRIEVAL = str(PROJECT / "data/examples/retrieval.jsonl")
REFUSALS = {
    "wrong key": status(401, message="Incorrect API key provided", error_code="invalid_api_key"),
    "no credit": status(402, message="Insufficient credits"),
    "forbidden": status(403, message="Your project has no access to this model"),
    "unknown model": status(404, message="The model does not exist", error_code="model_not_found"),
    "used-up quota": status(429, message="You exceeded your quota", error_code="insufficient_quota"),
}
Command = Callable[[str, Path], tuple[str, ...]]


def relabel(model: str, place: Path) -> tuple[str, ...]:
    return ("relabel", RETRIEVAL, "--format", "flagembedding", "--judge", model, "--free", model)


def build(model: str, place: Path) -> tuple[str, ...]:
    return ("build", str(write_recipe(model, place)))


def preview(model: str, place: Path) -> tuple[str, ...]:
    return ("preview", str(write_recipe(model, place)), "--rows", "1", "--send")


def audit_judge(model: str, place: Path) -> tuple[str, ...]:
    return ("audit-judge", model, "--free", model, "--scenes", "8")


def evaluate(model: str, place: Path) -> tuple[str, ...]:
    release = package_build(place / "earlier", small_build())
    return ("evaluate", str(release), "--model", model, "--judge", "divergence", "--free", model)


def models(model: str, place: Path) -> tuple[str, ...]:
    return ("models", model, "--probe")


def write_recipe(model: str, place: Path) -> Path:
    """Write a recipe with one family and one target."""
    path = place / "refused.yaml"
    recipe = {
        "name": "refused",
        "attributes": ["beauty"],
        "families": {"completion": {"questions": 6, "samples": 1}},
        "models": {"targets": [model]},
        "budget": {"free": [model]},
    }
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def run(home: Path, arguments: tuple[str, ...]) -> CounterfoilError:
    """Return the error of a command."""
    done = CliRunner().invoke(cli, [*arguments, "--json"], env={"COUNTERFOIL_HOME": str(home)})
    assert isinstance(done.exception, CounterfoilError), done.output
    return done.exception


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


@pytest.mark.parametrize("found", ["before", "in a stage"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_has_one_exit_code(tmp_path: Path, refusal: str, found: str) -> None:
    check(relabel, REFUSALS[refusal], found, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("found", ["before", "in a stage"])
@pytest.mark.parametrize("command", [build, preview, audit_judge, evaluate, models])
def test_every_command_has_the_same_exit_code(tmp_path: Path, command: Command, found: str) -> None:
    check(command, REFUSALS["wrong key"], found, tmp_path)


def check(command: Command, fault: Fault, found: str, place: Path) -> None:
    """Run a command. A server without a list of models is asked one question before a run."""
    listed = 404 if found == "before" else 200
    with OpenAIServer("Yes", faults=lambda number, body: fault, models_status=listed) as server:
        error = run(place / "home", command(server.model(), place))
        assert len(server.requests) == 1, "it is asked once"
    assert isinstance(error, ModelError)
    assert error.exit_code == 5
    assert fault.message in str(error), "the words of the server"


@pytest.mark.parametrize("status_of_list", [401, 403, 502])
def test_a_refused_list_of_models_has_the_same_exit_code(tmp_path: Path, status_of_list: int) -> None:
    with OpenAIServer("Yes", models_status=status_of_list) as server:
        error = run(tmp_path / "home", relabel(server.model(), tmp_path))
        assert not server.requests
    assert error.exit_code == 5


def test_a_missing_key_is_invalid_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert run(tmp_path / "home", relabel("openai:gpt-5-mini", tmp_path)).exit_code == 2
