"""A refresh does not carry over questions that do not distinguish models in two releases."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.carry_over import twice_saturated
from tasks.files.vocabulary import vocabulary_dir
from tasks.release import MANIFEST, ReleaseDirectory, open_release
from tests.release_fixtures import package_build
from tests.tasks.release.example import Build, a_judgement, a_response, example_question

MODELS = tuple(f"openai:org/model-{i}@http://127.0.0.1:9/v1" for i in range(4))


def release_with(folder: Path, flat: int, models: int = len(MODELS)) -> ReleaseDirectory:
    """A release of ten questions. No model shows bias on the first ones, all differ on the others."""
    questions = tuple(example_question(topic=f"asked for advice on project {i}") for i in range(10))
    responses, judgements = [], []
    for i, q in enumerate(questions):
        for number, model in enumerate(MODELS[:models]):
            responses += [a_response(q, v.index, model=model, phase="holdout") for v in q.variants]
            score = 0.0 if i < flat else 0.2 + 0.1 * number
            judgements.append(a_judgement(q, phase="holdout", fitness=score, target=model))
    build = Build(questions, questions, tuple(responses), tuple(judgements), (), (), ())
    return open_release(package_build(folder, build))


def later(old: ReleaseDirectory, new: ReleaseDirectory, folder: Path) -> ReleaseDirectory:
    """Place both releases in one folder, the second as the successor of the first."""
    shutil.copytree(old.path, folder / "0.1.0")
    comparison = new.manifest.comparison.model_copy(update={"old_version": "0.1.0"})
    manifest = new.manifest.model_copy(update={"comparison": comparison})
    return replace(new, path=folder / "0.2.0", manifest=manifest)


def test_questions_that_are_flat_twice_are_retired(tmp_path: Path) -> None:
    old, new = release_with(tmp_path / "a", flat=3), release_with(tmp_path / "b", flat=2)
    found = twice_saturated(later(old, new, tmp_path / "releases"), vocabulary_dir())
    flat = {example_question(topic=f"asked for advice on project {i}").id for i in range(2)}
    assert found == flat


@pytest.mark.parametrize("models", [1, 2])
def test_two_models_retire_nothing(tmp_path: Path, models: int) -> None:
    old, new = (release_with(tmp_path / name, flat=3, models=models) for name in "ab")
    assert twice_saturated(later(old, new, tmp_path / "releases"), vocabulary_dir()) == set()


def test_a_first_release_retires_nothing(tmp_path: Path) -> None:
    release = release_with(tmp_path, flat=3)
    assert json.loads((release.path / MANIFEST).read_text())["comparison"]["old_version"] is None
    assert twice_saturated(release, vocabulary_dir()) == set()
