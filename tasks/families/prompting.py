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

import numpy as np

from schemas.answers import PLAIN, Effect
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.families.contrasts import ScoredQuestion, contrasts_of
from tasks.families.effects import EVERY, Slice, effect_of, not_measured
from tasks.stats.clusters import twin_families
from tasks.stats.intervals import MIN_CLUSTERS
from tasks.stats.resampling import Floats, Interval

RANK_CORRELATION = "rank_correlation"
UNIT = "Spearman's rho with the effects without the prompt"
RESAMPLES = 1999
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
    interval = spearman_interval(pairs, clusters, slice_.seed(RANK_CORRELATION))
    effect = effect_of(slice_, RANK_CORRELATION, UNIT, interval)
    if effect is None:
        reason = "effects: they are all equal in one of the conditions"
        return not_measured(slice_, RANK_CORRELATION, UNIT, reason)
    return effect


def spearman_interval(pairs: Floats, clusters: Sequence[str], seed: int) -> Interval:
    """Estimate Spearman's rho with a percentile interval from resampled clusters.

    Args:
        pairs: Shape (n, 2).
        clusters: Shape (n,). Cluster of each pair.
        seed: Seed of the resampling.

    Returns:
        The interval is undefined with fewer than `MIN_CLUSTERS` clusters. The value is NaN if a side does not
        vary.
    """
    names = sorted(set(clusters))
    rows = [np.flatnonzero(np.asarray(clusters) == name) for name in names]
    value = spearman(pairs)
    if len(names) < MIN_CLUSTERS or not np.isfinite(value):
        return Interval(value, None, None, len(names))
    rng = np.random.default_rng(seed)
    drawn = [
        spearman(pairs[np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])])
        for _ in range(RESAMPLES)
    ]
    finite = [rho for rho in drawn if np.isfinite(rho)]
    low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) > RESAMPLES / 2 else (None, None)
    return Interval(
        value, None if low is None else float(low), None if high is None else float(high), len(names)
    )


def spearman(pairs: Floats) -> float:
    """Return Spearman's rho with mean ranks for ties, or NaN if a side does not vary."""
    x, y = _mean_ranks(pairs[:, 0]), _mean_ranks(pairs[:, 1])
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _mean_ranks(values: Floats) -> Floats:
    _, places, counts = np.unique(values.round(12), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places], dtype=float)
