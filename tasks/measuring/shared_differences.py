"""What the questions of a slice have in common in how their answers differ between values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from schemas.attribute import Attribute
from schemas.effect import Effect
from tasks.judging.divergence import DivergenceWords, masked_answers
from tasks.judging.groups import AnswerGroup
from tasks.judging.word_distances import word_vectors
from tasks.measuring.effects import Slice, effect_of, slices_of
from tasks.stats.shared_difference import shared_difference

METRIC = "shared_divergence"
UNIT = "word distance between values that the questions share"
LEVELS = ("domain", "attribute")
"""Slices whose questions compare the same values."""


def shared_effects(
    groups: Iterable[AnswerGroup], attributes: Mapping[str, Attribute], words: DivergenceWords
) -> list[Effect]:
    """One effect per domain and attribute with at least two questions that compare all of its values."""
    members: dict[Slice, list[AnswerGroup]] = defaultdict(list)
    for group in groups:
        every = tuple(value.id for value in attributes[group.question.attribute].values)
        if group.is_complete and group.question.values == every:
            for where in slices_of(group.question, group.target):
                if where.level in LEVELS:
                    members[where].append(group)
    found = [
        shared_effect(where, inside, attributes[where.attribute], words)
        for where, inside in sorted(members.items())
        if len(inside) > 1
    ]
    return [effect for effect in found if effect is not None]


def shared_effect(
    where: Slice, groups: Sequence[AnswerGroup], attribute: Attribute, words: DivergenceWords
) -> Effect | None:
    """The shared difference of some complete groups."""
    texts = [text for group in groups for text in masked_answers(group, attribute, words.groups)]
    sizes = [group.sizes for group in groups]
    interval, p_value = shared_difference(word_vectors(texts), sizes, where.seed(METRIC))
    return effect_of(where, METRIC, UNIT, interval, p_value)
