"""Builds under the user's system prompts and personas, and in both polarities, through the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.answers import EFFECTS, JUDGEMENTS
from schemas.question import Option
from schemas.recipe import FAMILIES, Recipe
from tasks.families import base_condition, conditions_of, plan_asks, read_asking_prompts, request_for
from tasks.release import open_release
from tests.conftest import DATA
from tests.flows.test_build import start
from tests.servers.openai_server import Body, Messages, OpenAIServer
from tests.tasks.judge.material import make_question
from tests.tasks.judge.test_direction import scores_by_text

TERSE = "You are a clerk of few words."


def build(
    folder: Path, answer: Callable[[Messages, Body], Any], **changes: Any
) -> tuple[Path, list[Messages]]:
    """Build a small recipe, and return its release and all prompts."""
    with OpenAIServer(answer) as server:
        recipe = {
            "name": "prompted",
            "seed": 3,
            "attributes": ["gender"],
            "models": {"targets": [server.model("target")]},
            "families": {"decision": {"questions": 8, "samples": 1, "conditions": ["plain"]}},
            "controls": {"a_a": 0, "placebo": 0, "neutral": 0},
            "budget": {"free": [server.model("target")]},
            **changes,
        }
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        process = start(folder / "home", "build", path, "--json")
        said, told = process.communicate(timeout=240)
        assert process.returncode == 0, f"{said}\n{told}"[-3000:]
        return Path(json.loads(said)["release"]), [r.body["messages"] for r in server.requests]


def effects_of(release: Path) -> list[dict[str, Any]]:
    return [effect.model_dump() for effect in open_release(release).contents.rows(EFFECTS)]


def one(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    found = [row for row in rows if all(row[k] == v for k, v in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


@pytest.mark.slow
def test_every_family_is_asked_under_the_users_prompts_and_the_order_of_effects_is_compared(
    tmp_path: Path,
) -> None:
    def answer(messages: Messages, body: Body) -> str:
        text = messages[-1]["content"]
        woman = " woman" in text or "She " in text or " her " in text
        number = sum(map(ord, text.split(".")[0])) % 3
        if "hostile judge" in messages[0]["content"]:
            return "Yes" if woman else "No"
        return "No" if woman and number else "Yes"

    release, prompts = build(
        tmp_path,
        answer,
        prompting={"system": {"terse": TERSE}, "personas": {"hostile": "a hostile judge"}},
    )
    rows = effects_of(release)
    for condition in ("plain", "terse", "hostile"):
        assert one(rows, metric="gap:woman-man", condition=condition, level="attribute")
    correlation = one(rows, metric="rank_correlation", condition="terse")
    assert correlation["value"] == pytest.approx(1)
    assert (correlation["low"], correlation["high"]) == (
        None,
        None,
    )
    assert one(rows, metric="rank_correlation", condition="hostile")["value"] < 0
    systems = {m[0]["content"] for m in prompts if m[0]["role"] == "system"}
    assert any(s.startswith(TERSE) and "yes or no" in s for s in systems)
    assert any("From now on you are a hostile judge" in s for s in systems)


@pytest.mark.slow
def test_open_questions_are_asked_under_the_prompts_once_they_are_selected(tmp_path: Path) -> None:
    def answer(messages: Messages, body: Body) -> str:
        return "Talk to them calmly, and then write down the agreed steps one after the other."

    release, prompts = build(
        tmp_path,
        answer,
        selection="none",
        families={"open": {"questions": 6, "samples": 2, "max_tokens": 40}},
        holdout={"samples": 2},
        prompting={"system": {"terse": TERSE}},
    )
    rows = effects_of(release)
    assert one(rows, metric="divergence", condition="terse", level="attribute")["value"] == 0
    # All answers are the same, so that there is no order to compare.
    correlation = one(rows, metric="rank_correlation", condition="terse")
    assert correlation["status"] == "not_measured"
    assert "equal" in correlation["reason"]
    assert any(m[0] == {"role": "system", "content": TERSE} for m in prompts)


@pytest.mark.slow
def test_judges_score_the_answers_under_every_prompt_and_plan_counts_their_calls(tmp_path: Path) -> None:
    def answer(messages: Messages, body: Body) -> Any:
        if body["model"] == "judge":
            return scores_by_text(messages, body)
        asked, system = messages[-1]["content"], messages[0]["content"]
        turned = TERSE in system
        harsh = ("woman" in asked) != turned and sum(map(ord, asked.split(",")[0])) % 4 > 0
        return "Tell them to give up." if harsh else "Tell them to try again."

    with OpenAIServer(answer) as server:
        target, judge = server.model("target"), server.model("judge")
        recipe = {
            "name": "prompted",
            "seed": 3,
            "attributes": ["gender"],
            "models": {"targets": [target], "judges": [judge]},
            "families": {"open": {"questions": 12, "samples": 2, "max_tokens": 40}},
            "selection": "none",
            "holdout": {"samples": 2},
            "prompting": {"system": {"terse": TERSE}},
            "budget": {"free": [target, judge]},
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        said, _ = start(tmp_path / "home", "plan", path, "--json").communicate(timeout=120)
        plan = json.loads(said)
        process = start(tmp_path / "home", "build", path, "--json")
        said, told = process.communicate(timeout=240)
        assert process.returncode == 0, f"{said}\n{told}"[-3000:]
    release = Path(json.loads(said)["release"])
    rows = effects_of(release)
    contrasts = {
        row["condition"]: row["value"]
        for row in rows
        if row["metric"] == "warmth_contrast:woman"
        and row["level"] == "attribute"
        and row["framing"] == "all"
    }
    assert contrasts["plain"] < 0 < contrasts["terse"]
    assert one(rows, metric="rank_correlation:warmth", condition="terse")["value"] < 0
    verdicts = list(open_release(release).contents.rows(JUDGEMENTS))
    (planned,) = (stage["rows"] for stage in plan["stages"] if stage["name"] == "judge_holdout")
    assert planned == len({(j.question_id, j.condition) for j in verdicts})
    assert {j.condition for j in verdicts} == {"plain", "terse"}
    (judged,) = json.loads(said)["coverage"]["judges"]
    assert judged["asked"] == len(verdicts)
    said, told = start(tmp_path / "home", "validate", release, "--json").communicate(timeout=120)
    assert json.loads(said)["passed"], told


@pytest.mark.slow
def test_a_build_in_both_polarities_reports_the_yes_bias(tmp_path: Path) -> None:
    release, _ = build(
        tmp_path,
        lambda messages, body: "Yes",
        families={
            "decision": {"questions": 8, "samples": 1, "conditions": ["plain", "reversed", "dont_know"]}
        },
    )
    rows = effects_of(release)
    bias = one(rows, metric="yes_bias", level="attribute", condition="both_polarities")
    assert (bias["unit"], bias["value"] > 2) == ("logits of yes against no", True)
    gap = one(rows, metric="gap:woman-man", level="attribute", condition="both_polarities")
    assert gap["value"] == pytest.approx(0, abs=1e-6)
    assert bias["coverage"] == 1
    assert one(rows, metric="dont_know", level="attribute", condition="dont_know")["value"] == 0


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"perplexity_pair"}))
def test_the_prompt_precedes_that_of_every_family(family: str) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "attributes": ["gender"],
            "models": {"targets": ["embedded:smollm2-135m"]},
            "families": {family: {}},
            "prompting": {"system": {"terse": TERSE}, "personas": {"judge": "a retired judge"}},
        }
    )
    conditions = conditions_of(recipe, DATA, family)
    assert conditions[-2:] == ("terse", "judge")
    prompts = read_asking_prompts(DATA, [family])
    base = base_condition(family, prompts)
    question = make_question(
        family=family,
        values=("dialect", "standard") if family == "dialect" else ("woman", "man"),
        options=(Option(text="yes", role="yes"), Option(text="no", role="no")),
        language="de" if family == "dialect" else "en",
    )
    if family in ("dialect", "association"):
        words = tuple("abcdef") if family == "dialect" else ("a", "b")
        slots = tuple(v.model_copy(update={"slots": words}) for v in question.variants)
        question = question.model_copy(update={"variants": slots})
    ask = plan_asks(recipe, question, "holdout", [base])[0]
    usual = request_for(ask, recipe, prompts).messages
    for name, opening in (("terse", TERSE), ("judge", "a retired judge")):
        messages = request_for(replace(ask, condition=name), recipe, prompts).messages
        assert messages[0].role == "system"
        assert opening in messages[0].content
        assert messages[-1] == usual[-1]
        if usual[0].role == "system":
            assert messages[0].content.endswith(usual[0].content)


def test_texts_that_are_scored_have_no_system_prompt() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "attributes": ["gender"],
            "models": {"targets": ["embedded:smollm2-135m"]},
            "families": {"perplexity_pair": {}},
            "prompting": {"system": {"terse": TERSE}},
        }
    )
    assert conditions_of(recipe, DATA, "perplexity_pair") == ("plain",)


@pytest.mark.parametrize(
    ("prompting", "words"),
    [
        ({}, "name a prompt"),
        ({"system": {"plain": "Hello"}}, "name of another condition"),
        ({"system": {"calm": " "}}, "is empty"),
        ({"system": {"calm": "Be calm."}, "personas": {"calm": "a nurse"}}, "a system prompt and a persona"),
    ],
)
def test_faulty_prompts_are_refused(prompting: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recipe.model_validate(
            {
                "name": "x",
                "attributes": ["gender"],
                "models": {"targets": ["embedded:smollm2-135m"]},
                "families": {"decision": {}},
                "prompting": prompting,
            }
        )
