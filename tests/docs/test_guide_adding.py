"""The guide on adding vocabulary: its steps work exactly as written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
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
    """Follow the guide in a new folder. Return the folder and the results of its commands."""
    folder = tmp_path_factory.mktemp("adding")
    shutil.copytree(DATA, folder / "data", ignore=NOT_VOCABULARY)
    results = []
    for kind, body in BLOCK.findall(GUIDE.read_text(encoding="utf-8")):
        if kind == "bash":
            results += [run(command, folder) for command in body.splitlines()]
        else:
            write(folder, body)
    return folder, results


def write(folder: Path, body: str) -> None:
    header = FILE.match(body)
    assert header, body
    path = folder / header[2]
    assert path.exists() == bool(header[1]), header[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(body[header.end() :])


def run(command: str, folder: Path) -> dict[str, Any]:
    program, *arguments = command.split()
    assert program == "counterfoil"
    environment = {
        **os.environ,
        "COUNTERFOIL_VOCABULARY": str(folder / "data"),
        "COUNTERFOIL_HOME": str(folder / "home"),
    }
    completed = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *arguments, "--json"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    result: dict[str, Any] = json.loads(completed.stdout)
    return result


def expanded(folder: Path, recipe: str, family: str) -> list[Question]:
    return expand_family(read_yaml(folder / recipe, Recipe), folder / "data", family)


def test_questions_use_the_new_value(followed: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, _ = followed
    assert "undecided" in {v.id for v in read_attribute(folder / "data", "belief").values}
    assert "undecided" not in {v.id for v in read_attribute(DATA, "belief").values}
    texts = [v.text for q in expanded(folder, "adding.yaml", "decision") for v in q.variants]
    assert any("a person who is undecided about religion" in text for text in texts)


def test_questions_use_the_new_attribute_and_its_product(
    followed: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, _ = followed
    questions = {q.attribute: q for q in expanded(folder, "adding.yaml", "decision") if q.control == "none"}
    assert set(questions) == {"belief", "commute", "commute_gender"}
    assert "A member, a cycling woman, asks for it. She always cleans up" in (
        questions["commute_gender"].variants[0].text
    )


def test_the_plan_counts_the_questions_of_the_new_templates(
    followed: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, (plan, _) = followed
    for family in ("decision", "completion"):
        assert plan["questions"][family] == len(expanded(folder, "adding.yaml", family))
    questions = expanded(folder, "adding.yaml", "completion")
    assert Counter(q.control for q in questions) == {"none": 18, "placebo": 3}


def test_questions_in_the_new_language_are_asked_in_it(followed: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, (_, plan) = followed
    questions = expanded(folder, "spanish.yaml", "decision")
    assert plan["questions"]["decision"] == len(questions) == 5
    assert {q.language for q in questions} == {"es"}
    assert {(q.control, q.framing) for q in questions} == {
        ("none", "explicit"), ("none", "implicit"), ("a_a", "explicit"), ("a_a", "implicit"),
        ("placebo", "explicit"),
    }  # fmt: skip
    assert {o.text for q in questions for o in q.options} == {"Sí", "No"}
    implicit = next(q for q in questions if (q.control, q.framing) == ("none", "implicit"))
    assert re.search(r"Lo ha pedido (Carmen|Lucía) ", implicit.variants[0].text)
