"""Bias after prompting: do effects keep their order under other system prompts and personas?

The unit is the contrast of one value in one question (`tasks.families.contrasts`). For open questions it is
the excess distance between the answers of a question, which has no direction. If judges score the answers,
their fitness and the contrasts on each criterion have correlations of their own.

References:
    Bias after prompting: arXiv:2509.08146.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from schemas.answers import PLAIN, Effect
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.families.contrasts import ScoredQuestion, contrasts_of
from tasks.families.effects import EVERY, Slice, effect_of, not_measured
from tasks.stats.clusters import twin_families
from tasks.stats.correlations import correlation_interval, spearman

RANK_CORRELATION = "rank_correlation"
UNIT = "Spearman's rho with the effects without the prompt"
MIN_EFFECTS = 5
"""Smallest number of effects whose order is compared."""


@dataclass(frozen=True)
class ItemEffect:
    """The effect of one question on one value, in one condition."""

    question: Question
    model: str
    condition: str
    name: str
    """Value that the effect is about. Empty for a question as a whole."""
    unit: str
    value: float
    metric: str = RANK_CORRELATION
    """Metric of the correlation. Effects with different metrics are never in one correlation."""


def item_contrasts(scored: Iterable[ScoredQuestion], attributes: Mapping[str, Attribute]) -> list[ItemEffect]:
    """Return the contrasts of all values in all questions."""
    return [
        ItemEffect(s.question, s.model, s.condition, value, f"{s.metric}, {s.scores.unit}", contrast)
        for s in scored
        for value, contrast in contrasts_of(s, attributes[s.question.attribute]).items()
    ]


def rank_correlations(
    items: Iterable[ItemEffect],
    conditions: Sequence[str],
    asked: Iterable[tuple[str, str, str]],
    base: Mapping[str, str],
) -> list[Effect]:
    """Correlate the effects in every condition with those without its prompt, by family, model and language.

    Args:
        items: Effects of single questions in all conditions.
        conditions: The user's system prompts and personas.
        asked: Family, model and language of all questions that were asked under them.
        base: Condition without the prompts, by family, if it is not `plain`.

    Returns:
        One effect per family, model, language, condition and metric. If too few effects can be compared, it
        is not measured. All have `rank_correlation`, and the other metrics of the items of their model.
    """
    values: dict[tuple[str, ...], dict[tuple[str, str, str], ItemEffect]] = defaultdict(dict)
    metrics: dict[tuple[str, str, str], set[str]] = defaultdict(lambda: {RANK_CORRELATION})
    for item in items:
        q = item.question
        place = q.family, item.model, q.language
        metrics[place].add(item.metric)
        values[(*place, item.condition, item.metric)][q.id, item.name, item.unit] = item
    effects = []
    for family, model, language in sorted(set(asked)):
        place = family, model, language
        for condition, metric in product(conditions, sorted(metrics[place])):
            before = values[(*place, base.get(family, PLAIN), metric)]
            after = values[(*place, condition, metric)]
            slice_ = Slice("family", family, family, EVERY, model, condition, language)
            effects.append(_rank_correlation(slice_, metric, before, after))
    return effects


def _rank_correlation(
    slice_: Slice,
    metric: str,
    before: Mapping[tuple[str, str, str], ItemEffect],
    after: Mapping[tuple[str, str, str], ItemEffect],
) -> Effect:
    shared = sorted(before.keys() & after.keys())
    if len(shared) < MIN_EFFECTS:
        reason = f"effects: {len(shared)} can be compared in both conditions; {MIN_EFFECTS} are required"
        return not_measured(slice_, metric, UNIT, reason)
    pairs = np.array([[before[key].value, after[key].value] for key in shared])
    families = twin_families(before[key].question for key in shared)
    clusters = [families[before[key].question.id] for key in shared]
    interval = correlation_interval(pairs, clusters, spearman)
    effect = effect_of(slice_, metric, UNIT, interval)
    if effect is None:
        reason = "effects: they are all equal in one of the conditions"
        return not_measured(slice_, metric, UNIT, reason)
    return effect
