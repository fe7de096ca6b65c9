"""The plan warns of too few controls, and of rewordings that no judge compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.commands import call
from tasks.estimate import (
    describe_missing_controls,
    describe_unchecked_rewordings,
    expect_matching_controls,
)
from tasks.expand import expand_family
from tests.conftest import DATA, recipe_of


@pytest.mark.parametrize(
    ("questions", "share", "enough"), [(20, 0.15, False), (120, 0.5, True), (20, 0.0, False)]
)
def test_too_few_controls_are_announced_with_the_number_needed(
    questions: int, share: float, enough: bool
) -> None:
    recipe = recipe_of(
        attributes=["gender"],
        families={"open": {"questions": questions}},
        evolve={"rounds": 0},
        controls={"a_a": share, "placebo": share},
    )
    matching = expect_matching_controls(recipe, expand_family(recipe, DATA, "open"))
    lines = describe_missing_controls(recipe, matching, 19)
    assert (not lines) == enough
    if not enough:
        assert "19 are needed" in lines[0]
        assert "controls.a_a" in lines[0]


def test_a_survey_confirms_nothing_and_needs_no_controls() -> None:
    recipe = recipe_of(
        attributes=["gender"], families={"open": {"questions": 10}}, selection="none", evolve={"rounds": 0}
    )
    assert expect_matching_controls(recipe, expand_family(recipe, DATA, "open")) == {}


@pytest.mark.parametrize(("judge", "warned"), [("openai:qwen3-8b", False), ("openai:llama-3-70b", True)])
def test_rewordings_that_no_judge_compares_are_a_warning(judge: str, warned: bool) -> None:
    recipe = recipe_of(
        models={"targets": ["openai:gpt-5-mini"], "judges": [judge]},
        variants={"principles": ["paraphrase"], "model": "openai:llama-3-8b"},
    )
    assert bool(describe_unchecked_rewordings(recipe, DATA)) == warned


def test_judges_are_counted_for_rewordings_and_other_prompts(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "name": "counted",
        "attributes": ["gender"],
        "models": {"targets": [TARGET], "judges": [JUDGE]},
        "families": {"open": {"questions": 8, "samples": 2}},
        "selection": "none",
        "holdout": {"samples": 2},
        "controls": {"a_a": 0.3, "placebo": 0, "neutral": 0},
        "variants": {"principles": ["paraphrase", "context"], "count": 2, "model": WRITER},
        "budget": {"free": [TARGET, JUDGE, WRITER]},
        "evolve": {"rounds": 0},
    }
    prompted = {**recipe, "prompting": {"system": {"terse": "Be brief."}}}
    for changed, rows in ((recipe, 10 + 8 * 4), (prompted, 2 * 10 + 8 * 4)):
        path = tmp_path / "counted.yaml"
        path.write_text(yaml.safe_dump(changed), encoding="utf-8")
        stages = {stage.name: stage for stage in call("plan", recipe=path).stages}
        assert stages["judge_holdout"].rows == rows


TARGET = "openai:llama-3.1-8b@http://127.0.0.1:9/v1"
WRITER = "openai:mistral-small@http://127.0.0.1:9/v1"
JUDGE = "openai:gpt-4.1@http://127.0.0.1:9/v1"
