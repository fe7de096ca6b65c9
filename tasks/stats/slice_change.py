"""Change of a slice between two measurements: a paired test, an unpaired one, and equivalence.

Questions that were asked both times are paired, which cancels their difficulty. Questions that were asked
once are compared as two samples. Their precision-weighted mean is the best linear estimate of the change from
overlapping samples (Cochran). It finds smaller changes than either, and decides whether the slice is
equivalent: two one-sided tests within a margin, in standard deviations of the scores of questions.

References:
    Schuirmann (1987), doi:10.1007/BF01068419 (two one-sided tests). Holm (1979), "A simple sequentially
    rejective multiple test procedure". Cochran (1977), *Sampling Techniques*, 12.10 (overlapping samples).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, comb, log, prod, sqrt
from statistics import fmean
from typing import Literal

import numpy as np

from tasks.stats.resampling import Floats

Test = Literal["combined", "paired", "unpaired"]

ALPHA = 0.004
"""Probability that any slice of an unchanged model is flagged. Below .01, so that 200 refreshes without a
change hardly ever give more than 2 false alarms."""
WEIGHTS: Mapping[Test, float] = {"combined": 0.55, "paired": 0.3, "unpaired": 0.15}
"""Share of a slice's level that each test spends. A slice without one of them gives its share to the others.
The combined test finds the smallest changes. The others notice changes that cancel each other in it."""
EQUIVALENCE_ALPHA = 0.05
"""Level of each of the two one-sided tests. All slices must pass, so that no correction is needed."""
FEWEST_PAIRED = 5
"""Fewest common questions, counted in twin families, for a paired test and its estimate."""
FEWEST_UNPAIRED = 7
"""Fewest other questions of each release for an unpaired test and its estimate."""
POWER_TO_DECIDE = 0.95
"""Probability that the number of common questions that is named decides, if nothing changed."""


@dataclass(frozen=True)
class ChangeEstimate:
    """A mean difference, new minus old."""

    value: float
    error: float
    """Standard error. 0 if no question differs."""
    freedom: float
    """Degrees of freedom."""
    p_value: float
    """Two-sided."""
    smallest: float = 0.0
    """Smallest p-value that the number of questions allows."""


@dataclass(frozen=True)
class SliceChange:
    """Change between two measurements of a slice. Differences are new minus old, in the scores' unit."""

    common: int
    """Independent questions with a score in both."""
    rest: tuple[int, int]
    """Independent questions with a score in the old one only, and in the new one only."""
    mean_old: float
    mean_new: float
    deviation: float
    """Standard deviation of the scores of questions."""
    paired: ChangeEstimate | None
    unpaired: ChangeEstimate | None
    combined: ChangeEstimate | None
    """Both estimates, weighted by their precision. `None` unless both exist with an error."""
    difference: float | None
    """The combined estimate, or the only one."""
    low: float | None
    high: float | None
    """Bounds of its 90 % interval."""
    equivalent: bool
    """Whether the interval is inside the margin."""
    needed: int
    """Common questions that decide, if nothing changed."""
    margin: float
    """Largest difference that does not matter, in the unit of the scores."""


def measure_change(
    old: Mapping[str, float],
    new: Mapping[str, float],
    *,
    margin: float,
    largest: float | None = None,
    clusters: Mapping[str, Hashable] | None = None,
) -> SliceChange:
    """Compare two measurements of a slice.

    Args:
        old: Earlier scores by question. Not empty.
        new: Later scores by question. Not empty.
        margin: Largest difference that does not matter, in standard deviations of the scores.
        largest: The same in the unit of the scores. It replaces `margin`.
        clusters: Twin family of each question. Default: every question is independent of the others.
    """
    names: Mapping[str, Hashable] = clusters or {}
    common = old.keys() & new.keys()
    changes = _by_cluster({i: new[i] - old[i] for i in common}, names)
    old_rest = _by_cluster({i: s for i, s in old.items() if i not in common}, names)
    new_rest = _by_cluster({i: s for i, s in new.items() if i not in common}, names)
    deviation = _deviation(_by_cluster(old, names), _by_cluster(new, names))
    paired = paired_estimate(changes, deviation) if len(changes) >= FEWEST_PAIRED else None
    unpaired = (
        unpaired_estimate(old_rest, new_rest)
        if min(len(old_rest), len(new_rest)) >= FEWEST_UNPAIRED
        else None
    )
    combined = combine_estimates([e for e in (paired, unpaired) if e is not None], deviation)
    if largest is None:
        largest = margin * deviation
    elif deviation:
        margin = largest / deviation
    # Without enough changes, they count as noisy as if two measurements of a question had nothing in common.
    noise = sqrt(2)
    if len(changes) >= FEWEST_PAIRED:
        noise = float(np.std(changes, ddof=1)) / deviation if deviation else 0.0
    bounds = _bounds(combined)
    return SliceChange(
        common=len(changes),
        rest=(len(old_rest), len(new_rest)),
        mean_old=fmean(old.values()),
        mean_new=fmean(new.values()),
        deviation=deviation,
        paired=paired,
        unpaired=unpaired,
        combined=combined if paired and unpaired and paired.error and unpaired.error else None,
        difference=combined.value if combined else None,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        equivalent=bounds is not None and -largest <= bounds[0] and bounds[1] <= largest,
        needed=questions_to_decide(noise, margin),
        margin=largest,
    )


def paired_estimate(changes: Floats, deviation: float) -> ChangeEstimate:
    """ChangeEstimate the mean change with Student's t.

    The p-value is never below the smallest one of a sign-flip test, because few or equal changes say little
    about their distribution. If a change of zero is the rule, the standard error allows for a change of one
    standard deviation in the share of questions that may still have changed (rule of three).

    Args:
        changes: Shape (n,). New minus old score of every independent question.
        deviation: Standard deviation of the scores of questions.
    """
    from scipy.special import stdtr

    n = len(changes)
    value, spread = float(changes.mean()), float(np.std(changes, ddof=1))
    error = spread / sqrt(n)
    smallest = 2.0 ** (1 - n)
    # Equal changes leave only the smallest p-value of a sign-flip test.
    p_value = float(2 * stdtr(n - 1, -abs(value) / error)) if spread else float(not value)
    if np.count_nonzero(changes) < FEWEST_PAIRED:
        # 1 − .05^(1/n) bounds the share of changed questions. The interval is 1.645 errors wide.
        error = max(error, (1 - 0.05 ** (1 / n)) * deviation / 1.645)
    return ChangeEstimate(value, error, n - 1, max(p_value, smallest), smallest)


def unpaired_estimate(old: Floats, new: Floats) -> ChangeEstimate:
    """ChangeEstimate the difference of the means of two samples with Welch's t.

    Args:
        old: Shape (n,).
        new: Shape (m,).
    """
    from scipy.special import stdtr

    value = float(new.mean() - old.mean())
    parts = [float(np.var(scores, ddof=1)) / len(scores) for scores in (old, new)]
    error = sqrt(sum(parts))
    smallest = 1 / comb(len(old) + len(new), len(old))
    if not error:
        p_value = smallest if value else 1.0
        return ChangeEstimate(value, 0.0, len(old) + len(new) - 2, p_value, smallest)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(old) - 1) + parts[1] ** 2 / (len(new) - 1))
    p_value = float(2 * stdtr(freedom, -abs(value) / error))
    return ChangeEstimate(value, error, freedom, max(p_value, smallest), smallest)


def combine_estimates(estimates: Sequence[ChangeEstimate], deviation: float) -> ChangeEstimate | None:
    """Return the mean of independent estimates, weighted by their precision. `None` without any.

    An estimate without an error, because all of its scores are equal, decides alone.
    """
    from scipy.special import stdtr

    if not estimates:
        return None
    certain = [e for e in estimates if not e.error]
    if certain and deviation:
        return certain[0]
    if len(estimates) == 1 or not deviation:
        return estimates[0]
    weights = [e.error**-2 for e in estimates]
    total = sum(weights)
    value = sum(w * e.value for w, e in zip(weights, estimates, strict=True)) / total
    # Satterthwaite: shares of the variance, each with its own degrees of freedom.
    shares = [w / total for w in weights]
    freedom = 1 / sum(share**2 / e.freedom for share, e in zip(shares, estimates, strict=True))
    p_value = float(2 * stdtr(freedom, -abs(value) * total**0.5))
    # No smaller than sign flips and permutations of all scores would allow.
    smallest = prod(e.smallest for e in estimates)
    return ChangeEstimate(value, total**-0.5, freedom, max(p_value, smallest), smallest)


def questions_to_decide(noise: float, margin: float) -> int:
    """Return the number of common questions that decide, if nothing changed.

    Args:
        noise: Standard deviation of the change of a question, in those of the scores.
        margin: Margin in the same unit.
    """
    from scipy.special import ndtri

    # Both one-sided tests must pass, so that each may fail in half of the remaining cases.
    quantiles = float(ndtri(1 - EQUIVALENCE_ALPHA) + ndtri(1 - (1 - POWER_TO_DECIDE) / 2))
    unchanged = ceil(log(0.05) / log(1 - min(margin, 0.999)))
    return max(FEWEST_PAIRED, unchanged, ceil((quantiles * noise / margin) ** 2))


@dataclass(frozen=True)
class FlaggedTest:
    """A test that rejects after correction."""

    index: int
    """Position of the slice."""
    test: Test
    p_value: float
    """Corrected, so that it is compared with `ALPHA`."""


def flag_changes(changes: Sequence[SliceChange], alpha: float = ALPHA) -> list[FlaggedTest]:
    """Return the tests that find a change, corrected for all slices and for the tests of each.

    The tests of a slice share its level by `WEIGHTS` (weighted Bonferroni). Slices are corrected by Holm's
    method.
    """
    weighted = [weighted_p_values(change) for change in changes]
    tested = sorted((min(found.values()), i) for i, found in enumerate(weighted) if found)
    flagged: list[FlaggedTest] = []
    highest = 0.0
    for rank, (smallest, i) in enumerate(tested):
        left = len(tested) - rank
        highest = max(highest, min(1.0, smallest * left))
        if highest > alpha:
            break
        flagged += [
            FlaggedTest(i, test, max(highest, p_value * left))
            for test, p_value in weighted[i].items()
            if p_value * left <= alpha
        ]
    return flagged


def weighted_p_values(change: SliceChange) -> dict[Test, float]:
    """Return the p-values of the tests of a slice, each divided by its share of the level."""
    estimates: dict[Test, ChangeEstimate | None] = {
        "paired": change.paired,
        "combined": change.combined,
        "unpaired": change.unpaired,
    }
    made = {test: estimate for test, estimate in estimates.items() if estimate is not None}
    total = sum(WEIGHTS[test] for test in made)
    return {test: estimate.p_value * total / WEIGHTS[test] for test, estimate in made.items()}


def _bounds(estimate: ChangeEstimate | None) -> tuple[float, float] | None:
    if estimate is None:
        return None
    from scipy.special import stdtrit

    half = float(stdtrit(estimate.freedom, 1 - EQUIVALENCE_ALPHA)) * estimate.error
    return estimate.value - half, estimate.value + half


def _by_cluster(scores: Mapping[str, float], clusters: Mapping[str, Hashable]) -> Floats:
    """Return the mean of every cluster, in a fixed order."""
    found: dict[Hashable, list[float]] = defaultdict(list)
    for question, score in sorted(scores.items()):
        found[clusters.get(question, question)].append(score)
    return np.array([fmean(inside) for inside in found.values()])


def _deviation(old: Floats, new: Floats) -> float:
    """Return the pooled standard deviation of two samples. Their means may differ."""
    freedom = len(old) + len(new) - 2
    if freedom < 1:
        return 0.0
    squares = sum(float(((scores - scores.mean()) ** 2).sum()) for scores in (old, new))
    return sqrt(squares / freedom)
