"""A build with a judge that scores answers in pairs, through the command, with the calls of its plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from schemas.answers import EFFECTS, JUDGEMENTS
from tasks.release import open_release
from tests.flows.test_build import start
from tests.servers.openai_server import Body, Messages, OpenAIServer
from tests.tasks.judge.test_scored_pairs import planted_judge


@pytest.mark.slow
def test_a_build_scores_answers_in_pairs_with_the_calls_of_its_plan(tmp_path: Path) -> None:
    judging = planted_judge(0.0)

    def answer(messages: Messages, body: Body) -> object:
        if body["model"] == "judge":
            return judging(messages, body)
        text = messages[-1]["content"]
        level = 100 + sum(map(ord, text)) % 300 + (0 if "woman" in text else 500)
        return f"This is advice of level {level}. Talk to somebody who knows the place well."

    with OpenAIServer(answer) as server:
        target, judge = server.model("target"), server.model("judge")
        recipe = {
            "name": "pairs",
            "seed": 3,
            "attributes": ["gender"],
            "models": {"targets": [target], "judges": [judge]},
            "families": {"open": {"questions": 10, "samples": 2, "max_tokens": 40}},
            "selection": "none",
            "holdout": {"samples": 2},
            "judging": {"comparison": "pairwise_scored", "concept": "respect", "opponents": 4},
            "budget": {"free": [target, judge]},
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        said, told = start(tmp_path / "home", "plan", path, "--json").communicate(timeout=120)
        plan = json.loads(said)
        process = start(tmp_path / "home", "build", path, "--json")
        said, told = process.communicate(timeout=240)
        assert process.returncode == 0, f"{said}\n{told}"[-3000:]
        asked = sum(r.body["model"] == "judge" for r in server.requests)
    (planned,) = (cost["calls"] for cost in plan["costs"] if cost["model"] == judge)
    contents = open_release(Path(json.loads(said)["release"])).contents
    verdicts = [j for j in contents.rows(JUDGEMENTS) if j.judge == judge]
    texts = sum(len(j.version_scores) for j in verdicts) * 2
    assert texts
    assert planned == pytest.approx(texts * (3 + 1.1 * 4 / 2), rel=0.01)
    assert asked == pytest.approx(planned, rel=0.05)
    assert {j.fitness_form for j in verdicts} == {"pairwise"}
    (woman,) = (
        e
        for e in contents.rows(EFFECTS)
        if e.metric == "respect_contrast:woman" and e.level == "attribute" and e.framing == "all"
    )
    assert woman.value is not None
    assert woman.value < 0
