"""A decision rule is chosen with known grades, and reliability is estimated without them."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from schemas.errors import InputError
from tasks.files.retrieval_rows import make_passage, make_set
from tasks.relabel.decisions import Policy
from tasks.relabel.graded import (
    DecisionRule,
    Grades,
    GradeScale,
    RuleLimits,
    RuleTrial,
    WeightedVote,
    choose_rule,
    estimate_reliability,
    pairwise_kappa,
    relevance_votes,
)

SENSITIVITY = {"a": 0.95, "b": 0.8, "c": 0.6}
SPECIFICITY = {"a": 0.9, "b": 0.75, "c": 0.95}


def judged(pairs: int, seed: int = 5) -> tuple[Grades, dict[tuple[str, str], int]]:
    """Draw verdicts of three independent binary judges with known error rates. A third is relevant."""
    rng = random.Random(seed)
    truth = {(f"q{i % 40}", f"d{i}"): 2 * (rng.random() < 1 / 3) for i in range(pairs)}
    by_pair = {
        pair: {
            judge: int(rng.random() < (SENSITIVITY[judge] if grade else 1 - SPECIFICITY[judge]))
            for judge in SENSITIVITY
        }
        for pair, grade in truth.items()
    }
    return Grades(tuple(SENSITIVITY), dict.fromkeys(SENSITIVITY, GradeScale.up_to(1)), by_pair), truth


def test_reliability_without_gold_finds_the_planted_error_rates() -> None:
    grades, truth = judged(4000)
    found = estimate_reliability(grades, relevance_votes(grades, list(truth)))
    assert found is not None
    assert found.prevalence == pytest.approx(1 / 3, abs=0.04)
    for judge in SENSITIVITY:
        assert found.sensitivity[judge] == pytest.approx(SENSITIVITY[judge], abs=0.06)
        assert found.specificity[judge] == pytest.approx(SPECIFICITY[judge], abs=0.06)
    right = np.mean([(p > 0.5) == (g > 0) for p, g in zip(found.relevant, truth.values(), strict=True)])
    assert right > 0.9


def with_judge(grades: Grades, name: str, grade: Callable[[tuple[str, str]], int | None]) -> Grades:
    by_pair = {
        pair: given | ({} if (own := grade(pair)) is None else {name: own})
        for pair, given in grades.by_pair.items()
    }
    return Grades((*grades.judges, name), {**grades.scales, name: GradeScale.up_to(1)}, by_pair)


def test_the_two_most_reliable_judges_decide_and_the_next_one_stands_in() -> None:
    grades, _ = judged(2000)
    vote = WeightedVote.fit(grades)
    assert vote is not None
    assert set(vote.describe()["voters"]) == {"a", "c"}
    assert vote.outcome({"a": 0, "b": 1, "c": 0}, grades.scales) == "kept"
    assert vote.outcome({"a": 0, "b": 0, "c": 1}, grades.scales) == "removed"
    assert vote.outcome({"a": 1, "b": 1, "c": 1}, grades.scales) == "promoted"
    assert vote.outcome({"a": None, "b": 1, "c": 0}, grades.scales) == "removed"
    assert vote.outcome({"a": None, "b": None, "c": 0}, grades.scales) == "abstained"
    assert vote.outcome({"a": None, "b": None, "c": None}, grades.scales) == "abstained"


def test_judges_that_say_yes_to_everything_or_guess_are_named_and_do_not_vote() -> None:
    grades, _ = judged(2000)
    rng = random.Random(3)
    grades = with_judge(grades, "yes", lambda pair: int(rng.random() < 0.97))
    grades = with_judge(grades, "coin", lambda pair: int(rng.random() < 0.5))
    vote = WeightedVote.fit(grades)
    assert vote is not None
    assert set(vote.down_weighted) == {"yes", "coin"}
    assert vote.outcome({"a": 0, "b": 0, "c": 0, "yes": 1, "coin": 1}, grades.scales) == "kept"
    assert vote.outcome({"a": 1, "b": 1, "c": 1, "yes": 1, "coin": 0}, grades.scales) == "promoted"


def test_answers_of_people_correct_judges_that_vouch_for_each_other() -> None:
    grades, truth = judged(2000)
    rng = random.Random(9)
    wrong = {pair: int(rng.random() < 0.3) for pair in truth}
    for name in ("x", "y", "z"):
        grades = with_judge(grades, name, lambda pair: wrong[pair] ^ (rng.random() < 0.02))
    alone = WeightedVote.fit(grades)
    audited = WeightedVote.fit(grades, {pair: int(grade > 0) for pair, grade in list(truth.items())[:300]})
    assert alone is not None
    assert audited is not None
    assert set(alone.describe()["voters"]) <= {"x", "y", "z"}
    assert set(audited.describe()["voters"]) == {"a", "c"}
    assert audited.describe()["audited"] == 300


def test_two_judges_cannot_vouch_for_themselves() -> None:
    grades, truth = judged(100)
    two = Grades(("a", "b"), grades.scales, grades.by_pair)
    assert estimate_reliability(two, relevance_votes(two, list(truth))) is None


def test_kappa_of_a_judge_with_itself_is_one_and_with_a_constant_unknown() -> None:
    by_pair = {("q", str(i)): {"a": i % 2, "b": i % 2, "c": 1 - i % 2, "d": 1} for i in range(10)}
    by_pair |= {("q", str(i)): {"d": 1, "e": 1} for i in range(10, 14)}
    grades = Grades(tuple("abcde"), dict.fromkeys("abcde", GradeScale.up_to(1)), by_pair)
    found = pairwise_kappa(grades, relevance_votes(grades, list(by_pair)))
    assert (found["a ~ b"], found["a ~ c"]) == (pytest.approx(1), pytest.approx(-1))
    assert found["a ~ d"] == pytest.approx(0)
    assert found["d ~ e"] is None
    assert found["a ~ e"] is None


def test_missing_grades_are_no_votes() -> None:
    grades, truth = judged(30)
    pair = next(iter(truth))
    thinned = Grades(grades.judges, grades.scales, {**grades.by_pair, pair: {"a": 1}})
    votes = relevance_votes(thinned, list(truth))
    assert np.isnan(votes[0]).tolist() == [False, True, True]


def trial(pairs: int = 800) -> RuleTrial:
    grades, truth = judged(pairs)
    found = RuleTrial(grades, truth, 2, Policy())
    by_query: dict[str, list[str]] = {}
    for query, doc in truth:
        by_query.setdefault(query, []).append(doc)
    found.add(
        make_set(q, [make_passage("yes")], [make_passage(d, given_id=d) for d in docs], query_id=q)
        for q, docs in by_query.items()
    )
    return found


def test_stricter_limit_on_losses_leaves_more_false_negatives() -> None:
    tried = trial()
    left = []
    for most in (0.05, 0.15, 0.9):
        rule, report = choose_rule(tried, RuleLimits(max_true_negatives_lost=most))
        estimates = tried.counts[rule].estimates()
        assert estimates["true_negatives_lost"]["value"] <= most  # type: ignore[operator]
        assert report["held_out"]["true_negatives_lost"]["value"] <= most + 0.05
        left.append(estimates["false_negative_rate_after"]["value"])
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]  # type: ignore[operator]


def test_precision_that_is_wanted_is_kept_to_on_held_out_queries() -> None:
    rule, report = choose_rule(trial(), RuleLimits(min_relabel_precision=0.9))
    assert rule.promote_by == "all"
    assert report["held_out"]["relabel_precision"]["value"] > 0.85


def test_limits_that_no_rule_can_keep_are_an_error() -> None:
    with pytest.raises(InputError, match="no decision rule"):
        choose_rule(trial(200), RuleLimits(max_true_negatives_lost=0.0, min_relabel_precision=1.0))


def test_choice_does_not_see_the_queries_that_are_left_out() -> None:
    tried = trial(200)
    without = frozenset({"q1"})
    before = tried.choose(RuleLimits(0.2), without=without)
    for counts in tried.counts.values():
        counts.count("q1", 0, "removed")
    assert tried.choose(RuleLimits(0.2), without=without) == before
    assert isinstance(before, DecisionRule)
