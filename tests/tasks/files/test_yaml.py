"""Mistakes in YAML files: each is named once, in the words of the file, and none is the result of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.errors import InputError
from schemas.recipe import Recipe
from tasks.files.yaml import parse_yaml, read_valid_part

BASE: dict[str, Any] = {"name": "mine", "models": {"targets": ["openai:a"]}, "attributes": ["gender"]}


def explained(**changes: Any) -> str:
    with pytest.raises(InputError) as error:
        parse_yaml(yaml.safe_dump({**BASE, **changes}), Recipe, place="r.yaml")
    return str(error.value)


@pytest.mark.parametrize("judges", [[5], ["nonsense"], [5, "nonsense"], [None]])
def test_a_wrong_item_does_not_make_its_list_too_short(judges: list[Any]) -> None:
    text = explained(models={"targets": ["openai:a"], "judges": judges})
    assert "at least 1 item" not in text
    assert text.count("models.judges") == len(judges)
    assert text.count("must be 'divergence' or a ") == len(judges)
    assert ("openai:gpt-5-mini" in text) == ("nonsense" in judges)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"models": {"targets": "openai:a"}}, "models.targets: must be a list"),
        ({"models": {"targets": []}}, "models.targets: needs at least 1 item"),
        ({"seed": "many"}, "seed: must be a whole number"),
        ({"budget": {"usd": -3}}, "budget.usd: must be at least 0"),
        ({"coverage": {"strength": 9}}, "coverage.strength: must be at most 3"),
        ({"selection": "all"}, "selection: must be 'none' or 'floor'"),
        ({"budget": 3}, "budget: must be a mapping"),
        ({"name": "My Study"}, "name: must consist of small letters"),
        ({"name": 5}, "name: must be a text"),
    ],
)
def test_mistakes_are_in_the_words_of_the_file(changes: dict[str, Any], expected: str) -> None:
    text = explained(**changes)
    assert expected in text
    assert "uple" not in text
    assert "nput should" not in text


def test_the_valid_part_of_a_file_can_be_checked(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    wrong = {"attributes": ["gender", 7], "models": {"targets": ["openai:a"], "judges": [5]}, "extra": 1}
    path.write_text(yaml.safe_dump({**BASE, **wrong}))
    part = read_valid_part(path, Recipe)
    assert part is not None
    assert part.attributes == ("gender",)
    assert part.models.targets == ("openai:a",)
    assert part.models.judges == ("divergence",)


def test_every_broken_rule_is_listed() -> None:
    text = explained(evolve={"rounds": 2}, selection="none", relabel={"strategy": "graded"})
    for part in ("evolve.rounds needs the family", "name `families`", "does not fit", "needs models"):
        assert part in text


def test_missing_keys_have_defaults_and_rules_are_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"attributes": ["gender"], "models": {"batch": ["vllm:x"], "judges": 3}}))
    defaults = {("name",): "unnamed", ("models", "targets"): ["openai:b"]}
    part = read_valid_part(path, Recipe, defaults)
    assert part is not None
    assert (part.name, part.attributes, part.models.targets) == ("unnamed", ("gender",), ("openai:b",))


@pytest.mark.parametrize("text", ["- 1", "name: [", "", "name: mine", "models: {targets: [5]}"])
def test_a_file_without_a_valid_part_has_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    assert read_valid_part(path, Recipe) is None
