"""The recipe of a downloaded release defines the measurement, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.evaluate import evaluation_recipe, rejudging_recipe
from flows.fix import recipe_of
from flows.next_refresh import next_recipe
from flows.refresh import recipe_changes, refuse_changes
from schemas.errors import InputError
from schemas.options import EvaluateOptions, RejudgeOptions
from schemas.recipe import Recipe
from schemas.tables import derived_seed
from tasks.models import ModelSettings
from tasks.models.names import parse_model_name
from tasks.models.settings import api_key
from tasks.package.compare import diff_releases
from tasks.release import open_release, read_manifest
from tasks.release.measuring import measuring_sections
from tests.conftest import recipe_of as small_recipe
from tests.security.guards import guarded
from tests.security.hostile import aim_at, change_manifest, copy_release

STRANGER = "http://198.51.100.7:8000"
MINE = "openai:mine@http://127.0.0.1:9/v1"


@pytest.fixture
def hostile(small_release: Path, tmp_path: Path) -> Path:
    return aim_at(copy_release(small_release, tmp_path), STRANGER, "HF_TOKEN")


def strangers_words(recipe: Recipe) -> list[str]:
    text = recipe.model_dump_json(by_alias=True)
    return [
        word for word in (STRANGER, "stranger", "HF_TOKEN", "/etc/passwd", "trust_remote") if word in text
    ]


def test_evaluation_takes_no_endpoint_key_budget_or_path_from_a_release(hostile: Path) -> None:
    options = EvaluateOptions(release=hostile, models=(MINE,), judges=("divergence",))
    recipe = evaluation_recipe(read_manifest(hostile), options)
    assert strangers_words(recipe) == []
    assert recipe.models.all_names() == (MINE, "sentences", "lexical")[:1]
    assert (recipe.budget.usd, recipe.budget.free, recipe.api_keys) == (0.0, (), {})
    assert recipe.limits == Recipe.model_fields["limits"].default


def test_rejudging_takes_no_endpoint_key_budget_or_path_from_a_release(hostile: Path) -> None:
    recipe = rejudging_recipe(read_manifest(hostile), RejudgeOptions(release=hostile, judges=(MINE,)))
    assert strangers_words(recipe) == []
    assert (recipe.models.judges, recipe.models.adjudicator) == ((MINE,), None)


def test_measured_sections_come_from_the_release(hostile: Path) -> None:
    manifest = read_manifest(hostile)
    options = EvaluateOptions(release=hostile, models=(MINE,), judges=("divergence",))
    recipe = evaluation_recipe(manifest, options)
    assert list(recipe.attributes) == manifest.recipe["attributes"]
    assert recipe.seed == derived_seed(manifest.recipe["seed"], "evaluation")
    assert recipe.judging.rubric == manifest.recipe.get("judging", {}).get("rubric", "four_scores")
    assert {f: s.samples for f, s in recipe.families.items()} == {
        f: s["samples"] for f, s in manifest.recipe["families"].items()
    }


def test_corrected_release_records_no_key_budget_limit_engine_or_path(hostile: Path) -> None:
    recipe = recipe_of(read_manifest(hostile))
    assert (recipe.api_keys, recipe.model_limits) == ({}, {})
    assert recipe.limits == Recipe.model_fields["limits"].default
    assert recipe.budget == Recipe.model_fields["budget"].default
    assert (recipe.models.engine, recipe.models.batch, recipe.models.options) == ({}, (), {})
    assert not {"/etc/passwd", "HF_TOKEN", "trust_remote"} & set(strangers_words(recipe))
    assert recipe.models.targets == (f"openai:stranger@{STRANGER}/v1",)  # the name, for the record


def test_a_stored_judge_is_named_and_must_be_chosen(hostile: Path) -> None:
    with pytest.raises(InputError, match="was judged by a model: openai:stranger@") as refused:
        evaluation_recipe(read_manifest(hostile), EvaluateOptions(release=hostile, models=(MINE,)))
    assert refused.value.exit_code == 2
    assert f"--judge openai:stranger@{STRANGER}/v1" in str(refused.value.hint)


def test_stored_rule_needs_no_choice(hostile: Path) -> None:
    change_manifest(hostile, lambda m: m["recipe"]["models"].update(judges=["divergence"], adjudicator=None))
    recipe = evaluation_recipe(read_manifest(hostile), EvaluateOptions(release=hostile, models=(MINE,)))
    assert recipe.models.judges == ("divergence",)


def test_recipe_of_the_user_brings_judges_keys_limits_and_free_models(hostile: Path, tmp_path: Path) -> None:
    own = {
        "name": "mine",
        "attributes": ["gender"],
        "models": {"targets": ["openai:x"], "judges": ["openai:judge@http://127.0.0.1:8/v1"]},
        "families": {"open": {}},
        "api_keys": {"http://127.0.0.1:8": "MY_KEY"},
        "limits": {"max_in_flight": 3},
        "budget": {"usd": 9, "free": ["openai:judge@http://127.0.0.1:8/v1"]},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    options = EvaluateOptions(release=hostile, models=(MINE,), recipe=tmp_path / "own.yaml", free=(MINE,))
    recipe = evaluation_recipe(read_manifest(hostile), options)
    assert strangers_words(recipe) == []
    assert recipe.models.judges == ("openai:judge@http://127.0.0.1:8/v1",)
    assert recipe.api_keys == {"http://127.0.0.1:8": "MY_KEY"}
    assert recipe.limits.max_in_flight == 3
    assert recipe.budget.free == ("openai:judge@http://127.0.0.1:8/v1", MINE)
    assert recipe.budget.usd == 0.0  # the option decides


def test_no_variable_is_sent_to_an_endpoint_that_only_a_release_maps(
    hostile: Path, monkeypatch: pytest.MonkeyPatch, make_context: Callable[..., Any]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    judge = f"openai:stranger@{STRANGER}/v1"
    options = EvaluateOptions(release=hostile, models=(MINE,), judges=(judge,))
    settings = ModelSettings.of(make_context(evaluation_recipe(read_manifest(hostile), options)))
    assert api_key(parse_model_name(judge), settings) is None


def test_refresh_takes_nothing_from_the_last_release(hostile: Path) -> None:
    written = small_recipe(name="everyday-advice", api_keys={"http://127.0.0.1:8": "MY_KEY"})
    recipe = next_recipe(written, "2026-W47")
    assert strangers_words(recipe) == []
    assert recipe.model_copy(update={"seed": written.seed}) == written.model_copy(
        update={"release": recipe.release}
    )
    changes = recipe_changes(open_release(hostile), recipe)
    assert {change.key for change in changes if change.meaning} >= {"models.targets", "attributes"}
    with pytest.raises(InputError, match="changes the meaning of scores since") as refused:
        refuse_changes(open_release(hostile), changes)
    assert refused.value.exit_code == 2
    assert "--accept-changes" in str(refused.value.hint)


def test_recipe_of_another_vocabulary_is_explained_and_compared(small_release: Path, tmp_path: Path) -> None:
    old = copy_release(small_release, tmp_path)

    def change(manifest: dict[str, Any]) -> None:
        manifest["recipe"] |= {"mutation": {"rounds": 3}, "deduplicate": {"threshold": "high"}}

    change_manifest(old, change)
    assert diff_releases(old, old)["bump"] == "none"
    options = EvaluateOptions(release=old, models=(MINE,), judges=("divergence",))
    with pytest.raises(InputError, match=r"deduplicate\.threshold"):
        evaluation_recipe(read_manifest(old), options)
    with pytest.raises(InputError, match="mutation"):
        recipe_of(read_manifest(old))


@pytest.mark.parametrize("section", ["models", "families", "judging", "release", "deduplicate", "budget"])
@pytest.mark.parametrize("value", [None, [], "x", 3, True])
def test_section_of_the_wrong_type_makes_the_manifest_unreadable(
    small_release: Path, tmp_path: Path, section: str, value: Any
) -> None:
    release = copy_release(small_release, tmp_path)
    change_manifest(release, lambda m: m["recipe"].update({section: value}))
    with pytest.raises(InputError, match="the manifest cannot be read"):
        read_manifest(release)


def test_only_listed_sections_are_used(hostile: Path) -> None:
    sections = measuring_sections(read_manifest(hostile))
    assert not {"models", "api_keys", "limits", "model_limits", "budget", "release", "validate"} & set(
        sections
    )
    assert all("files" not in family for family in sections["families"].values())
    assert "files" not in sections["relabel"]
    assert not {"against", "semantic"} & set(sections["deduplicate"])


def test_reading_and_comparing_a_hostile_release_writes_and_sends_nothing(hostile: Path) -> None:
    with guarded() as guard:
        open_release(hostile)
        diff_releases(hostile, hostile)
    assert (guard.connections, guard.writes, guard.commands) == ([], [], [])
