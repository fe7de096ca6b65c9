"""Effects of open questions: how far the fresh answers for different values are apart, and in what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.attribute import Attribute
from schemas.effect import Effect
from schemas.question import Question
from tasks.judging.answer_features import FEATURES
from tasks.judging.divergence import (
    Divergence,
    DivergenceWords,
    compare_answers,
    signed_gaps,
)
from tasks.judging.groups import AnswerGroup
from tasks.measuring.effects import Slice, effect_of, slices_of
from tasks.stats.bootstrap import Interval, mean_with_interval
from tasks.stats.excess import excess_interval
from tasks.stats.permutation import Floats, Tail, pooled_p_value

DISTANCE = "word distance between minus within values"


@dataclass(frozen=True)
class Compared:
    """A group of fresh answers and what comparing them gave."""

    question: Question
    model: str
    divergence: Divergence


def compare_groups(
    groups: Iterable[AnswerGroup], attributes: Mapping[str, Attribute], words: DivergenceWords
) -> list[Compared]:
    """Groups that can be compared; incomplete ones and single samples are left out."""
    found = []
    for group in groups:
        if group.is_complete:
            divergence = compare_answers(group, attributes[group.question.attribute], words)
            if divergence is not None:
                found.append(Compared(group.question, group.target, divergence))
    return found


def question_effects(compared: Iterable[Compared]) -> list[Effect]:
    """One effect per question and model: the excess, with its exact p."""
    effects = []
    for c in compared:
        where = Slice("question", c.question.id, "open", c.question.attribute, c.model)
        low, high = excess_interval(c.divergence.distances, c.divergence.sizes, where.seed("divergence"))
        interval = Interval(c.divergence.excess, low, high, 1)
        effects.append(effect_of(where, "divergence", DISTANCE, interval, c.divergence.p_value))
    return [e for e in effects if e is not None]


def slice_effects(compared: Iterable[Compared]) -> list[Effect]:
    """Mean excess per domain, attribute, family and kind of control; and for attributes the signed gaps.

    Intervals resample questions; p pools the permutations within questions.
    """
    members: dict[Slice, list[Compared]] = defaultdict(list)
    for c in compared:
        for where in slices_of(c.question, c.model):
            members[where].append(c)
    effects = []
    for where, inside in sorted(members.items()):
        nulls = [c.divergence.excess_null for c in inside]
        effects.append(_pooled(where, "divergence", DISTANCE, nulls, "greater"))
        if where.level == "attribute":
            effects += _gap_effects(where, inside)
    return [e for e in effects if e is not None]


def _gap_effects(where: Slice, inside: Sequence[Compared]) -> list[Effect | None]:
    """`sentiment:woman-man` and so on: signed differences that say in what the answers differ."""
    nulls: dict[str, list[Floats]] = defaultdict(list)
    for c in inside:
        for name, null in signed_gaps(c.divergence).items():
            nulls[name].append(null)
    return [
        _pooled(where, name, FEATURES[name.split(":")[0]], found, "both")
        for name, found in sorted(nulls.items())
    ]


def _pooled(where: Slice, metric: str, unit: str, nulls: Sequence[Floats], tail: Tail) -> Effect | None:
    seed = where.seed(metric)
    interval = mean_with_interval([null[0] for null in nulls], seed)
    return effect_of(where, metric, unit, interval, pooled_p_value(nulls, seed, tail))
