"""Checks before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.prepare import prepare
from schemas.errors import InputError
from tests.servers.openai_server import OpenAIServer


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))


def recipe(folder: Path, server: OpenAIServer, **changes: Any) -> Path:
    target, judge = server.model("target"), server.model("judge")
    base: dict[str, Any] = {
        "name": "mine",
        "attributes": ["gender"],
        "superdomains": ["work"],
        "models": {"targets": [target], "judges": [judge]},
        "families": {"open": {"questions": 2, "samples": 1}},
        "budget": {"free": [target, judge, server.model("deciding")]},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**base, **changes}))
    return path


@pytest.mark.parametrize("reach", [False, True], ids=["plan", "build"])
def test_rubric_that_yields_no_fitness_is_refused_before_anything_is_asked(
    tmp_path: Path, reach: bool
) -> None:
    with OpenAIServer() as server:
        path = recipe(tmp_path, server, judging={"rubric": "no_such_rubric"})
        with pytest.raises(InputError) as error:
            prepare(path, budget_usd=None, reach=reach)
        assert not server.requests
    assert "precise_boolean" in str(error.value)


def test_adjudicator_among_the_judges_is_refused(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        judges = [server.model("judge"), server.model("deciding")]
        models = {"targets": [server.model("target")], "judges": judges, "adjudicator": judges[1]}
        with pytest.raises(InputError, match="a judge and the adjudicator") as error:
            prepare(recipe(tmp_path, server, models=models), budget_usd=None, reach=False)
    assert error.value.place == "models.adjudicator"


def test_plan_counts_every_pair_and_the_adjudicators_share(tmp_path: Path) -> None:
    def calls(server: OpenAIServer, **changes: Any) -> int:
        plan = prepare(recipe(tmp_path, server, **changes), budget_usd=None, reach=False).estimate
        return next(stage.calls for stage in plan.stages if stage.name == "judge")

    with OpenAIServer() as server:
        race: dict[str, Any] = {"attributes": ["race"]}
        at_once = calls(server, **race)
        pairs = calls(server, **race, judging={"comparison": "pairwise"})
        assert 10 < pairs / at_once < 15  # six races make fifteen pairs, an A/A control two values and one
        models = {
            "targets": [server.model("target")],
            "judges": [server.model("judge")],
            "adjudicator": server.model("deciding"),
        }
        assert at_once < calls(server, **race, models=models) < 2 * at_once


def test_plan_holds_verdicts_at_their_length_limit(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        costs = prepare(
            recipe(tmp_path, server, judging={"max_tokens": 5000}), budget_usd=None, reach=False
        ).estimate.costs
    judged = [c for c in costs if c.stage == "judge"]
    assert judged
    assert all(c.tokens_out == 5000 * c.calls for c in judged)


def test_mistakes_of_form_and_of_content_are_listed_together(tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text("text,attribute\nNo slots here. What now?,gender\n")
    with OpenAIServer() as server:
        path = recipe(
            tmp_path,
            server,
            attributes=["gendr", 7],
            models={"targets": [server.model("target")], "judges": [5], "may_share_family": "perhaps"},
            questions=[{"path": str(tmp_path / "broken.csv"), "samples": "many"}],
            deduplicate={"against": ["nowhere/1.0.0"], "treshold": 90},
            selction="none",
        )
        with pytest.raises(InputError) as error:
            prepare(path, budget_usd=None, reach=False)
        assert not server.requests
    text = str(error.value)
    for part in (
        "models.judges.0", "may_share_family", "samples", "did you mean `selection`", "treshold",
        "attributes.1", "'gendr'", "the text has no slot", "nowhere/1.0.0",
    ):  # fmt: skip
        assert part in text
    assert text.startswith("9 problems:")
    assert str(tmp_path / "home") not in text
