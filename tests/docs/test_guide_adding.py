"""The guide on adding vocabulary, followed to the letter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.question import Question
from schemas.recipe import Recipe
from tasks.expand import expand_family
from tasks.files.vocabulary import read_attribute
from tasks.files.yaml import read_yaml
from tests.conftest import DATA, PROJECT

GUIDE = PROJECT / "docs" / "guides" / "adding.md"
NOT_VOCABULARY = shutil.ignore_patterns("runs", "cache", "releases")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (add to )?(\S+)\n")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder in which the guide was followed, and what its commands said."""
    place = tmp_path_factory.mktemp("adding")
    shutil.copytree(DATA, place / "data", ignore=NOT_VOCABULARY)
    said = []
    for kind, body in BLOCK.findall(GUIDE.read_text(encoding="utf-8")):
        if kind == "bash":
            said += [run(command, place) for command in body.splitlines()]
        else:
            write(place, body)
    return place, said


def write(place: Path, body: str) -> None:
    head = FILE.match(body)
    assert head, body
    path = place / head[2]
    assert path.exists() == bool(head[1]), head[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(body[head.end() :])


def run(command: str, place: Path) -> dict[str, Any]:
    program, *arguments = command.split()
    assert program == "counterfoil"
    environment = {
        **os.environ,
        "COUNTERFOIL_VOCABULARY": str(place / "data"),
        "COUNTERFOIL_HOME": str(place / "home"),
    }
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *arguments, "--json"],
        cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def expanded(place: Path, recipe: str, family: str) -> list[Question]:
    return expand_family(read_yaml(place / recipe, Recipe), place / "data", family)


def test_the_new_value_is_asked_about(followed: tuple[Path, list[dict[str, Any]]]) -> None:
    place, _ = followed
    assert "undecided" in {v.id for v in read_attribute(place / "data", "belief").values}
    assert "undecided" not in {v.id for v in read_attribute(DATA, "belief").values}
    texts = [v.text for q in expanded(place, "adding.yaml", "decision") for v in q.variants]
    assert any("a person who is undecided about religion" in text for text in texts)


def test_the_new_attribute_and_its_product_are_asked_about(
    followed: tuple[Path, list[dict[str, Any]]],
) -> None:
    place, _ = followed
    questions = {q.attribute: q for q in expanded(place, "adding.yaml", "decision") if q.control == "none"}
    assert set(questions) == {"belief", "commute", "commute_gender"}
    assert "A member, a cycling woman, asks for it. She always cleans up" in (
        questions["commute_gender"].variants[0].text
    )


def test_the_plan_counts_what_the_new_templates_make(followed: tuple[Path, list[dict[str, Any]]]) -> None:
    place, (plan, _) = followed
    for family in ("decision", "completion"):
        assert plan["questions"][family] == len(expanded(place, "adding.yaml", family))
    assert plan["questions"]["completion"] == 18


def test_the_new_language_is_asked_in_itself(followed: tuple[Path, list[dict[str, Any]]]) -> None:
    place, (_, plan) = followed
    questions = expanded(place, "spanish.yaml", "decision")
    assert plan["questions"]["decision"] == len(questions) == 4
    assert {q.language for q in questions} == {"es"}
    assert {(q.control, q.framing) for q in questions} == {
        ("none", "explicit"), ("none", "implicit"), ("a_a", "explicit"), ("placebo", "explicit")
    }  # fmt: skip
    assert {o.text for q in questions for o in q.options} == {"Sí", "No"}
    implicit = next(q for q in questions if q.framing == "implicit")
    assert re.search(r"Lo ha pedido (Carmen|Lucía) ", implicit.variants[0].text)
