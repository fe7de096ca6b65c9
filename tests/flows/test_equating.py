"""`diff`, `show` and `evaluate` put the scores of two releases on one scale."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from flows.cli.printing import OUT, print_diff, print_evaluation
from flows.commands import call
from tests.release_fixtures import package_build
from tests.tasks.release.example import Build, a_judgement, a_response, example_question

MODELS = tuple(f"openai:org/model-{i}@http://127.0.0.1:9/v1" for i in range(3))
ANCHORS, OTHERS = 24, 24
CHANGED = 0.15
GAP = {"test": "gap", "status": "not_measured", "reason": "3 public questions", "flagged": False}


def build_of(form: str, *, harder: float, change: float, seed: int) -> Build:
    """Anchors in both forms, and questions of one form that are harder. The first model changes."""
    random, difficulty = Random(seed), Random(7)
    questions, judgements, responses = [], [], []
    topics = [f"asked the team for advice on project {i}" for i in range(ANCHORS)]
    topics += [f"asked the {form} board for a plan of trip {i}" for i in range(OTHERS)]
    for i, topic in enumerate(topics):
        q = example_question(topic=topic)
        level = 0.2 + 0.3 * difficulty.random() + (harder if i >= ANCHORS else 0.0)
        questions.append(q)
        for number, model in enumerate(MODELS):
            for v in q.variants:
                responses.append(a_response(q, v.index, model=model, phase="holdout"))
            more = 0.03 * number + (change if number == 0 else 0.0)
            score = min(1.0, max(0.0, level + more + random.gauss(0, 0.04)))
            judgements.append(a_judgement(q, phase="holdout", fitness=score, target=model))
    rows = tuple(questions)
    return Build(rows, rows, tuple(responses), tuple(judgements), (), (), ())


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    old = build_of("old", harder=0.0, change=0.0, seed=1)
    new = build_of("new", harder=0.2, change=CHANGED, seed=2)
    return (
        package_build(tmp_path_factory.mktemp("old"), old),
        package_build(tmp_path_factory.mktemp("new"), new),
    )


def entry(metric: dict[str, Any], model: str, release: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        m for m in metric["models"] if (m["model"], m["release"]) == (model, release)
    )
    return found


def test_diff_separates_a_harder_form_from_a_changed_model(releases: tuple[Path, Path]) -> None:
    result = call("diff", old=releases[0], new=releases[1])["equating"]
    assert (result["status"], result["scale"]) == ("measured", "0.1.0")
    metric = next(m for m in result["metrics"] if m["family"] == "open")
    assert (metric["anchors"], metric["method"]) == (ANCHORS, "mixed_model")
    assert metric["drift"] == {"status": "measured", "reason": None, "anchors": []}
    assert metric["shift"]["value"] == pytest.approx(0.1, abs=0.05)
    assert metric["shift"]["low"] > 0
    changed, same = (entry(metric, model, "later") for model in MODELS[:2])
    assert changed["change"]["value"] == pytest.approx(CHANGED, abs=0.04)
    assert changed["change"]["verdict"] == "differs"
    assert changed["change"]["q_value"] < 0.01
    assert same["change"]["verdict"] == "no_difference_found"
    assert same["change"]["low"] < 0 < same["change"]["high"]
    assert same["score"] - entry(metric, MODELS[1], "earlier")["score"] > 0.05
    before = entry(metric, MODELS[1], "earlier")["equated"]["value"]
    assert same["equated"]["value"] == pytest.approx(before, abs=0.03)
    assert same["equated"]["standard_error"] > 0


def test_diff_prints_equated_changes(releases: tuple[Path, Path]) -> None:
    result = call("diff", old=releases[0], new=releases[1])
    with OUT.capture() as captured:
        print_diff(result)
    text = " ".join(captured.get().split())
    assert "on the scale of 0.1.0, through 24 anchors" in text
    assert "model-0" in text
    assert "differs" in text


def test_a_release_shows_how_well_its_questions_tell_models_apart(releases: tuple[Path, Path]) -> None:
    saturation = call("show", place=releases[0])["saturation"]
    assert (saturation["status"], saturation["uninformative"]) == ("measured", 0)
    assert saturation["questions"] == ANCHORS + OTHERS
    fit = saturation["fits"][0]
    assert {"question", "discrimination", "low", "high", "at_floor", "at_ceiling", "informative"} <= set(fit)
    assert fit["models"] == 3


def test_an_evaluation_prints_equated_scores_and_contamination(releases: tuple[Path, Path]) -> None:
    equating = call("diff", old=releases[0], new=releases[1])["equating"]
    test = {"test": "canary", "effect": 1.0, "low": None, "high": None, "p_value": 1e-9, "corrected": 1e-9}
    model = {
        "model": MODELS[0],
        "tests": [test | {"status": "measured", "flagged": True}, GAP],
        "flagged": True,
    }
    row = {"family": "open", "metric": "normalised", "model": MODELS[0], "language": "en", "effect": 0.2}
    row |= {"low": None, "high": None, "q_value": None, "a_a_floor": None, "n": 24, "equated": 0.173}
    with OUT.capture() as captured:
        print_evaluation(
            {
                "summary": [],
                "leaderboard": [row],
                "equating": equating,
                "contamination": {"models": [model]},
                "compared": [],
                "folder": "here",
            }
        )
    text = " ".join(captured.get().split())
    assert "0.173" in text
    assert "on the scale of 0.1.0" in text
    assert "flagged" in text
    assert "gap: not measured: 3 public questions" in text
