"""Completions: which of three options fills the blank, like with like or not (arXiv 2309.08902)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.attribute import Attribute
from schemas.effect import Effect
from schemas.question import Question
from tasks.families.choices import invalid_share, order_effect
from tasks.families.crossing import crossed_pairs, template_of
from tasks.families.method import Answered, Figures, Method, Recorded
from tasks.measuring.effects import Slice, effect_of
from tasks.measuring.recorded_completions import CHOICES, Completion, measure_completions, read_completions
from tasks.stats.bootstrap import cluster_bootstrap
from tasks.stats.completion import side_flip_p_value, tau_c_of_totals
from tasks.stats.permutation import Floats

DIRECTIONS = ("sai", "asa")
"""A completion's domain: stimulus to attribute, or attribute to stimulus."""


def effects(
    where: Slice, inside: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Invalid answers, the effect of order, and tau-c of either direction; over an attribute with further
    factors also at each of their levels: `tau_c_sai:woman`."""
    levels: dict[str, frozenset[str] | None] = {"": None}
    if where.level == "attribute":
        levels |= levels_of(attributes[where.attribute])
    taus = [_tau_c(where, inside, d, level, values) for level, values in levels.items() for d in DIRECTIONS]
    return [invalid_share(where, inside), order_effect(where, inside), *taus]


def levels_of(attribute: Attribute) -> dict[str, frozenset[str] | None]:
    """The values at each level of every factor that both sides have: not those of the sides themselves."""
    sides: dict[str, dict[str, int | None]] = defaultdict(dict)
    for value in attribute.values:
        for level in value.factors.values():
            sides[level][value.id] = value.valence
    return {level: frozenset(found) for level, found in sides.items() if {1, -1} <= set(found.values())}


def _tau_c(
    where: Slice, inside: Sequence[Answered], direction: str, level: str, values: frozenset[str] | None
) -> Effect | None:
    """Resampled, and sides exchanged, template by template: questions of one template are alike."""
    by_template: dict[str, Floats] = defaultdict(lambda: np.zeros((2, 3)))
    for a in inside:
        if a.question.domain == direction:
            by_template[cluster_of(a.question)] += side_by_choice(a, values)
    counted = [table for _, table in sorted(by_template.items()) if table.sum()]
    if not counted:
        return None
    metric = f"tau_c_{direction}" + (f":{level}" if level else "")
    seed = where.seed(metric)
    interval = cluster_bootstrap(np.reshape(counted, (len(counted), 6)), tau_c_of_totals, seed)
    return effect_of(where, metric, "Kendall's tau-c", interval, side_flip_p_value(counted, seed))


def cluster_of(question: Question) -> str:
    """Its template; a question of no template stands for itself."""
    return template_of(question.template_id) if question.template_id else question.id


def side_by_choice(answered: Answered, values: frozenset[str] | None = None) -> Floats:
    """Counts of valid answers, array (2, 3): valence of the variant (−1, +1) by that of the choice
    (−1, 0, +1). Variants and options without a valence do not count, nor do variants of other `values`."""
    table = np.zeros((2, 3))
    variants = {
        v.index: v.valence if values is None or v.value in values else None
        for v in answered.question.variants
    }
    for r in answered.valid:
        side, chosen = variants[r.variant], answered.question.options[r.option or 0].valence
        if side and chosen is not None:
            table[(side + 1) // 2, chosen + 1] += 1
    return table


def released(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> Figures:
    """The figures of recorded completions, from a release's own answers."""
    roles = {relative: role for role, relative in CHOICES.items()}
    found = []
    for a in answered:
        sides = {v.index: v.valence for v in a.question.variants}
        for r in a.responses:
            side = sides[r.variant]
            if side and a.question.domain in DIRECTIONS:
                valence = None if r.option is None else a.question.options[r.option].valence
                choice = None if valence is None else roles[side * valence]
                found.append(Completion(cluster_of(a.question), a.question.domain, side, choice))
    return measure_completions(found)


def recorded(answers: Recorded) -> Figures:
    """`tau_c_sai`, `tau_c_asa`, `invalid`, `shares` of a file in the columns of Subtler Biases."""
    return measure_completions(read_completions(answers.path))


METHOD = Method(
    "completion",
    "letter",
    effects,
    pairs=crossed_pairs,
    recorded={"subtler-biases": recorded},
    released=released,
)
