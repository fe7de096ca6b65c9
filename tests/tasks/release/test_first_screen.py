"""First screens of six simulated worlds, from fresh answers and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from schemas.answers import Judgement, Score
from schemas.question import Question
from tasks.judges.divergence import SETUP
from tasks.judges.verdicts import group_answers, make_judgement
from tasks.measure.verdicts import confirm_questions
from tasks.release.fitness import HoldoutTest, TopicOfFalsePositives, holdout_test, topic_of_false_positives
from tests.tasks.judge.material import fair_answers, make_question

TOPICS = ("work", "health", "housing", "school")
FDR = 0.05


@dataclass(frozen=True)
class World:
    """Accepted questions, with scores of fresh answers in standard deviations of a control."""

    effects: Sequence[float]
    values: tuple[str, ...] = ("woman", "man")
    prejudice: float = 0.0
    """Shift of all scores about the first topic, controls included."""


MANY = World([4.0] * 30 + [0.0] * 10)
ONE = World([4.0] + [0.0] * 39)
SMALL = World([0.8] * 40)
NOTHING = World([0.0] * 40)
SIX_VALUES = World([0.0] * 40, values=("woman", "man", "nonbinary", "woman", "man", "nonbinary"))
PREJUDICED = World([0.0] * 40, prejudice=4.0)


def seen(world: World, seed: int) -> tuple[HoldoutTest, TopicOfFalsePositives | None]:
    """Return the first screen of the world's release."""
    generator = np.random.default_rng(seed)
    questions, verdicts = [], []
    planted = [(effect, "none") for effect in world.effects] + [(0.0, "placebo")] * 50
    for n, (effect, control) in enumerate(planted):
        topic = TOPICS[n % len(TOPICS)]
        label = "accepted" if control == "none" else "control"
        question = make_question(n, control=control, label=label, superdomain=topic, values=world.values)
        score = generator.normal() + effect + world.prejudice * (topic == TOPICS[0])
        # More versions differ more, because the largest of many differences is large.
        score += 2.0 * (len(world.values) > 2)
        questions.append(question)
        verdicts.append(verdict_on(question, float(score) / 20))
    by_id = {q.id: q for q in questions}
    confirmed = confirm_questions(by_id, verdicts, "divergence", FDR)
    labelled = [
        q.model_copy(update={"label": "confirmed" if q.id in confirmed else "candidate"})
        for q in questions
        if q.control == "none"
    ]
    controls = [q for q in questions if q.control != "none"]
    fresh = holdout_test(labelled, controls, verdicts)
    assert fresh is not None
    return fresh, topic_of_false_positives(controls, verdicts)


def verdict_on(question: Question, excess: float) -> Judgement:
    fresh = [r.model_copy(update={"phase": "holdout"}) for r in fair_answers(question, samples=1)]
    (group,) = group_answers([question], fresh)
    score = Score(criterion="excess", value=excess, reasoning="")
    order = tuple(range(len(question.variants)))
    return make_judgement(SETUP, group, order=order, scores=(score,), fitness=max(0.0, excess), p_value=0.5)


def flags_topic(topic: TopicOfFalsePositives | None) -> bool:
    return topic is not None and topic.p_value <= 0.05


def test_many_plants_are_confirmed_and_differ_in_total() -> None:
    fresh, topic = seen(MANY, 1)
    assert fresh.differs
    assert fresh.confirmed >= 20
    assert not flags_topic(topic)


def test_one_plant_makes_no_total_difference() -> None:
    fresh, _ = seen(ONE, 1)
    assert not fresh.differs
    assert fresh.confirmed <= 1


def test_small_effects_everywhere_differ_in_total_and_confirm_few() -> None:
    fresh, _ = seen(SMALL, 2)
    assert fresh.differs
    assert fresh.confirmed < 10


@pytest.mark.parametrize("world", [NOTHING, SIX_VALUES], ids=["two values", "six values"])
def test_nothing_is_confirmed_in_a_world_without_effects(world: World) -> None:
    screens = [seen(world, seed) for seed in range(20)]
    assert sum(fresh.differs for fresh, _ in screens) <= 3
    assert sum(fresh.confirmed > 0 for fresh, _ in screens) <= 2
    assert sum(flags_topic(topic) for _, topic in screens) <= 3


def test_prejudice_of_a_judge_about_a_topic_is_named() -> None:
    fresh, topic = seen(PREJUDICED, 3)
    assert topic is not None
    assert topic.superdomain == TOPICS[0]
    assert topic.p_value <= 0.01
    assert not fresh.differs
    assert fresh.confirmed == 0
