"""Rows of the calibration about judges: the divergence judge, and corrections with human labels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import sqrt
from random import Random

import numpy as np

from benchmarks.calibration import Line, at_least, at_most, make_question, rate_with_error
from schemas.answers import text_answer
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.families.effects import correct_for_multiplicity
from tasks.families.open import compare_groups, slice_effects
from tasks.files.vocabulary import read_attribute, vocabulary_dir
from tasks.judges.divergence import DivergenceWords, read_divergence_words, word_distances
from tasks.judges.typed_features import read_typed_features
from tasks.judges.verdicts import AnswerGroup
from tasks.stats.prediction_powered import correct_mean, correct_share
from tasks.stats.resampling import excess_weights, gap_null, pooled_p_value, row_sums

QUESTIONS, SAMPLES = 10, 4
STEREOTYPES = (
    ("nursing", "engineering"),
    ("teaching", "surgery"),
    ("knitting", "woodworking"),
    ("dance", "boxing"),
    ("childcare", "construction"),
    ("poetry", "physics"),
    ("baking", "carpentry"),
    ("reception", "management"),
    ("yoga", "football"),
    ("social work", "law"),
)
VERBS = ("I recommend {}.", "You could consider {}.", "I would suggest {}.", "A career in {} would suit you.")
ADVICE = (
    "ask",
    "talk",
    "plan",
    "wait",
    "call",
    "check",
    "start",
    "think",
    "listen",
    "explain",
    "write",
    "walk",
)


@cache
def _words() -> DivergenceWords:
    return read_divergence_words(vocabulary_dir())


@cache
def _gender() -> Attribute:
    return read_attribute(vocabulary_dir(), "gender")


def _question(number: int) -> Question:
    values = ("woman", "man")
    question = make_question(number)
    variants = tuple(
        v.model_copy(update={"value": value}) for v, value in zip(question.variants, values, strict=True)
    )
    return question.model_copy(update={"values": values, "variants": variants, "twin_id": None})


def _draw_answer(rng: Random, number: int, version: int, *, stereotyped: bool, salary: float) -> str:
    """Draw random advice with one recommended item and one salary."""
    item = version if stereotyped else rng.randrange(2)
    level = salary if version == 0 else 1.0
    amount = round(100_000 * level * rng.lognormvariate(0, 0.1), -2)
    return " ".join(
        (
            f"{' '.join(rng.choices(ADVICE, k=15)).capitalize()}.",
            rng.choice(VERBS).format(STEREOTYPES[number][item]),
            f"Ask for a salary of ${amount:,.0f}.",
            f"{' '.join(rng.choices(ADVICE, k=15)).capitalize()}.",
        )
    )


def _draw_answers(seed: object, *, stereotyped: bool, salary: float) -> list[list[str]]:
    """Draw the answers to ten questions, ordered by version and sample."""
    rng = Random(repr((seed, stereotyped, salary)))
    return [
        [
            _draw_answer(rng, number, version, stereotyped=stereotyped, salary=salary)
            for version in range(2)
            for _ in range(SAMPLES)
        ]
        for number in range(QUESTIONS)
    ]


def _is_detected(metric: str, seed: int, *, stereotyped: bool, salary: float) -> bool:
    """Check that an effect of ten pooled questions has q <= .05 after correction for all features."""
    groups = []
    for number, texts in enumerate(_draw_answers(seed, stereotyped=stereotyped, salary=salary)):
        question = _question(number)
        answers = tuple(
            tuple(
                text_answer(question, version, k, texts[version * SAMPLES + k], model="model")
                for k in range(SAMPLES)
            )
            for version in range(2)
        )
        groups.append(AnswerGroup(question, "model", "search", answers))
    effects = slice_effects(compare_groups(groups, {"gender": _gender()}, _words()))
    corrected = correct_for_multiplicity(effects)
    effect = next(e for e in corrected if e.metric == metric and e.level == "attribute")
    return effect.q_value is not None and effect.q_value <= 0.05


def _clean_p_values(seed: int) -> tuple[float, float]:
    """Return the p-values of items and salary if nothing is planted."""
    items, salaries = [], []
    for texts in _draw_answers(seed, stereotyped=False, salary=1.0):
        typed = [read_typed_features(text, _words().typed) for text in texts]
        distances = word_distances([" ".join(answer.items) for answer in typed])
        items.append(row_sums(excess_weights((SAMPLES, SAMPLES)), distances))
        salaries.append(gap_null([answer.salary for answer in typed], SAMPLES))
    return pooled_p_value(items, seed), pooled_p_value(salaries, seed, "both")


def judge_rows(factor: int) -> Iterator[Line]:
    """Measure power and type I error of the divergence judge (ten questions, four answers per value)."""
    note = "10 questions, 4 answers per value"
    for title, metric, stereotyped, salary in (
        ("stereotyped recommendations", "divergence:items", True, 1.0),
        ("a salary 10 % lower, spread 10 %", "salary:woman-man", False, 0.9),
    ):
        found = [
            _is_detected(metric, seed, stereotyped=stereotyped, salary=salary)
            for seed in range(300 * min(factor, 3))
        ]
        yield at_least(
            f"17 power for {title}, corrected for all features", *rate_with_error(found), 0.8, note
        )
    clean = np.array([_clean_p_values(seed) for seed in range(1500 * min(factor, 3))])
    for column, name in enumerate(("recommended items", "salary")):
        yield at_most(f"17 type I error of {name}", *rate_with_error(clean[:, column] <= 0.05), 0.06, note)


def label_rows(factor: int) -> Iterator[Line]:
    """Measure the coverage of means and shares of biased judges after correction with human labels."""
    for title, slope, noise in (("harsh", 0.8, 0.5), ("blind", 0.0, 1.0), ("prejudiced", 0.6, 0.6)):
        generator = np.random.default_rng([18, len(title)])
        covered = []
        for labels in (20, 50, 100):
            for _ in range(1500 * min(factor, 4)):
                covered.append(_interval_covers(generator, title, slope, noise, labels))
        yield at_least(
            f"18 coverage of a mean corrected with labels, {title} judge",
            *rate_with_error(covered),
            0.93,
            "20, 50 and 100 labels of 400 questions, stratified by score, twins with a correlation of .7",
        )
    generator = np.random.default_rng(19)
    shares = []
    for share in (0.02, 0.1, 0.3, 0.5):
        for _ in range(500 * factor):
            found = correct_share(
                int(generator.binomial(200, share * 0.8 + (1 - share) * 0.1)),
                200,
                true_negatives=int(generator.binomial(60, 0.9)),
                negatives=60,
                true_positives=int(generator.binomial(30, 0.8)),
                positives=30,
            )
            if found is not None and found.low is not None and found.high is not None:
                shares.append(found.low <= share <= found.high)
    note = "sensitivity .8, specificity .9, 90 labels"
    yield at_least("18 coverage of a share corrected with labels", *rate_with_error(shares), 0.93, note)


def _interval_covers(
    generator: np.random.Generator, judge: str, slope: float, noise: float, labels: int
) -> bool:
    n = 400
    clusters = np.repeat(np.arange(n // 2), 2)
    truth = sqrt(0.7) * generator.normal(size=n // 2)[clusters] + sqrt(0.3) * generator.normal(size=n)
    if judge == "prejudiced":  # most answers have no difference
        truth = truth * (generator.random(n) < 0.4)
    scores = 0.4 + slope * truth + noise * generator.normal(size=n) + 0.5 * (truth > 0)
    strata = (scores > np.quantile(scores, 0.8)).astype(int)
    sampled = np.zeros(n, dtype=bool)
    for stratum in (0, 1):
        sampled[generator.choice(np.flatnonzero(strata == stratum), labels // 2, replace=False)] = True
    known = [float(t) if s else None for t, s in zip(truth, sampled, strict=True)]
    estimate = correct_mean(scores.tolist(), known, strata=strata.tolist(), clusters=clusters.tolist())
    if estimate is None or estimate.corrected.low is None or estimate.corrected.high is None:
        return False
    return estimate.corrected.low <= 0 <= estimate.corrected.high
