"""`counterfoil models` reports the capabilities of servers, and problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli import cli
from schemas.errors import InputError, ModelError
from tests.servers.openai_server import Answer, Body, Messages, OpenAIServer, Reply, message, status


def script(messages: Messages, body: Body) -> Answer:
    if body.get("response_format") or "JSON" in messages[-1]["content"]:
        return {"answer": "Paris"}
    return Reply("yes", top=({"yes": -0.1, "no": -3.0},))


def models(home: Path, *arguments: str) -> tuple[dict[str, Any], BaseException | None]:
    """Return the JSON object that the command prints, and its error."""
    done = CliRunner().invoke(cli, ["models", *arguments, "--json"], env={"COUNTERFOIL_HOME": str(home)})
    error = done.exception if not isinstance(done.exception, SystemExit) else None
    return json.loads(done.stdout) if done.stdout else {}, error


def test_a_probe_learns_what_a_server_supports(tmp_path: Path) -> None:
    with OpenAIServer(script, rejects=("seed", "temperature")) as server:
        found, error = models(tmp_path, server.model(), "--probe")
        assert len(server.requests) <= 5
        before, _ = models(tmp_path, server.model())
    (entry,) = found["models"]
    assert error is None
    assert entry["name"] == server.model()
    assert entry["usable"]
    assert {name: entry["capabilities"][name] for name in ("system_role", "temperature", "seed")} == {
        "system_role": True,
        "temperature": "server default",
        "seed": False,
    }
    assert entry["problems"] == [
        "changed: seed requested, server default used",
        "changed: temperature 0 requested, server default used",
    ]
    assert before["models"][0]["capabilities"] == entry["capabilities"], "kept for the next command"


def test_nothing_is_sent_without_a_probe(tmp_path: Path) -> None:
    with OpenAIServer(script) as server:
        found, error = models(tmp_path, server.model())
        assert not server.requests
        assert not server.other_requests
    assert error is None
    assert found["models"][0]["capabilities"] is None


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(404, message="model 'm' not found, try pulling it first"), "ollama pull test-model"),
        (status(401, message="bad key"), "bad key"),
        (message(content=""), "no content"),
    ],
)
def test_a_model_that_cannot_be_used_is_an_error_with_the_words_of_its_server(
    tmp_path: Path, fault: Any, words: str
) -> None:
    with OpenAIServer(script, faults=lambda number, body: fault) as server:
        found, error = models(tmp_path, server.model(), "--probe")
    assert isinstance(error, ModelError)
    assert words in str(error)
    assert not found["models"][0]["usable"]


def test_a_model_that_thinks_for_longer_than_the_probe_can_still_be_used(tmp_path: Path) -> None:
    thinking = message(content=None, reasoning_content="Hm", finish_reason="length")
    with OpenAIServer(script, faults=lambda number, body: thinking) as server:
        found, error = models(tmp_path, server.model(), "--probe")
    assert error is None
    (entry,) = found["models"]
    assert entry["capabilities"]["reasoning"]
    assert "max_tokens" in entry["problems"][0]


def test_every_model_of_a_recipe_is_reported(tmp_path: Path) -> None:
    with OpenAIServer(script) as server:
        recipe = tmp_path / "recipe.yaml"
        names = [server.model("a"), server.model("b")]
        free = json.dumps(names[:1])
        recipe.write_text(
            f"name: r\nattributes: [gender]\nfamilies: {{open: {{}}}}\nbudget: {{free: {free}}}\n"
            f"models: {{targets: {json.dumps([*names, 'embedded:smollm2-135m'])}, may_share_family: true}}\n"
        )
        found, error = models(tmp_path, str(recipe), "--probe")
    assert error is None
    assert [entry["name"] for entry in found["models"]] == [*names, "embedded:smollm2-135m"]
    assert any("price" in problem for problem in found["models"][1]["problems"])


def test_anything_else_is_named(tmp_path: Path) -> None:
    _, error = models(tmp_path, "nonsense")
    assert isinstance(error, InputError)
    assert "neither a recipe nor a model" in str(error)
