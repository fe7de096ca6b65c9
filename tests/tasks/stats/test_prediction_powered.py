"""Human labels correct the mean of a judge."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.stats.intervals import MIN_CLUSTERS
from tasks.stats.prediction_powered import CorrectedMean, correct_mean, correct_share, plan_labels


def scores(n: int = 200, seed: int = 7) -> tuple[list[float], list[float]]:
    """Draw human scores, and those of a judge that overrates by .3."""
    generator = np.random.default_rng(seed)
    people = np.round(generator.normal(size=n), 2)
    judge = np.round(0.3 + 0.8 * people + 0.5 * generator.normal(size=n), 2)
    return people.tolist(), judge.tolist()


def corrected(labels: int, **options: object) -> CorrectedMean:
    people, judge = scores()
    known = [label if i < labels else None for i, label in enumerate(people)]
    found = correct_mean(judge, known, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("labels", "value", "low", "high"),
    [
        (30, -0.14362, -0.33575, 0.04851),
        (40, -0.16376, -0.33031, 0.00280),
        (100, -0.12275, -0.26057, 0.01506),
    ],
)
def test_estimate_is_that_of_ppi_python(labels: int, value: float, low: float, high: float) -> None:
    """Compare with `ppi_mean_pointestimate` and `ppi_mean_ci` of version 0.2.3.

    That version tunes λ on the same labels and uses normal quantiles."""
    found = corrected(labels)
    assert found.corrected.value == pytest.approx(value, abs=0.015)
    assert found.corrected.low == pytest.approx(low, abs=0.035)
    assert found.corrected.high == pytest.approx(high, abs=0.035)


def test_judge_is_biased_people_are_wide_and_the_correction_is_neither() -> None:
    found = corrected(40)
    assert found.bias == pytest.approx(0.33, abs=0.05)
    assert found.corrected.high - found.corrected.low < 0.75 * (found.people.high - found.people.low)
    assert found.judge.low > found.corrected.high - 0.05


def test_judge_that_predicts_nothing_gets_no_weight() -> None:
    people, _ = scores()
    noise = np.random.default_rng(1).normal(size=200).tolist()
    found = correct_mean(noise, [p if i < 40 else None for i, p in enumerate(people)])
    assert found is not None
    assert found.weight < 0.3
    assert found.corrected.value == pytest.approx(found.people.value, abs=0.1)


def test_perfect_judge_needs_few_labels() -> None:
    people, _ = scores()
    found = correct_mean(people, [p if i < 20 else None for i, p in enumerate(people)])
    assert found is not None
    assert found.weight == pytest.approx(1, abs=0.05)
    assert found.corrected.value == pytest.approx(float(np.mean(people)), abs=0.02)
    assert found.corrected.high - found.corrected.low < 0.5 * (found.people.high - found.people.low)


def test_labels_are_weighted_by_the_inverse_of_their_chance() -> None:
    judge = [0.0] * 90 + [1.0] * 10
    labels = [0.0 if i < 5 else None for i in range(90)] + [1.0 if i < 5 else None for i in range(10)]
    strata = ["low"] * 90 + ["high"] * 10
    found = correct_mean([0.5] * 100, labels, strata=strata)
    assert found is not None
    assert found.people.value == pytest.approx(0.1)
    assert correct_mean(judge, [None] * 90 + labels[90:], strata=strata) is None


def test_twins_count_once() -> None:
    people, judge = scores(100)
    twice_judge, clusters = judge * 2, [*range(100), *range(100)]
    labels = [p if i < 30 else None for i, p in enumerate(people)] * 2
    alone = correct_mean(judge, labels[:100])
    twins = correct_mean(twice_judge, labels, clusters=clusters)
    independent = correct_mean(twice_judge, labels)
    assert alone is not None
    assert twins is not None
    assert independent is not None
    assert twins.people.high - twins.people.low == pytest.approx(
        alone.people.high - alone.people.low, rel=0.05
    )
    assert independent.people.high - independent.people.low < 0.8 * (alone.people.high - alone.people.low)


def test_few_labels_give_no_interval() -> None:
    assert corrected(MIN_CLUSTERS - 1).corrected.low is None
    assert corrected(MIN_CLUSTERS + 2).corrected.low is not None
    with pytest.raises(ValueError, match="no scores"):
        correct_mean([], [])


def test_more_labels_halve_the_interval_until_the_questions_limit_it() -> None:
    found = corrected(40)
    wanted = found.labels_to_halve()
    assert wanted is None or wanted > 3 * 40
    assert plan_labels(50, 10_000, 0.6) == pytest.approx(4 * 50, abs=10)
    assert plan_labels(100, 100, 0.9) is None
    assert plan_labels(50, 1000, 0.0) == 200


def test_share_is_corrected_for_sensitivity_and_specificity() -> None:
    share = correct_share(500, 1000, true_negatives=90, negatives=100, true_positives=80, positives=100)
    assert share is not None
    assert share.value == pytest.approx((0.5 + 0.9 - 1) / 0.7)
    assert share.low is not None
    assert share.high is not None
    assert 0.45 < share.low < share.value < share.high < 0.75


def test_share_is_not_measured_by_a_judge_no_better_than_chance() -> None:
    assert (
        correct_share(500, 1000, true_negatives=50, negatives=100, true_positives=50, positives=100) is None
    )
    assert correct_share(5, 10, true_negatives=0, negatives=0, true_positives=8, positives=10) is None


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_corrected_share_covers_the_truth(share: float) -> None:
    generator = np.random.default_rng(3)
    covered = []
    for _ in range(600):
        positive = generator.binomial(200, share * 0.8 + (1 - share) * 0.1)
        found = correct_share(
            int(positive),
            200,
            true_negatives=int(generator.binomial(60, 0.9)),
            negatives=60,
            true_positives=int(generator.binomial(30, 0.8)),
            positives=30,
        )
        if found is not None and found.low is not None and found.high is not None:
            covered.append(found.low <= share <= found.high)
    assert np.mean(covered) >= 0.93


def test_p_value_is_that_of_the_corrected_interval() -> None:
    generator = np.random.default_rng(5)
    truth = generator.normal(0.3, 1, 120)
    judge = (truth + generator.normal(size=120)).tolist()
    labels = [float(t) if i < 60 else None for i, t in enumerate(truth)]
    found = correct_mean(judge, labels, level=0.95)
    assert found is not None
    assert found.p_value is not None
    at_p = correct_mean(judge, labels, level=1 - found.p_value)
    assert at_p is not None
    bounds = [at_p.corrected.low, at_p.corrected.high]
    assert min(abs(bound) for bound in bounds if bound is not None) == pytest.approx(0, abs=1e-6)
