"""Bad recipes give one clear error each, with the place and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.recipe import Recipe
from tasks.files.yaml import parse_yaml, read_yaml
from tests.conftest import DATA

GOOD = """name: mine
attributes: [gender]
models:
  targets: ["embedded:smollm2-135m"]
families:
  open: {questions: 4}
evolve: {rounds: 1}
"""


def fault(text: str) -> InputError:
    with pytest.raises(InputError) as error:
        parse_yaml(text, Recipe, place="mine.yaml")
    assert error.value.exit_code == 2
    return error.value


def test_good_recipe_is_read() -> None:
    assert parse_yaml(GOOD, Recipe, place="mine.yaml").name == "mine"


@pytest.mark.parametrize("path", sorted((DATA / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_recipes_are_read(path: Path) -> None:
    read_yaml(path, Recipe)


def test_unknown_key_is_named_with_its_line_and_the_nearest_known_one() -> None:
    error = fault(GOOD.replace("rounds: 1", "ruonds: 1"))
    assert error.place == "mine.yaml:7:10"
    assert "did you mean `rounds`" in error.message


def test_wrong_type_shows_the_value() -> None:
    error = fault(GOOD.replace("questions: 4", "questions: many"))
    assert error.place == "mine.yaml:6:10"
    assert "'many'" in error.message


def test_missing_key_is_named() -> None:
    error = fault(GOOD.replace('  targets: ["embedded:smollm2-135m"]', "  judges: [divergence]"))
    assert "models.targets" in error.message
    assert "missing" in error.message


def test_unknown_backend_is_refused() -> None:
    assert "models.targets" in fault(GOOD.replace("embedded:smollm2-135m", "gpt-5")).message


def test_unknown_family_lists_the_known_ones() -> None:
    assert "open" in fault(GOOD.replace("  open:", "  opne:")).message


def test_evolution_needs_open_questions() -> None:
    assert "open" in fault(GOOD.replace("  open: {questions: 4}", "  decision: {}")).message


def test_key_given_twice_is_refused_instead_of_the_last_one_winning() -> None:
    error = fault(GOOD + "name: other\n")
    assert "twice" in error.message
    assert error.place == "mine.yaml:8:1"


@pytest.mark.parametrize(
    "text",
    ["", "- a\n- b\n", "name: [", "name: !!python/object/apply:os.system ['true']\n", "a: &a [*a]\n"],
    ids=["empty", "a list", "broken", "code", "recursive"],
)
def test_invalid_recipe_is_refused_and_never_run(text: str) -> None:
    assert fault(text).place is not None


def test_missing_file_names_the_shipped_recipes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_yaml(tmp_path / "none.yaml", Recipe)


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_yaml(path, Recipe)
