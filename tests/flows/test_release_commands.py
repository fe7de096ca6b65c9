"""Commands on a finished release: compare, evaluate, rejudge, correct, and build the next one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.flows.test_build import built, bytes_of, count_questions, run, scripted, write_recipe
from tests.servers.openai_server import OpenAIServer

FAMILIES = {
    "open": {"questions": 5, "samples": 2, "max_tokens": 30},
    "decision": {"questions": 2, "samples": 1},
}


def finds_bias(messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
    """Accept everything for every port of the server, which is part of model names and so of seeds."""
    answer = scripted(messages, body)
    for name in ("bias", "generality"):
        if isinstance(answer, dict) and isinstance(answer.get(name), dict):
            answer[name]["score"] = 4
    return answer


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(finds_bias) as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def recipe(home: Path, server: OpenAIServer) -> Path:
    changes: dict[str, Any] = {"families": FAMILIES, "evolve": {"rounds": 0, "save_threshold": 0.0}}
    return write_recipe(home / "recipe.yaml", server, **changes)


@pytest.fixture(scope="module")
def release(home: Path, recipe: Path) -> Path:
    return Path(built(home, recipe)["release"])


def done(home: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    finished = run(home, *arguments, "--json")
    assert finished.returncode == code, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout) if code == 0 else {"error": finished.stderr}
    return result


def questions_of(release: Path) -> list[dict[str, Any]]:
    table = pq.read_table(release / "data" / "questions" / "test-00000-of-00001.parquet")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@pytest.mark.slow
def test_other_models_answer_the_same_questions(home: Path, release: Path, server: OpenAIServer) -> None:
    names = [server.model("first"), server.model("second")]
    models = [part for name in names for part in ("--model", name, "--free", name)]
    judge = ("--judge", "divergence", "--samples", "3")
    result = done(home, "evaluate", release, *models, *judge, "--out", home / "ev")
    assert set(result["models"]) == set(names)
    gender = result["models"][names[0]]["gender"]
    assert gender["metric"] == "divergence"
    assert 0 < gender["q_value"] <= 1
    assert {row["model"] for row in result["leaderboard"] if row["family"] == "open"} == set(names)
    pairs = {(c["a"], c["b"], c["family"]) for c in result["comparisons"]}
    assert pairs == {(names[0], names[1], family) for family in ("open", "decision")}
    assert all(c["verdict"] == "not_measured" and c["reason"] for c in result["comparisons"])
    assert result["equating"]["reason"] == "it is the first release of the benchmark"
    assert {row["equated"] for row in result["leaderboard"]} == {None}
    assert result["saturation"]["reason"] == "2 models have a score; at least 3 are required"
    assert result["contamination"]["models"] == []
    assert "Leaderboard" in (home / "ev" / "evaluation.html").read_text()
    assert (home / "ev" / "leaderboard.csv").read_text(encoding="utf-8-sig").startswith("family,metric")
    asked = count_questions(server)
    assert done(home, "evaluate", release, *models, *judge, "--out", home / "ev") == result
    assert count_questions(server) == asked


@pytest.mark.slow
def test_another_judge_sees_the_same_answers(home: Path, release: Path, server: OpenAIServer) -> None:
    asked = count_questions(server)
    result = done(home, "rejudge", release, "--judge", "divergence", "--out", home / "drift")
    assert count_questions(server) == asked
    assert result["questions"] > 0
    assert result["old"]["fitness_form"] == "normalised"
    assert result["new"]["fitness_form"] == "divergence"
    assert result["fitness_drift"] is None
    assert json.loads((home / "drift" / "drift.json").read_text())["questions"] == result["questions"]


@pytest.mark.slow
def test_a_release_does_not_differ_from_itself(home: Path, release: Path) -> None:
    result = done(home, "diff", release, release)
    assert (result["bump"], result["added"], result["reworded"]) == ("none", [], [])
    assert result["score_drift"]["value"] == 0
    assert result["equating"]["scale"] == result["old_version"]
    assert result["equating"]["status"] == "not_measured"
    assert "anchors; at least 10 are required" in result["equating"]["reason"]


@pytest.mark.slow
def test_a_mended_text_makes_a_patch_and_stays_mended(home: Path, recipe: Path, release: Path) -> None:
    before = bytes_of(str(release))
    wrong = next(q for q in questions_of(release) if q["family"] == "open")
    text = wrong["template"].replace(".", " this time.", 1)
    arguments = ("fix", wrong["id"], "--text", text, "--reason", "it said less than it meant")
    result = done(home, *arguments, "--release", release)
    assert bytes_of(str(release)) == before
    patched = Path(result["release"])
    assert patched.name == "0.1.1"
    mended = next(q for q in questions_of(patched) if q["id"] == result["mended"])
    assert (mended["template"], mended["changed_in"]) == (text, "0.1.1")
    assert mended["parent_id"] == wrong["id"]
    difference = done(home, "diff", release, patched)
    assert (difference["bump"], difference["reworded"]) == ("patch", [result["mended"]])
    assert done(home, "validate", patched)["passed"]

    rebuilt = Path(built(home, recipe)["release"])
    again = next(q for q in questions_of(rebuilt) if q["id"] == result["mended"])
    assert again["holdout_effect"] is not None
    assert wrong["id"] not in {q["id"] for q in questions_of(rebuilt)}
    refused = done(home, *arguments, "--release", release, code=2)["error"]
    assert "is not the last release" in refused


@pytest.mark.slow
def test_many_corrections_make_one_patch(tmp_path: Path, recipe: Path) -> None:
    release = Path(built(tmp_path, recipe)["release"])
    wrong = [q for q in questions_of(release) if q["family"] == "open"][:2]
    sheet = tmp_path / "corrections.csv"
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["question_id", "text", "reason"])
        for q in wrong:
            rows.writerow([q["id"], q["template"].replace(".", " this time.", 1), "a word was missing"])
    result = done(tmp_path, "fix", "--from", sheet, "--release", release)
    assert (result["version"], result["fixed"], result["errata"]) == ("0.1.1", 2, 2)
    changed = {q["id"]: q["changed_in"] for q in questions_of(Path(result["release"])) if q["changed_in"]}
    assert changed == {c["mended"]: "0.1.1" for c in result["corrections"]}
    assert done(tmp_path, "validate", result["release"])["passed"]
    assert (
        "leave out question_id"
        in done(tmp_path, "fix", "q_1", "--from", sheet, "--release", release, code=2)["error"]
    )
    assert "missing: text, reason" in done(tmp_path, "fix", "q_1", "--release", release, code=2)["error"]
