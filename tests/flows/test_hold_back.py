"""Held-back questions, from the recipe to the private file and back into an evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from schemas.question import SELECTED
from tasks.continuation import CANARY_TEXT
from tasks.release.hold_back import is_ghost, read_hold_back
from tests.conftest import recipe_of
from tests.flows.test_build import built, write_recipe
from tests.flows.test_release_commands import done, finds_bias
from tests.servers.openai_server import OpenAIServer


class Memory:
    """Second halves that the server knows by heart."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @contextmanager
    def knowing(self, release: Path) -> Iterator[None]:
        rows = pq.read_table(release / "data/questions/test-00000-of-00001.parquet").to_pylist()
        manifest = json.loads((release / "manifest.json").read_text())
        self.texts = [row["variants"][0]["text"] for row in rows]
        self.texts.append(CANARY_TEXT.format(name=manifest["name"]) + manifest["canary"])
        yield
        self.texts = []

    def answer(self, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        start = messages[-1]["content"].removeprefix("Continue this text:").strip()
        if start == messages[-1]["content"]:
            return finds_bias(messages, body)
        known = [text for text in self.texts if text.startswith(start)]
        return known[0].removeprefix(start).strip() if known else "and that is all I know."


MEMORY = Memory()


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(MEMORY.answer) as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def release(home: Path, server: OpenAIServer) -> Path:
    changes: dict[str, Any] = {
        "families": {"open": {"questions": 8, "samples": 2, "max_tokens": 30}},
        "evolve": {"rounds": 0, "save_threshold": 0.0},
        "release": {"hold_back": 0.4},
    }
    return Path(built(home, write_recipe(home / "recipe.yaml", server, **changes))["release"])


@pytest.fixture(scope="module")
def private(home: Path, release: Path) -> Path:
    return home / "hold_back" / "tested" / f"{release.name}.parquet"


@pytest.mark.slow
def test_no_file_of_the_release_reveals_held_back_questions(release: Path, private: Path) -> None:
    held, answers = read_hold_back(private)
    assert held
    assert {r.question_id for r in answers} == {q.id for q in held}
    texts = [v.text for q in held for v in q.variants]
    for path in sorted(release.rglob("*")):
        if path.suffix == ".parquet":
            content = str(pq.read_table(path).to_pylist())
        elif path.is_file():
            content = path.read_bytes().decode("utf-8", "replace")
        else:
            continue
        assert not [t for t in texts if t in content], path.name


@pytest.mark.slow
def test_private_questions_are_asked_in_the_place_of_the_released_ones(
    home: Path, release: Path, private: Path, server: OpenAIServer
) -> None:
    model = server.model("first")
    ask = ("evaluate", release, "--model", model, "--free", model, "--judge", "divergence", "--samples", "2")
    before = len(server.requests)
    result = done(home, *ask, "--hold-back", private)
    assert Path(result["folder"]).name.startswith("tested-0.1.0-hold-back-")
    asked = str([r.body for r in server.requests[before:]])
    held, _ = read_hold_back(private)
    accepted = [q for q in held if q.label in SELECTED]
    assert accepted
    assert all(v.text in asked for q in accepted for v in q.variants)
    released = pq.read_table(release / "data/questions/test-00000-of-00001.parquet").to_pylist()
    assert not [q["id"] for q in released if q["variants"][0]["text"] in asked]


@pytest.mark.slow
def test_a_model_that_completes_public_questions_is_flagged(
    home: Path, release: Path, private: Path, server: OpenAIServer
) -> None:
    model = server.model("first")
    ask = ("evaluate", release, "--model", model, "--free", model, "--judge", "divergence", "--samples", "2")
    plain = done(home, *ask)
    assert plain["contamination"]["status"] == "not_measured"
    assert plain["contamination"]["reason"] == "the models were not probed; add --contamination"
    before = len(server.requests)
    clean = done(home, *ask, "--contamination")["contamination"]
    probes = [r.body for r in server.requests[before:] if "Continue this text" in str(r.body)]
    assert clean["requests"] == len(probes) > 1
    (found,) = clean["models"]
    assert (found["flagged"], found["reproduced"], found["failed"]) == (False, [], 0)
    assert {test["test"] for test in found["tests"]} == {"gap", "continuation", "canary"}
    # Few questions are held back here, so that only the canary string can be decided.
    assert all(t["status"] == "measured" or t["reason"] for t in found["tests"])
    with MEMORY.knowing(release):
        name = server.model("second")
        ask = ("evaluate", release, "--model", name, "--free", name, *ask[6:])
        (known,) = done(home, *ask, "--contamination")["contamination"]["models"]
    assert known["flagged"]
    assert len(known["reproduced"]) == known["probed"] > 0
    canary = next(test for test in known["tests"] if test["test"] == "canary")
    assert (canary["flagged"], canary["effect"]) == (True, 1.0)
    assert canary["p_value"] < 1e-9


@pytest.mark.slow
def test_built_again_the_same_stays_private(home: Path, release: Path, private: Path) -> None:
    before = private.read_bytes()
    assert built(home, home / "recipe.yaml")["release"] == str(release)
    assert private.read_bytes() == before


@pytest.mark.slow
def test_ghosts_are_private_and_serve_as_null(tmp_path: Path, server: OpenAIServer) -> None:
    changes: dict[str, Any] = {
        "families": {"open": {"questions": 12, "samples": 2, "max_tokens": 30}},
        "selection": "none",
        "evolve": {"rounds": 0},
        "release": {"ghosts": 9},
    }
    recipe = write_recipe(tmp_path / "recipe.yaml", server, **changes)
    before = len(server.requests)
    release = Path(built(tmp_path, recipe)["release"])
    private = tmp_path / "hold_back" / "tested" / f"{release.name}.parquet"
    held, answers = read_hold_back(private)
    assert len(held) == 9
    assert all(map(is_ghost, held))
    assert not answers
    manifest = json.loads((release / "manifest.json").read_text())
    assert (manifest["hold_back"]["questions"], manifest["hold_back"]["ghosts"]) == (0, 9)
    assert "never asked: 9" in (release / "README.md").read_text()
    asked = str([r.body for r in server.requests[before:]])
    content = "".join(
        str(pq.read_table(path).to_pylist())
        if path.suffix == ".parquet"
        else path.read_bytes().decode("utf-8", "replace")
        for path in release.rglob("*")
        if path.is_file()
    )
    for text in (v.text for q in held for v in q.variants):
        assert text not in content
        assert text not in asked
    model = server.model("first")
    ask = ("evaluate", release, "--model", model, "--free", model, "--judge", "divergence", "--samples", "2")
    clean = done(tmp_path, *ask, "--contamination", "--out", tmp_path / "clean")["contamination"]
    tests = {test["test"]: test for test in clean["models"][0]["tests"]}
    assert (tests["continuation"]["status"], tests["continuation"]["flagged"]) == ("measured", False)
    assert tests["continuation"]["private"] >= 5
    assert tests["gap"]["status"] == "not_measured"
    with MEMORY.knowing(release):
        name = server.model("second")
        ask = ("evaluate", release, "--model", name, "--free", name, *ask[6:])
        found = done(tmp_path, *ask, "--contamination", "--out", tmp_path / "known")["contamination"]
    tests = {test["test"]: test for test in found["models"][0]["tests"]}
    assert tests["continuation"]["flagged"]
    # A later build publishes none of them.
    again = write_recipe(tmp_path / "recipe.yaml", server, seed=77, **changes)
    later = Path(built(tmp_path, again)["release"])
    texts = pq.read_table(later / "data/questions/test-00000-of-00001.parquet")["template"].to_pylist()
    assert not {q.template for q in held} & set(texts)


@pytest.mark.parametrize(
    "changes",
    [
        {"questions": [{"path": "own.csv"}], "families": {"open": {}}},
        {"families": {"decision": {}}},
        {
            "models": {"generator": "openai:gpt-5-mini", "targets": ["openai:gpt-5"]},
            "evolve": {"rounds": 1},
            "families": {"open": {}},
        },
    ],
)
def test_ghosts_must_be_like_the_other_questions(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"release\.ghosts"):
        recipe_of(release={"ghosts": 5}, **changes)
