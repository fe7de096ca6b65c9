"""Bias after prompting: do effects keep their order under other system prompts and personas?

The unit is the contrast of one value in one question (`tasks.families.contrasts`). For open questions it is
the excess distance between the answers of a question, which has no direction.

References:
    Bias after prompting: arXiv:2509.08146.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from schemas.answers import PLAIN, Effect
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.families.contrasts import ScoredQuestion, contrasts_of
from tasks.families.effects import EVERY, Slice, effect_of, not_measured
from tasks.stats.clusters import twin_families
from tasks.stats.intervals import MIN_CLUSTERS, t_quantile
from tasks.stats.resampling import Floats, Interval

RANK_CORRELATION = "rank_correlation"
UNIT = "Spearman's rho with the effects without the prompt"
MIN_EFFECTS = 5
"""Smallest number of effects whose order is compared."""
_ROUNDING = 1e-9


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
        One effect per family, model, language and condition. If too few effects can be compared, it is not
        measured.
    """
    values: dict[tuple[str, str, str, str], dict[tuple[str, str, str], ItemEffect]] = defaultdict(dict)
    for item in items:
        q = item.question
        values[q.family, item.model, q.language, item.condition][q.id, item.name, item.unit] = item
    effects = []
    for family, model, language in sorted(set(asked)):
        before = values[family, model, language, base.get(family, PLAIN)]
        for condition in conditions:
            after = values[family, model, language, condition]
            slice_ = Slice("family", family, family, EVERY, model, condition, language)
            effects.append(_rank_correlation(slice_, before, after))
    return effects


def _rank_correlation(
    slice_: Slice,
    before: Mapping[tuple[str, str, str], ItemEffect],
    after: Mapping[tuple[str, str, str], ItemEffect],
) -> Effect:
    shared = sorted(before.keys() & after.keys())
    if len(shared) < MIN_EFFECTS:
        reason = f"effects: {len(shared)} can be compared in both conditions; {MIN_EFFECTS} are required"
        return not_measured(slice_, RANK_CORRELATION, UNIT, reason)
    pairs = np.array([[before[key].value, after[key].value] for key in shared])
    families = twin_families(before[key].question for key in shared)
    clusters = [families[before[key].question.id] for key in shared]
    interval = spearman_interval(pairs, clusters)
    effect = effect_of(slice_, RANK_CORRELATION, UNIT, interval)
    if effect is None:
        reason = "effects: they are all equal in one of the conditions"
        return not_measured(slice_, RANK_CORRELATION, UNIT, reason)
    return effect


def spearman_interval(pairs: Floats, clusters: Sequence[str]) -> Interval:
    """Estimate Spearman's rho with an interval from jackknife values of the clusters, on Fisher's scale.

    Args:
        pairs: Shape (n, 2).
        clusters: Shape (n,). Cluster of each pair.

    Returns:
        The bounds are `None` with fewer than `MIN_CLUSTERS` clusters, and if rho is undefined or exactly 1 or
        -1 without one of them. The value is NaN if a side does not vary.

    References:
        Fisher (1921), "On the probable error of a coefficient of correlation". Tukey (1958), "Bias and
        confidence in not quite large samples".
    """
    names = np.asarray(clusters)
    distinct = sorted(set(clusters))
    n, value = len(distinct), spearman(pairs)
    none = Interval(value, None, None, n)
    if n < MIN_CLUSTERS or not np.isfinite(value):
        return none
    without = np.array([spearman(pairs[names != name]) for name in distinct])
    limit = 1 - _ROUNDING
    if abs(value) > limit or not (np.abs(without) < limit).all():  # NaN is not below the limit either
        return none
    pseudo = n * np.arctanh(value) - (n - 1) * np.arctanh(without)
    half = t_quantile(0.975, n - 1) * float(pseudo.std(ddof=1)) / sqrt(n)
    low, high = np.tanh(np.arctanh(value) + half * np.array([-1.0, 1.0]))
    return Interval(value, float(low), float(high), n)


def spearman(pairs: Floats) -> float:
    """Return Spearman's rho with mean ranks for ties, or NaN if a side does not vary."""
    x, y = _mean_ranks(pairs[:, 0]), _mean_ranks(pairs[:, 1])
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _mean_ranks(values: Floats) -> Floats:
    _, places, counts = np.unique(values.round(12), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places], dtype=float)
