"""Measure the error rates, coverage and power of the statistics of a release on simulated tables.

    python -m benchmarks.calibration [--quick] [--json]

A test is measured by its share of false positives if nothing is planted, an interval by its coverage. Each
line calls the functions that a build calls. `mc_error` is the standard error of the simulation. A line is ok
if its value is within the target by two of these errors, and the error is at most .01. Lines without
simulation have an error of 0. The note of a line without a value names the missing part.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Literal

import numpy as np

from schemas.answers import JUDGEMENTS, Effect, Judgement, Score
from schemas.errors import InputError
from schemas.question import QUESTIONS, Question, Variant
from schemas.recipe import FAMILIES, Recipe, Refresh
from tasks.expand import expand_family
from tasks.families.controls import missing_control_effects
from tasks.families.decision import ScenarioAnswer, fit_mixed_model
from tasks.families.effects import VerdictRule, correct_for_multiplicity
from tasks.files.vocabulary import read_attributes, vocabulary_dir
from tasks.judges.divergence import SETUP
from tasks.judges.panel import SCREEN
from tasks.judges.verdicts import AnswerGroup, make_judgement
from tasks.judges.words import read_group_words
from tasks.measure.verdicts import confirm_questions, shrinkage
from tasks.questions.binding import ControlSource, Draft, draw_controls
from tasks.release import CONTROLS as CONTROL_ROWS
from tasks.release import open_release
from tasks.release.fitness import SIGNIFICANT, holdout_test, topic_of_false_positives
from tasks.stats.clusters import twin_families
from tasks.stats.comparisons import controls_to_confirm, matched_rank_test
from tasks.stats.hypothesis_tests import q_values_by_family, t_test_against_zero
from tasks.stats.intervals import MIN_CLUSTERS, SHARE_BOUNDS, Bounds, mean_interval
from tasks.stats.length_control import controlled_interval, hold_length_equal
from tasks.stats.power import smallest_detectable_excess
from tasks.stats.resampling import excess_weights, pooled_p_value, row_sums
from tasks.stats.shares import share_with_interval
from tasks.stats.slice_change import flag_changes, measure_change
from tests.material.echoes import ECHOES, leak

Generator = np.random.Generator

LARGEST_ERROR = 0.01
QUICK, FULL = 1, 8
"""Factor of the number of simulations."""


@dataclass(frozen=True)
class Line:
    """One measured property with its target."""

    name: str
    """Starts with the number of the row in docs/methods.md."""
    value: float | None
    mc_error: float | None
    target: str
    ok: bool
    note: str = ""


def at_most(name: str, value: float, error: float, limit: float, note: str = "") -> Line:
    """Compare a value with an upper limit."""
    ok = value + 2 * error <= limit and error <= LARGEST_ERROR
    return Line(name, round(value, 5), round(error, 5), f"<= {limit:g}", ok, note)


def at_least(name: str, value: float, error: float, limit: float, note: str = "") -> Line:
    """Compare a value with a lower limit."""
    ok = value - 2 * error >= limit and error <= LARGEST_ERROR
    return Line(name, round(value, 5), round(error, 5), f">= {limit:g}", ok, note)


def between(name: str, value: float, error: float, low: float, high: float, note: str = "") -> Line:
    """Compare a value with a range."""
    ok = low <= value - 2 * error and value + 2 * error <= high and error <= LARGEST_ERROR
    return Line(name, round(value, 5), round(error, 5), f"{low:g} to {high:g}", ok, note)


def rate_with_error(hits: Sequence[bool] | np.ndarray) -> tuple[float, float]:
    """Return a share and its standard error."""
    share = float(np.mean(hits))
    return share, sqrt(max(share * (1 - share), 1 / len(hits) ** 2) / len(hits))


# Row 1: questions against controls with the same number of versions.


def draw_null_fitness(
    generator: Generator, judge: str, versions: int, n: int, errors: float = 0.03
) -> list[float]:
    """Draw fitness without bias. The judge errs in a share of groups, or of pairs of versions."""
    pairs = 1 if judge == "group" else versions * (versions - 1) // 2
    errs = generator.random((n, pairs)) < errors
    fitness: list[float] = (errs * generator.beta(2, 5, (n, pairs))).max(axis=1).tolist()
    return fitness


def row_1(factor: int) -> Iterator[Line]:
    """False positives of a slice, 20 controls."""
    runs = 1000 * factor
    for judge in ("group", "pair"):
        for versions in (2, 3, 6, 12):
            generator = np.random.default_rng([1, versions, judge == "pair"])
            hits = []
            for questions in (8, 20, 40, 100):
                for seed in range(runs):
                    scores = {versions: draw_null_fitness(generator, judge, versions, questions)}
                    floor = {versions: draw_null_fitness(generator, judge, versions, 20)}
                    p = matched_rank_test(scores, floor, seed).p_value
                    hits.append(p is not None and p <= 0.05)
            yield at_most(
                f"1 type I error of a slice, {versions} versions, judge errs per {judge}",
                *rate_with_error(hits),
                0.06,
                "8, 20, 40 and 100 questions, 20 controls with as many versions",
            )


# Row 4: coverage.

Draw = Callable[[Generator, int], np.ndarray]
SHAPES: dict[str, tuple[Draw, float, Bounds | None]] = {
    "normal scores": (lambda g, n: g.normal(size=n), 0.0, None),
    "uniform scores": (lambda g, n: g.random(n), 0.5, None),
    "exponential scores": (lambda g, n: g.exponential(size=n), 1.0, None),
    "beta(.5, 2) scores": (lambda g, n: g.beta(0.5, 2, n), 0.2, SHARE_BOUNDS),
    "85 % zeros": (lambda g, n: (g.random(n) > 0.85) * g.beta(2, 5, n), 0.15 * 2 / 7, SHARE_BOUNDS),
    "50 % zeros": (lambda g, n: (g.random(n) > 0.5) * g.beta(2, 5, n), 0.5 * 2 / 7, SHARE_BOUNDS),
}
SIZES = (MIN_CLUSTERS, 8, 10, 20, 50, 100)


def row_4(factor: int) -> Iterator[Line]:
    """Coverage of means at the number of clusters with the lowest coverage, and of shares."""
    zero_width = 0
    for shape, (draw, mean, bounds) in SHAPES.items():
        lumpy = "zeros" in shape
        generator = np.random.default_rng([4, len(shape)])
        rates = {}
        for n in SIZES:
            covered = []
            for _ in range(600 * factor if lumpy else (40_000 if n <= 20 else 8000) * min(factor, 3)):
                interval = mean_interval(draw(generator, n), bounds=bounds)
                if interval.low is not None and interval.high is not None:
                    covered.append(interval.low <= mean <= interval.high)
                    zero_width += interval.high <= interval.low
            rates[n] = rate_with_error(covered)
        span = ", ".join(f"{rate:.3f} ({n})" for n, (rate, _) in rates.items())
        lowest, highest = min(rates.values()), max(rates.values())
        name = f"4 coverage of a mean, {shape}"
        yield at_least(f"{name}, lowest", *lowest, 0.93, span)
        if not lumpy:
            yield at_most(f"{name}, highest", *highest, 0.97, span)
    yield at_most("4 intervals of zero width", float(zero_width), 0.0, 0.0)
    yield at_least("4 coverage of a share, lowest", _share_coverage(), 0.0, 0.93, "exact enumeration")


def _share_coverage() -> float:
    from scipy.stats import binom

    lowest = 1.0
    for n in (1, 3, 5, 10, 20, 62, 200):
        intervals = [share_with_interval(hits, n) for hits in range(n + 1)]
        for share in np.linspace(0.005, 0.995, 199):
            covered = [
                i is not None and i.low is not None and i.high is not None and i.low <= share <= i.high
                for i in intervals
            ]
            lowest = min(lowest, float(binom.pmf(np.arange(n + 1), n, share)[covered].sum()))
    return lowest


# Row 5: twins.


def make_question(number: int, *, implicit: bool = False, versions: int = 2) -> Question:
    """Return a question whose twin has the other framing."""
    values = tuple(f"v{i}" for i in range(versions))
    return Question(
        id=f"q{number}{'i' if implicit else 'e'}",
        family="open",
        attribute="gender",
        framing="implicit" if implicit else "explicit",
        control="none",
        superdomain="work",
        domain="pay",
        topic="raise",
        language="en",
        template=f"question {number}",
        values=values,
        variants=tuple(Variant(index=i, value=v, text=v, slots=()) for i, v in enumerate(values)),
        options=(),
        origin="seed",
        operator=None,
        parent_id=None,
        twin_id=f"q{number}{'e' if implicit else 'i'}",
        template_id=None,
        composition=None,
        round=0,
        label="accepted",
        fitness=None,
        holdout_effect=None,
        changed_in=None,
    )


def row_5(factor: int) -> Iterator[Line]:
    """Coverage of a mean over twins with a correlation of .8."""
    generator = np.random.default_rng(5)
    worst: tuple[float, float] = (1.0, 0.0)
    for pairs in (MIN_CLUSTERS, 15, 40):
        questions = [make_question(i, implicit=implicit) for i in range(pairs) for implicit in (False, True)]
        family = twin_families(questions)
        clusters = [family[q.id] for q in questions]
        covered = []
        for _ in range(2500 * factor):
            common = np.repeat(generator.normal(size=pairs), 2)
            scores = sqrt(0.8) * common + sqrt(0.2) * generator.normal(size=2 * pairs)
            interval = mean_interval(scores, clusters=clusters)
            covered.append(interval.low is not None and interval.low <= 0 <= (interval.high or 0))
        worst = min(worst, rate_with_error(covered))
    yield at_least("5 coverage of a mean over twins, lowest", *worst, 0.93)


# Row 6: length control.


def row_6(factor: int) -> Iterator[Line]:
    """Coverage and width of means with the length of the answers held equal."""
    from scipy.special import expit

    ratios = []
    for length in (0.0, 1.5):
        covered, printed, below, runs = [], 0, 0, 0
        generator = np.random.default_rng([6, int(length)])
        for n in (15, 30, 100):
            for _ in range(500 * factor):
                d = np.concatenate([generator.gamma(2, 12, n), generator.gamma(2, 10, n)])
                scale = float(np.sqrt(np.mean(d**2)))
                treated = np.repeat([1.0, 0.0], n)
                p = expit(-1 + 0.5 * treated + length * np.tanh(d / scale))
                y = generator.beta(2 * p, 2 * (1 - p))
                reference = float(d[n:].mean())
                strata = ["treated"] * n + ["control"] * n
                control = hold_length_equal(y, d, strata, reference=reference)
                interval = controlled_interval(control, range(n))
                runs += 1
                below += interval.value < 0
                if interval.low is None or interval.high is None:
                    continue
                printed += 1
                truth = float(expit(-0.5 + length * np.tanh(reference / scale)))
                covered.append(interval.low <= truth <= interval.high)
                plain = mean_interval(y[:n])
                if length == 0 and plain.low is not None and plain.high is not None:
                    ratios.append((interval.high - interval.low) / (plain.high - plain.low))
        effect = "an effect" if length else "no effect"
        yield at_least(
            f"6 coverage with length held equal, length has {effect}",
            *rate_with_error(covered),
            0.93,
            f"measured in {printed / runs:.0%} of runs, below 0 in {below / runs:.0%}",
        )
    error = float(np.std(ratios) / sqrt(len(ratios)))
    yield at_most(
        "6 width relative to the raw mean, length has no effect", float(np.mean(ratios)), error, 1.3
    )


# Row 7: power.


def row_7(factor: int) -> Iterator[Line]:
    """Power at the printed smallest detectable effect, by the test of a slice."""
    for samples, questions, versions in ((3, 24, 2), (3, 12, 3)):
        effect = smallest_detectable_excess(samples, questions, versions=versions)
        sizes = (samples,) * versions
        weights = excess_weights(sizes)
        i, j = np.triu_indices(sum(sizes), 1)
        generator = np.random.default_rng([7, versions])
        hits = []
        for seed in range(2000 if factor == QUICK else 6000):
            scores = generator.normal(size=(questions, sum(sizes)))
            scores[:, :samples] += effect
            distances = np.abs(scores[:, i] - scores[:, j])
            hits.append(pooled_p_value([row_sums(weights, d) for d in distances], seed) <= 0.05)
        name = f"7 power at the printed effect, {questions} questions, {versions} values"
        yield between(name, *rate_with_error(hits), 0.75, 0.85, f"effect {effect} SD")


# Row 8: shrinkage.


def _judgement(question: str, phase: Literal["search", "holdout"], excess: float) -> Judgement:
    return make_judgement(
        SETUP,
        AnswerGroup(make_question(0), "model", phase, ()),
        order=(0, 1),
        scores=(Score(criterion="excess", value=excess, reasoning=""),),
        fitness=max(0.0, excess),
        p_value=None,
    )


def row_8(factor: int) -> Iterator[Line]:
    """Share of builds without bias whose hold-out score is reported as above 0."""
    generator = np.random.default_rng(8)
    questions = [make_question(i).model_copy(update={"twin_id": None}) for i in range(30)]
    template = _judgement(questions[0].id, "holdout", 0.0)
    above = []
    for _ in range(150 * factor):
        verdicts = [
            template.model_copy(
                update={
                    "id": f"{q.id}{phase}",
                    "question_id": q.id,
                    "phase": phase,
                    "scores": (Score(criterion="excess", value=excess, reasoning=""),),
                }
            )
            for phase in ("search", "holdout")
            for q, excess in zip(questions, generator.normal(0, 0.05, 30).tolist(), strict=True)
        ]
        (effect,) = [e for e in shrinkage(questions, verdicts, SCREEN) if e.metric == "holdout_fitness"]
        above.append(effect.low is not None and effect.low > 0)
    name = "8 hold-out score above 0 without bias, divergence judge"
    yield at_most(name, *rate_with_error(above), 0.06, "nominal rate .025")


# Row 9: answers within questions, scenarios of the mixed model.


def row_9(factor: int) -> Iterator[Line]:
    """Type I error at an intra-class correlation of .5, and with few scenarios."""
    generator = np.random.default_rng(9)
    hits = []
    for questions in (4, 10, 30):
        clusters = np.repeat(np.arange(questions), 10)
        for _ in range(1200 * factor):
            scores = generator.normal(size=questions)[clusters] + generator.normal(size=len(clusters))
            hits.append(t_test_against_zero(scores.tolist(), clusters=clusters.tolist()).p_value <= 0.05)
    yield at_most("9 type I error of the t-test, answers within questions", *rate_with_error(hits), 0.06)
    for scenarios in (3, 5, 10):
        hits = []
        for _ in range(9000 * factor):
            slopes = generator.normal(0, 0.5, scenarios)
            decisions = [
                ScenarioAnswer(
                    str(s),
                    {"gender": value},
                    float(slopes[s] * (value == "woman") + generator.normal(0, 0.3)),
                )
                for s in range(scenarios)
                for value in ("man", "woman")
                for _ in range(2)
            ]
            coefficient = fit_mixed_model(decisions, {"gender": "man"})["gender", "woman"]
            hits.append(coefficient.p_value <= 0.05)
        name = f"9 type I error of the mixed model, {scenarios} scenarios"
        yield at_most(name, *rate_with_error(hits), 0.06)
    smallest = min(t_test_against_zero([0.5] * n).p_value for n in (2, 10, 2000))
    yield Line("9 smallest possible p-value", smallest, 0.0, "> 0", smallest > 0)


# Row 10: models.


def row_10(factor: int) -> Iterator[Line]:
    """Change of one model's q-values beside eleven others."""
    generator = np.random.default_rng(10)
    alone = [0.0008, 0.004, *generator.random(8).tolist()]
    others = generator.random(110).tolist()
    models = ["one"] * 10 + [f"other {i // 10}" for i in range(110)]
    own = q_values_by_family(alone, models[:10])
    beside = q_values_by_family(alone + others, models)[:10]
    change = max(abs((a or 0) - (b or 0)) for a, b in zip(own, beside, strict=True))
    yield at_most("10 change of a model's q-values beside eleven others", change, 0.0, 0.0)


# Row 11: refresh.


def row_11(factor: int) -> Iterator[Line]:
    """Share of pairs of equal models in which a refresh reports that an effect moved."""
    generator = np.random.default_rng(11)
    hits = []
    names = [f"q{i}" for i in range(40)]
    for _ in range(1500 * factor):
        changes = []
        for _ in range(4):
            true = generator.normal(size=40)
            old = dict(zip(names, (true + generator.normal(size=40)).tolist(), strict=True))
            new = dict(zip(names, (true + generator.normal(size=40)).tolist(), strict=True))
            changes.append(measure_change(old, new, margin=Refresh.model_fields["margin"].default))
        hits.append(bool(flag_changes(changes)))
    yield at_most(
        "11 equal models that moved, four effects",
        *rate_with_error(hits),
        0.05,
        "the test and the bar of `refresh`",
    )


# Rows 2 and 3: confirmed questions and the first screen of the report.


PLANTED, UNPLANTED, CONTROLS = 30, 30, 50
FDR = 0.05
TOPICS = ("work", "health", "housing", "school")


@dataclass(frozen=True)
class SimulatedWorld:
    """Questions that a search accepted, and the judge's behaviour on their fresh answers."""

    planted: int
    empty: int
    effect: float = 0.6
    """Mean fitness of a planted question if the judge sees its difference."""
    sensitivity: float = 0.9
    versions: int = 2
    prejudice: bool = False
    """If true, the judge finds a difference in most groups of the first topic, controls included."""


WORLDS = {
    "many plants": SimulatedWorld(PLANTED, UNPLANTED),
    "one plant": SimulatedWorld(1, 39),
    "small everywhere": SimulatedWorld(40, 0, effect=0.3, sensitivity=0.35),
    "nothing": SimulatedWorld(0, 40),
    "nothing, six values": SimulatedWorld(0, 40, versions=6),
    "prejudiced judge": SimulatedWorld(0, 40, prejudice=True),
}


def judge_world(
    world: SimulatedWorld, generator: Generator, *, controls: int = CONTROLS, errors: float = 0.03
) -> tuple[dict[str, Question], list[Judgement], set[str]]:
    """Return questions and controls with verdicts on fresh answers, and the ids of planted questions."""
    count = world.planted + world.empty + controls
    scores = np.asarray(draw_null_fitness(generator, "pair", world.versions, count, errors))
    seen = generator.random(world.planted) < world.sensitivity
    scores[: world.planted] = np.where(
        seen, np.clip(generator.normal(world.effect, 0.15, world.planted), 0.05, 1), scores[: world.planted]
    )
    questions, verdicts = {}, []
    template = _judgement("q0e", "holdout", 0.0).model_copy(update={"fitness_form": "boolean", "judge": "j"})
    for n in range(count):
        topic = TOPICS[n % len(TOPICS)]
        if world.prejudice and topic == TOPICS[0] and generator.random() < 0.65:
            scores[n] = generator.beta(5, 5)
        control = n >= world.planted + world.empty
        question = make_question(n, versions=world.versions).model_copy(
            update={
                "twin_id": None,
                "superdomain": topic,
                "control": "placebo" if control else "none",
                "label": "control" if control else "accepted",
            }
        )
        questions[question.id] = question
        verdicts.append(
            template.model_copy(
                update={"id": f"j{n}", "question_id": question.id, "fitness": float(scores[n])}
            )
        )
    return questions, verdicts, set(list(questions)[: world.planted])


@dataclass(frozen=True)
class FirstScreen:
    """Statements of the first screen of a report."""

    differs: bool
    confirmed: int
    false: int
    topic: str | None


def simulate_first_screen(world: SimulatedWorld, generator: Generator) -> FirstScreen:
    """Simulate one release of a world and return its first screen."""
    questions, verdicts, truth = judge_world(world, generator)
    confirmed = confirm_questions(questions, verdicts, "boolean", FDR)
    labelled = [
        q.model_copy(update={"label": "confirmed" if q.id in confirmed else "candidate"})
        for q in questions.values()
        if q.control == "none"
    ]
    controls = [q for q in questions.values() if q.control != "none"]
    fresh = holdout_test(labelled, controls, verdicts)
    topic = topic_of_false_positives(controls, verdicts)
    flagged = topic is not None and topic.p_value <= SIGNIFICANT
    return FirstScreen(
        differs=fresh is not None and fresh.differs,
        confirmed=len(confirmed),
        false=len(confirmed - truth),
        topic=topic.superdomain if topic is not None and flagged else None,
    )


EXPECTED: dict[str, Callable[[FirstScreen], bool]] = {
    "many plants": lambda s: s.differs and s.confirmed > 0 and s.topic is None,
    "one plant": lambda s: not s.differs and s.confirmed <= 1 and s.topic is None,
    "small everywhere": lambda s: s.differs and s.topic is None,
    "nothing": lambda s: not s.differs and not s.confirmed and s.topic is None,
    "nothing, six values": lambda s: not s.differs and not s.confirmed and s.topic is None,
    "prejudiced judge": lambda s: s.topic == TOPICS[0],
}
REQUIRED_SHARE = 0.7
"""Required share of releases with a correct first screen, per world. Tests at .05 err in some releases, and a
single false positive among the controls can prevent all confirmations."""


def row_2(factor: int) -> Iterator[Line]:
    """Precision and recall of confirmed questions."""
    generator = np.random.default_rng(2)
    precision, recall = [], []
    for _ in range(1800 * factor):
        questions, verdicts, truth = judge_world(WORLDS["many plants"], generator)
        confirmed = confirm_questions(questions, verdicts, "boolean", FDR)
        precision.append(len(confirmed & truth) / len(confirmed) if confirmed else 1.0)
        recall.append(len(confirmed & truth) / PLANTED)
    runs = len(precision)
    note = f"{PLANTED} planted and {UNPLANTED} empty questions, {CONTROLS} controls, {runs} seeds"
    for name, shares, limit in (
        ("2 share of confirmed questions that are planted", precision, 1 - FDR),
        ("2 planted questions that are confirmed, d >= .6", recall, 0.5),
    ):
        yield at_least(name, float(np.mean(shares)), float(np.std(shares) / sqrt(runs)), limit, note)
    nothing = [
        bool(confirm_questions(*judge_world(WORLDS["nothing"], generator)[:2], form="boolean", fdr=FDR))
        for _ in range(500 * factor)
    ]
    yield at_most("2 builds without bias with a confirmed question", *rate_with_error(nothing), FDR)
    needed = controls_to_confirm(FDR)
    yield Line("2 controls that `plan` requires", float(needed), 0.0, "19", needed == 19, f"FDR {FDR}")


def row_3(factor: int) -> Iterator[Line]:
    """Six worlds with different, correct first screens."""
    shares = {}
    for name, world in WORLDS.items():
        generator = np.random.default_rng([3, len(name)])
        screens = [EXPECTED[name](simulate_first_screen(world, generator)) for _ in range(16 * factor)]
        shares[name] = float(np.mean(screens))
    right = sum(share >= REQUIRED_SHARE for share in shares.values())
    note = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    yield Line("3 worlds with a correct first screen, of 6", float(right), 0.0, ">= 6", right >= 6, note)


# Rows 12 to 16.


def row_12(factor: int) -> Iterator[Line]:
    """One verdict per effect, from one test."""
    generator = np.random.default_rng(12)
    effects = []
    for n in range(400):
        p = float(generator.random()) if n % 4 else None
        value = float(generator.normal())
        effects.append(
            Effect(
                id=f"e{n}",
                level="attribute",
                name="gender",
                family="decision",
                attribute="gender",
                model=f"m{n % 3}",
                metric="favourable_contrast:woman",
                unit="share",
                value=value,
                low=value - 1,
                high=value + 1,
                p_value=p,
                q_value=None,
                n=int(generator.integers(3, 50)),
                compared="woman",
            )
        )
    judged = VerdictRule(FDR, {"decision": 0.2}).apply(correct_for_multiplicity(effects))
    words = ("differs", "no_difference_found", "equivalent", "not_measured")
    wrong = sum(e.verdict not in words for e in judged)
    wrong += sum((e.verdict == "differs") != (e.q_value is not None and e.q_value <= FDR) for e in judged)
    yield at_most("12 effects without exactly one verdict, or against their q", float(wrong), 0.0, 0.0)
    pages = vocabulary_dir() / "report"
    bold = sum("outside the floor" in page.read_text(encoding="utf-8") for page in pages.rglob("*.html"))
    yield at_most("12 pages that call an effect outside the floor", float(bold), 0.0, 0.0)


def row_13(factor: int) -> Iterator[Line]:
    """Detection of a judge with false positives concentrated in one topic."""
    generator = np.random.default_rng(13)
    prejudiced, honest = [], []
    for _ in range(40 * factor):
        prejudiced.append(simulate_first_screen(WORLDS["prejudiced judge"], generator).topic == TOPICS[0])
        honest.append(simulate_first_screen(WORLDS["nothing"], generator).topic is not None)
    share, error = rate_with_error(prejudiced)
    note = f"{CONTROLS} controls in {len(TOPICS)} topics"
    yield Line(
        "13 prejudiced judges whose topic is flagged",
        round(share, 5),
        round(error, 5),
        ">= 0.8",
        share - 2 * error >= 0.8,
        note,
    )
    rate, error = rate_with_error(honest)
    yield Line(
        "13 honest judges with a flagged topic",
        round(rate, 5),
        round(error, 5),
        "<= 0.06",
        rate <= 0.06 + 2 * error,
        note,
    )


def row_14(factor: int) -> Iterator[Line]:
    """The gap of six values and that of their A/A controls, for an unbiased model with sampling noise."""
    generator = np.random.default_rng(14)
    runs, samples = 3000 * factor, 4
    gaps, floors = (
        np.ptp(generator.binomial(samples, 0.5, (runs, versions)) / samples, axis=1)
        for versions in (6, versions_of_a_a(6))
    )
    difference = float(gaps.mean() - floors.mean())
    error = float(np.sqrt(gaps.var() / runs + floors.var() / runs))
    yield Line(
        "14 gap of six values minus that of their A/A controls, no bias",
        round(difference, 5),
        round(error, 5),
        "0",
        abs(difference) <= 2 * error and error <= LARGEST_ERROR,
        f"A/A controls with {versions_of_a_a(6)} versions; with 2 it would be .35",
    )


def versions_of_a_a(versions: int) -> int:
    """Return the number of versions of the A/A control that a build draws for a question."""
    (attribute,) = read_attributes(vocabulary_dir(), ["race"])
    few = attribute.model_copy(update={"values": attribute.values[:versions]})
    text = "My neighbour, {noun}, asked for help. What now?"
    draft = Draft(text, "decision", "home", "home", "help", "template")
    (placebo,) = read_attributes(vocabulary_dir(), ["placebo"])
    source = ControlSource(draft, None, few)
    (control,) = draw_controls([source], a_a=1, placebo=0, placebo_attribute=placebo, seed=0)
    return len(control.variants)


FAMILY_ATTRIBUTES = {
    "completion": "beauty", "task_accuracy": "names_gender", "dialect": "dialect-de",
    "autocomplete": "groups_religion", "persona": "persona", "description_pair": "youth",
}  # fmt: skip
"""Attribute by family, for families that cannot use gender."""


def row_15(factor: int) -> Iterator[Line]:
    """Controls of every family and framing, and values of the placebo."""
    (placebo,) = read_attributes(vocabulary_dir(), ["placebo"])
    count = len(placebo.values)
    yield Line("15 placebo values", float(count), 0.0, ">= 24", count >= 24, "data/attributes/placebo.yaml")
    lacking, needs_file = [], []
    for family in FAMILIES:
        recipe = Recipe.model_validate(
            {
                "name": "controls",
                "attributes": [FAMILY_ATTRIBUTES.get(family, "gender")],
                "models": {"targets": ["openai:m"]},
                "families": {family: {"questions": 12, "framings": ["explicit", "implicit"]}},
            }
        )
        try:
            questions = expand_family(recipe, vocabulary_dir(), family)
        except InputError:  # the family reads the user's files
            needs_file.append(family)
            continue
        rows = missing_control_effects(questions, ["m"], recipe.controls)
        explained = {(e.name, e.framing) for e in rows if e.reason}
        for framing in sorted({q.framing for q in questions if q.control == "none"}):
            for kind in ("a_a", "placebo"):
                drawn = any(q.control == kind and q.framing == framing for q in questions)
                if not drawn and (kind, framing) not in explained:
                    lacking.append(f"{family}, {framing}, {kind}")
    note = ", ".join([*lacking, *(f"{family} needs a file" for family in needs_file)])
    name = "15 families and framings without controls or a reason"
    yield at_most(name, float(len(lacking)), 0.0, 0.0, note)


LEAK_ANSWERS = 1200
"""Answers per value in the leak test."""


def row_16(factor: int) -> Iterator[Line]:
    """Accuracy of a classifier on masked answers of an unbiased target that echoes the group."""
    words = read_group_words(vocabulary_dir())
    leaks = {a.id: leak(a, words, LEAK_ANSWERS) for a in read_attributes(vocabulary_dir(), sorted(ECHOES))}
    worst = max(leaks, key=lambda name: leaks[name])
    answers = LEAK_ANSWERS * len(ECHOES[worst])
    yield at_most(
        "16 accuracy of a classifier on masked answers above chance, worst attribute",
        max(0.0, leaks[worst]),
        sqrt(0.25 / answers) if leaks[worst] > 0 else 0.0,
        0.05,
        ", ".join(f"{name} {value:+.3f}" for name, value in leaks.items()),
    )


def row_17(factor: int) -> Iterator[Line]:
    """Power of the divergence judge."""
    from benchmarks.calibration_judges import judge_rows

    yield from judge_rows(factor)


def row_18(factor: int) -> Iterator[Line]:
    """Coverage of estimates that are corrected with human labels."""
    from benchmarks.calibration_judges import label_rows

    yield from label_rows(factor)


def row_19(factor: int) -> Iterator[Line]:
    """Contrasts: power, type I error, coverage, and agreement of test and interval."""
    from benchmarks.calibration_contrasts import contrast_rows

    yield from contrast_rows(factor)


def row_20(factor: int) -> Iterator[Line]:
    """Coverage of agreement, rank correlation, shared difference and spread."""
    from benchmarks.calibration_statistics import statistic_rows

    yield from statistic_rows(factor)


# Whole builds over HTTP (full run only).


BUILDS = {"planted": "many plants", "clean": "nothing", "prejudiced judge": "prejudiced judge"}
"""Worlds of `benchmarks.world_builds` by their name in the lines."""
HOME = "CALIBRATION_HOME"
"""Environment variable: a folder that keeps the whole builds, such as that of `world_pictures --home`."""


def whole_builds(factor: int) -> Iterator[Line]:
    """Build releases of a planted world, a clean world, and one with a prejudiced judge, and check them."""
    from benchmarks.world_builds import PREJUDICE, build_world

    if factor == QUICK:
        return
    with ExitStack() as stack:
        folder = os.environ.get(HOME) or stack.enter_context(tempfile.TemporaryDirectory())
        shown = {title: build_world(world, Path(folder)) for title, world in BUILDS.items()}
        screens = {title: _read_first_screen(Path(found["release"])) for title, found in shown.items()}
    worse = {
        title: [f for f in found["findings"] if f["verdict"] == "differs" and f["contrast"] < 0]
        for title, found in shown.items()
    }
    named = sum(f["value"] == "woman" for f in worse["planted"])
    yield Line("2 whole build, planted: findings that name the planted value", named, 0.0, ">= 1", named >= 1)
    confirmed = screens["planted"][0]
    yield Line("2 whole build, planted: confirmed questions", confirmed, 0.0, ">= 1", confirmed >= 1)
    for title in ("clean", "prejudiced judge"):
        confirmed = screens[title][0]
        yield Line(f"2 whole build, {title}: confirmed questions", confirmed, 0.0, "<= 0", confirmed <= 0)
    found = len(worse["clean"])
    yield Line("12 whole build, clean: findings that differ", found, 0.0, "<= 0", found <= 0)
    topic = screens["prejudiced judge"][1]
    yield Line(
        "13 whole build, prejudiced judge: topic that is flagged", float(topic == PREJUDICE), 0.0, "1",
        topic == PREJUDICE, str(topic),
    )  # fmt: skip


def _read_first_screen(release: Path) -> tuple[int, str | None]:
    """Return the confirmed questions of a release, and the topic of its judges' false positives."""
    contents = open_release(release).contents
    questions, controls = contents.rows(QUESTIONS), contents.rows(CONTROL_ROWS)
    topic = topic_of_false_positives(controls, contents.rows(JUDGEMENTS))
    flagged = topic is not None and topic.p_value <= SIGNIFICANT
    confirmed = sum(q.label == "confirmed" for q in questions)
    return confirmed, topic.superdomain if topic is not None and flagged else None


ROWS: tuple[Callable[[int], Iterator[Line]], ...] = (
    row_1, row_2, row_3, row_4, row_5, row_6, row_7, row_8, row_9, row_10, row_11, row_12, row_13, row_14,
    row_15, row_16, row_17, row_18, row_19, row_20,
    whole_builds,
)  # fmt: skip
NAMES = tuple(row.__name__ for row in ROWS)
SLOWEST = ("whole_builds", "row_4", "row_19", "row_18", "row_17")
"""Rows that begin first, so that both processes end at about the same time."""


def measure_row(job: tuple[str, int]) -> tuple[list[Line], float]:
    """Measure a row (name, factor), and return its lines and CPU seconds."""
    started = _cpu_seconds()
    lines = list(ROWS[NAMES.index(job[0])](job[1]))
    return lines, _cpu_seconds() - started


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of its ended children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all lines. The exit status is 1 if a line is not ok."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer simulations, under four minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rows", nargs="+", choices=NAMES, default=NAMES, help="measure only these rows")
    parser.add_argument("--processes", type=int, default=2, help="default: 2")
    options = parser.parse_args(arguments)
    factor = QUICK if options.quick else FULL
    started = time.monotonic()
    with ProcessPoolExecutor(min(options.processes, os.cpu_count() or 1)) as pool:
        ordered = sorted(options.rows, key=lambda name: name not in SLOWEST)
        jobs = {name: pool.submit(measure_row, (name, factor)) for name in ordered}
        parts = {name: jobs[name].result() for name in options.rows}
    lines = sorted(
        (line for found, _ in parts.values() for line in found), key=lambda line: int(line.name.split()[0])
    )
    for name, (_, seconds) in parts.items():
        print(f"{name}: {seconds:.0f} CPU s", file=sys.stderr)
    if options.json:
        print(json.dumps({"lines": [asdict(line) for line in lines]}, indent=1))
    else:
        for line in lines:
            value = "-" if line.value is None else f"{line.value:.4g}"
            error = "-" if line.mc_error is None else f"{line.mc_error:.3g}"
            cells = [line.name, value, error, line.target, "yes" if line.ok else "no", line.note]
            print(f"| {' | '.join(cells)} |")
    print(f"{time.monotonic() - started:.0f} s, {Path(__file__).name}", file=sys.stderr)
    return int(not all(line.ok for line in lines))


if __name__ == "__main__":
    sys.exit(main())
