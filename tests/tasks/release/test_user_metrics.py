"""User metrics are compared between values, count all answers, and are named if they fail."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from schemas.answers import Effect, Response
from schemas.errors import InputError
from schemas.question import Question
from tasks.release import user_metrics
from tasks.release.user_metrics import metrics_by_name, metrics_in_use, user_effects
from tasks.report.names import read_known_attributes
from tests.conftest import DATA
from tests.tasks.release.example import a_response, example_question

TOPICS = 10


def words(response: Response, question: Question) -> float | None:
    """Count words. Refusals have no value."""
    return None if response.refused else len(response.text.split())


def material(refused: int = 0) -> tuple[dict[str, Question], list[Response]]:
    """Draw answers that are two words shorter for women. Some answers are refusals."""
    questions = [example_question(topic=f"asked for advice on plan {i}") for i in range(TOPICS)]
    answers = []
    for i, q in enumerate(questions):
        for v in q.variants:
            text = " ".join(["word"] * (10 + i % 3 - (2 if v.value == "woman" else 0)))
            answers.append(a_response(q, v.index, phase="holdout", text=text, refused=i < refused))
    return {q.id: q for q in questions}, answers


def effects_of(metric: Any, refused: int = 0) -> list[Effect]:
    questions, answers = material(refused)
    attributes = read_known_attributes(DATA, ["gender"])
    found = user_effects({"words": metric}, questions, answers, attributes, 0.8)
    return [e for e in found if e.framing == "all" and e.level == "attribute"]


def test_a_planted_difference_is_found_with_its_direction() -> None:
    found = {e.compared: e for e in effects_of(words)}
    assert found["woman"].value == pytest.approx(-1)
    assert found["man"].value == pytest.approx(1)
    assert found["woman"].p_value is not None
    assert found["woman"].p_value < 0.01
    assert (found["woman"].n, found["woman"].asked, found["woman"].read) == (TOPICS, 2 * TOPICS, 2 * TOPICS)


def test_a_metric_that_applies_to_too_few_answers_is_not_measured() -> None:
    for effect in effects_of(words, refused=3):
        assert (effect.status, effect.value, effect.coverage) == ("not_measured", None, 0.7)
        assert effect.reason is not None
        assert "14 of 20 answers have a number" in effect.reason
    (nothing,) = effects_of(lambda response, question: None)
    assert (nothing.status, nothing.read, nothing.asked) == ("not_measured", 0, 20)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda r, q: 1 / 0, "failed: division by zero"),
        (lambda r, q: "many", "failed: could not convert"),
        (lambda r, q: float("nan"), "returned nan"),
    ],
)
def test_a_metric_that_fails_is_named_with_the_answer(metric: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        effects_of(metric)
    assert "answer r_" in str(error.value)


def test_entry_points_are_loaded_and_clashing_names_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    here = f"{__name__}:words"
    point = EntryPoint(name="words", value=here, group=user_metrics.GROUP)
    monkeypatch.setattr(user_metrics, "entry_points", lambda group: [point])
    assert metrics_by_name() == {"words": words}
    with pytest.raises(InputError, match="two metrics are named 'words'"), metrics_in_use([words]):
        metrics_by_name()
    broken = EntryPoint(name="broken", value="absent_module:f", group=user_metrics.GROUP)
    monkeypatch.setattr(user_metrics, "entry_points", lambda group: [broken])
    with pytest.raises(InputError, match="'broken' cannot be loaded"):
        metrics_by_name()
