"""Correct a judge's mean effect with people's labels: prediction-powered inference.

A judge scores every question, and people score a random sample of them. The mean of the judge is precise but
biased, and that of the people is unbiased but wide. The corrected estimate takes as much from the judge as
the labels justify:

    corrected = mean of λ · judge + weighted mean of (label − λ · judge) over the sample

λ minimises its variance. If the judge predicts nothing, λ is 0 and the corrected estimate is that of the
people. Each cluster uses the λ of all others: tuned on the same labels, λ would bias the estimate. Labels
carry the inverse of their probability of being drawn, so samples may be stratified. Questions of one cluster
(twins) share their errors.

References:
    PPI++: Angelopoulos, Duchi and Zrnic (2023), arXiv:2311.01453. Stratified: Fisch et al. (2024),
    arXiv:2406.04291. Sensitivity and specificity: Lee et al. (2025), arXiv:2511.21140; Rogan and Gladen
    (1978), doi:10.1093/oxfordjournals.aje.a112510.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from tasks.stats.intervals import MIN_CLUSTERS, t_quantile
from tasks.stats.resampling import Floats, Interval

LEVEL = 0.95
SMALLEST_P = 1e-300
"""Lower limit of a p-value, which is never 0."""
PRIOR_LABELS = 3
"""Labels of the whole sample that count towards the spread of every stratum."""


@dataclass(frozen=True)
class CorrectedMean:
    """One mean, estimated from the judge, from people, and from both."""

    judge: Interval
    """Mean of the judge's scores of all questions."""
    people: Interval
    """Weighted mean of the labels."""
    corrected: Interval
    weight: float
    """λ of all clusters, between 0 (the judge adds nothing) and 1."""
    labels: int
    label_variance: float
    """Part of the variance that more labels reduce."""
    judge_variance: float
    """Part that only more questions reduce."""
    p_value: float | None
    """Two-sided p of a corrected mean of 0, from the distribution of its interval. `None` without one."""

    @property
    def bias(self) -> float:
        """The judge's mean minus the corrected one."""
        return self.judge.value - self.corrected.value

    def labels_to_halve(self) -> int | None:
        """Return the number of labels that halves the interval, or `None` if no number does."""
        return _labels_for(
            self.label_variance * self.labels,
            self.judge_variance,
            (self.label_variance + self.judge_variance) / 4,
        )


def correct_mean(
    judge: Sequence[float],
    labels: Sequence[float | None],
    *,
    strata: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    level: float = LEVEL,
) -> CorrectedMean | None:
    """Correct the mean of a judge's scores with labels of a random sample.

    Args:
        judge: Shape (n,). The judge's score of every question.
        labels: Shape (n,). People's score on the same scale, `None` for questions outside the sample.
        strata: Stratum of each question. Within a stratum, every question has the same chance of a label.
            Default: one stratum.
        clusters: Cluster of each question, such as its twin family. Default: every question is its own.
        level: Coverage of the intervals, between 0 and 1.

    Returns:
        The three estimates. An interval has no bounds with fewer than `MIN_CLUSTERS` clusters (of labels).
        `None` if a stratum has no label.

    Raises:
        ValueError: If there are no scores.
    """
    if not len(judge):
        raise ValueError("no scores to correct")
    scores = np.asarray(judge, dtype=float)
    known = np.array([label is not None for label in labels])
    truth = np.array([0.0 if label is None else label for label in labels])
    groups = _codes(strata, len(scores))
    drawn = np.bincount(groups, weights=known)
    if (drawn == 0).any():
        return None
    inverse = (np.bincount(groups) / drawn)[groups] * known
    own = _codes(clusters, len(scores), each_its_own=True)
    labelled = _influence(truth, inverse, groups)
    difference = scores - _influence(scores, inverse, groups)
    weight = _tuned_weight(_sums(labelled, own), _sums(difference, own))
    both = labelled + _weights_without(_sums(labelled, own), _sums(difference, own))[own] * difference
    sampled, answered = len(np.unique(own)), len(np.unique(own[known]))
    tuned = 0 < weight < 1
    spread_people = _sample_spread(truth, known, groups)
    spread_both = _sample_spread(truth - weight * scores, known, groups)
    remainder = both - weight * scores
    total = _variance(both, own) + spread_both.unseen
    from_labels = min(total, _variance(remainder, own) + spread_both.unseen)
    by_people = _variance(labelled, own) + spread_people.unseen
    fewest = min(answered - len(drawn), spread_people.freedom)
    freedom = min(answered - len(drawn), spread_both.freedom) - tuned
    return CorrectedMean(
        judge=_t_interval(float(scores.mean()), _variance(scores, own), sampled, sampled - 1, level),
        people=_t_interval(float(labelled.mean()), by_people, answered, fewest, level),
        corrected=_t_interval(float(both.mean()), total, answered, freedom, level),
        weight=weight,
        labels=int(known.sum()),
        label_variance=from_labels,
        judge_variance=total - from_labels,
        p_value=_t_test(float(both.mean()), total, answered, freedom),
    )


def _codes(names: Sequence[Hashable] | None, n: int, *, each_its_own: bool = False) -> np.ndarray:
    """Return names as integers from 0."""
    if names is None:
        return np.arange(n) if each_its_own else np.zeros(n, dtype=int)
    position = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([position[name] for name in names])


def _influence(values: Floats, inverse: Floats, groups: np.ndarray) -> Floats:
    """Return numbers with the weighted mean and the variance of the sample.

    Each value is replaced by the mean of its stratum, plus its own weighted deviation if it is in the sample.
    Deviations are widened by n / (n − 1), because the mean of the stratum is estimated from them.
    """
    drawn = np.bincount(groups, weights=inverse > 0)
    means = np.bincount(groups, weights=inverse * values) / np.bincount(groups, weights=inverse)
    widened = np.sqrt(drawn / np.maximum(drawn - 1, 1))
    return np.asarray(means[groups] + widened[groups] * inverse * (values - means[groups]))


@dataclass(frozen=True)
class _SampleSpread:
    """How well the spread of the labels is known."""

    freedom: float
    """Degrees of freedom of the variance."""
    unseen: float
    """Variance to add for spread that a stratum with few labels may hide."""


def _sample_spread(values: Floats, known: np.ndarray, groups: np.ndarray) -> _SampleSpread:
    """Return degrees of freedom (Satterthwaite), and the variance that a stratum may hide.

    Few labels of a rare outcome may all be equal. Their stratum then seems to have no variance. So the
    variance of each stratum counts as estimated from `PRIOR_LABELS` further labels of the whole sample.

    References:
        Satterthwaite (1946), doi:10.2307/3002019.
    """
    n = np.bincount(groups, weights=known)
    share = np.bincount(groups) / len(groups)
    means = np.bincount(groups, weights=known * values) / n
    squares = np.bincount(groups, weights=known * (values - means[groups]) ** 2)
    own = squares / np.maximum(n - 1, 1)
    pooled = float(values[known].var(ddof=1)) if known.sum() > 1 else 0.0
    shrunk = (squares + PRIOR_LABELS * pooled) / (n - 1 + PRIOR_LABELS)
    parts = share**2 * np.maximum(own, shrunk) / n
    freedom = float(parts.sum() ** 2 / (parts**2 / np.maximum(n - 1, 0.5)).sum()) if parts.any() else 0.0
    return _SampleSpread(freedom, float((share**2 * np.maximum(shrunk - own, 0) / n).sum()))


def _sums(values: Floats, clusters: np.ndarray) -> Floats:
    return np.asarray(np.bincount(clusters, weights=values - values.mean()))


def _variance(values: Floats, clusters: np.ndarray) -> float:
    """Return the variance of a mean, with the values of a cluster summed before they are squared."""
    sums = _sums(values, clusters)
    return float((sums**2).sum() / len(values) ** 2 * len(sums) / max(1, len(sums) - 1))


def _tuned_weight(labelled: Floats, difference: Floats) -> float:
    variance = float((difference**2).sum())
    if variance <= 0:
        return 0.0
    return float(np.clip(-float((labelled * difference).sum()) / variance, 0.0, 1.0))


def _weights_without(labelled: Floats, difference: Floats) -> Floats:
    """Return λ as tuned on all other clusters, by cluster. A weight tuned on its own cluster is biased."""
    products, squares = labelled * difference, difference**2
    rest = squares.sum() - squares
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.where(rest > 0, -(products.sum() - products) / rest, 0.0)
    return np.asarray(np.clip(weights, 0.0, 1.0))


def _t_interval(value: float, variance: float, clusters: int, freedom: float, level: float) -> Interval:
    if clusters < MIN_CLUSTERS or freedom < 1 or variance <= 0:
        return Interval(value, None, None, clusters)
    half = t_quantile((1 + level) / 2, freedom) * sqrt(variance)
    return Interval(value, value - half, value + half, clusters)


def _t_test(value: float, variance: float, clusters: int, freedom: float) -> float | None:
    from scipy.special import stdtr

    if clusters < MIN_CLUSTERS or freedom < 1 or variance <= 0:
        return None
    tail = float(stdtr(freedom, -abs(value) / sqrt(variance)))
    return max(2 * tail, SMALLEST_P)


def _labels_for(per_label: float, fixed: float, wanted: float) -> int | None:
    return ceil(per_label / (wanted - fixed)) if wanted > fixed else None


def plan_labels(labels: int, questions: int, correlation: float) -> int | None:
    """Return the number of labels that halves the interval of a planned review.

    Args:
        labels: Planned number of labels.
        questions: Number of questions that the judge scores.
        correlation: Expected correlation between the judge and people, between 0 and 1.

    Returns:
        `None` if no number does, because the rest of the interval comes from the number of questions.
    """
    per_label, fixed = 1 - correlation**2, correlation**2 / max(1, questions)
    return _labels_for(per_label, fixed, (per_label / labels + fixed) / 4)


def correct_share(
    positive: int,
    judged: int,
    *,
    true_negatives: int,
    negatives: int,
    true_positives: int,
    positives: int,
    level: float = LEVEL,
) -> Interval | None:
    """Correct the share of yes verdicts for the judge's specificity and sensitivity.

    Args:
        positive: Yes verdicts among those without a label.
        judged: Verdicts without a label.
        true_negatives: No verdicts among the questions that people labelled no.
        negatives: Questions that people labelled no.
        true_positives: Yes verdicts among the questions that people labelled yes.
        positives: Questions that people labelled yes.
        level: Coverage, between 0 and 1.

    Returns:
        The share with its interval, in [0, 1]. `None` without labels of both kinds, or if the judge is no
        better than chance, so that its verdicts carry no information about the share.
    """
    from scipy.special import ndtri

    if not (judged and negatives and positives):
        return None
    if true_negatives / negatives + true_positives / positives <= 1:
        return None
    share = _share_of(positive / judged, true_negatives / negatives, true_positives / positives)
    z = float(ndtri((1 + level) / 2))
    size, size_0, size_1 = judged + z * z, negatives + 2, positives + 2
    p = (positive + z * z / 2) / size
    q_0, q_1 = (true_negatives + 1) / size_0, (true_positives + 1) / size_1
    if q_0 + q_1 <= 1:
        return Interval(share, 0.0, 1.0, negatives + positives)
    centre = _share_of(p, q_0, q_1)
    v_0, v_1 = q_0 * (1 - q_0) / size_0, q_1 * (1 - q_1) / size_1
    shift = 2 * z * z * (-(1 - centre) * v_0 + centre * v_1)
    error = sqrt(p * (1 - p) / size + (1 - centre) ** 2 * v_0 + centre**2 * v_1) / (q_0 + q_1 - 1)
    low, high = (min(1.0, max(0.0, centre + shift + side * z * error)) for side in (-1, 1))
    return Interval(share, min(low, share), max(high, share), negatives + positives)


def _share_of(observed: float, specificity: float, sensitivity: float) -> float:
    return min(1.0, max(0.0, (observed + specificity - 1) / (specificity + sensitivity - 1)))
