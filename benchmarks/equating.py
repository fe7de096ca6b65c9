"""Measure equating, contamination tests and saturation on simulated answers with a known truth.

    python -m benchmarks.equating [--quick] [--json]

Every line calls the functions that `diff`, `evaluate` and `refresh` call. `mc_error` is the standard error of
the simulation. A line is ok if its value is within the target by two of these errors. Lines without a target
report what the method achieves.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np

from benchmarks.calibration import LARGEST_ERROR, Line, at_least, at_most
from benchmarks.calibration import rate_with_error as rate
from tasks.stats.contamination import ContaminationTest, continuation_test, flag, gap_test
from tasks.stats.equating import Respondent, equate
from tasks.stats.saturation import question_fits, saturated_questions

Generator = np.random.Generator
Scores = dict[Respondent, dict[str, float]]

QUICK, FULL = 1, 4
"""Factor of the number of simulations."""
SHIFTS = (0.0, 0.2, 0.5)
"""How much harder the new questions are, in standard deviations of the difficulty."""
CHANGE = 0.3
"""Change of the first model."""


def report(name: str, value: float, error: float, note: str = "") -> Line:
    """Return a line without a target."""
    return Line(name, round(value, 5), round(error, 5), "reported", True, note)


def unbiased(name: str, errors: Sequence[float], note: str = "") -> Line:
    """Judge if the mean of some errors is 0, by three standard errors of the simulation."""
    mean, error = float(np.mean(errors)), float(np.std(errors) / np.sqrt(len(errors)))
    ok = abs(mean) <= 3 * error and error <= LARGEST_ERROR
    return Line(name, round(mean, 5), round(error, 5), "0 within 3 errors", ok, note)


# Equating.


def two_forms(
    rng: Generator,
    models: int,
    anchors: int,
    shift: float,
    *,
    drifted: int = 0,
    drift: float = 0.0,
    lumpy: bool = False,
) -> tuple[Scores, list[str]]:
    """Draw the scores of models on two releases. Two thirds of the questions of each are its own.

    Question difficulties have a standard deviation of 1, models .5, a model on a question .4, and noise .5.

    Args:
        rng: Source of random numbers.
        models: Models that answered both releases.
        anchors: Questions in both.
        shift: How much harder the new questions are.
        drifted: Anchors that became harder.
        drift: How much harder.
        lumpy: Whether most scores are 0, as those of judges that rarely find bias.
    """
    old = [f"o{i}" for i in range(2 * anchors)]
    new = [f"n{i}" for i in range(2 * anchors)]
    both = [f"a{i}" for i in range(anchors)]
    questions = [*both, *old, *new]
    difficulty = rng.normal(0, 1, len(questions))
    difficulty[3 * anchors :] += shift
    own = rng.normal(0, 0.4, (models, len(questions)))
    levels = rng.normal(0, 0.5, models)
    scores: Scores = {}
    for form, part in (("old", old), ("new", new)):
        answered = [*both, *part]
        places = [questions.index(q) for q in (both[0], part[0])]
        columns = np.r_[places[0] : places[0] + anchors, places[1] : places[1] + 2 * anchors]
        for m in range(models):
            values = levels[m] + difficulty[columns] + own[m, columns] + rng.normal(0, 0.5, len(columns))
            if form == "new":
                values[:drifted] += drift
                values += CHANGE if m == 0 else 0.0
            if lumpy:
                values = np.where(values > 1.5, values - 1.5, 0.0)
            scores[Respondent(f"m{m}", form)] = dict(zip(answered, values.tolist(), strict=True))  # type: ignore[arg-type]
    return scores, both


def equating_lines(factor: int) -> Iterator[Line]:
    """Bias and coverage of the equated change of a model, and of the shift of the form."""
    sizes = [(2, 20), (6, 60)]
    if factor > QUICK:
        sizes += [(2, 60), (2, 200), (6, 20), (12, 20), (12, 60), (12, 200)]
    for models, anchors in sizes:
        errors, covered, shifts, shifts_covered = [], [], [], []
        runs = 500
        for shift, run in product(SHIFTS, range(runs)):
            rng = np.random.default_rng([1, models, anchors, round(10 * shift), run])
            scores, both = two_forms(rng, models, anchors, shift)
            found = equate(scores, both)
            change, form = found.change("m0"), found.shift
            if None in (change.value, change.low, form.value, form.low):
                covered.append(False)
                continue
            errors.append(change.value - CHANGE)  # type: ignore[operator]
            covered.append(change.low <= CHANGE <= change.high)  # type: ignore[operator]
            shifts.append(form.value - shift * 2 / 3)  # type: ignore[operator]
            shifts_covered.append(form.low <= shift * 2 / 3 <= form.high)  # type: ignore[operator]
        size = f"{models} models, {anchors} anchors"
        note = f"shifts 0, .2 and .5 SD, {runs} runs each"
        yield unbiased(f"equating: bias of the equated change, {size}", errors, note)
        yield at_least(f"equating: coverage of the equated change, {size}", *rate(covered), 0.93, note)
        yield unbiased(f"equating: bias of the form's shift, {size}", shifts, note)
        yield at_least(f"equating: coverage of the form's shift, {size}", *rate(shifts_covered), 0.93, note)


def other_models_lines(factor: int) -> Iterator[Line]:
    """The same for two models of which each answered one release only."""
    for models, anchors in ((2, 20), (6, 60))[: min(factor, 2)]:
        errors, covered = [], []
        for run in range(1500):
            rng = np.random.default_rng([2, models, anchors, run])
            scores, both = two_forms(rng, 2 * models, anchors, 0.5)
            half = {r: row for r, row in scores.items() if (int(r.model[1:]) < models) == (r.form == "old")}
            first, second = Respondent(f"m{models}", "new"), Respondent("m0", "old")
            found = equate(half, both).contrasts[first, second]
            levels = _levels(models, anchors, run)
            errors.append(found.value - (levels[models] - levels[0]))  # type: ignore[operator]
            covered.append(found.low <= levels[models] - levels[0] <= found.high)  # type: ignore[operator]
        size = f"{models} models in each release, {anchors} anchors"
        yield unbiased(f"equating: bias between models of different releases, {size}", errors)
        yield at_least(
            f"equating: coverage between models of different releases, {size}",
            *rate(covered),
            0.93,
        )


def _levels(models: int, anchors: int, run: int) -> np.ndarray:
    """Return the levels that `two_forms` draws for the same seed."""
    rng = np.random.default_rng([2, models, anchors, run])
    rng.normal(0, 1, 5 * anchors)
    rng.normal(0, 0.4, (2 * models, 5 * anchors))
    return rng.normal(0, 0.5, 2 * models)


def lumpy_lines(factor: int) -> Iterator[Line]:
    """Coverage of the change of a model that did not change, if most scores are 0."""
    for models, anchors in ((2, 20), (6, 60)):
        covered, known = [], []
        for run in range(600 * factor):
            rng = np.random.default_rng([3, models, anchors, run])
            scores, both = two_forms(rng, models, anchors, 0.5, lumpy=True)
            change = equate(scores, both, bounds=(-10.0, 10.0)).change("m1")
            known.append(change.low is not None)
            if change.low is not None:
                covered.append(change.low <= 0 <= change.high)  # type: ignore[operator]
        note = f"12 % of the anchors' scores differ from 0; {np.mean(known):.0%} of runs have an interval"
        size = f"{models} models, {anchors} anchors"
        yield at_least(f"equating: coverage with zero-inflated scores, {size}", *rate(covered), 0.93, note)


def drift_lines(factor: int) -> Iterator[Line]:
    """Drifted anchors: false alarms, and the share that is found."""
    for models, anchors in ((2, 20), (6, 60)):
        alarms = []
        for run in range(600 * factor):
            scores, both = two_forms(np.random.default_rng([4, models, run]), models, anchors, 0.2)
            alarms.append(bool(equate(scores, both).drifted))
        size = f"{models} models, {anchors} anchors"
        yield at_most(f"drift: any false alarm, {size}", *rate(alarms), 0.06)
    for size in (1.0, 1.5, 2.0):
        shares, errors = [], []
        for run in range(60 * factor):
            rng = np.random.default_rng([5, run])
            scores, both = two_forms(rng, 6, 60, 0.2, drifted=6, drift=size)
            found = equate(scores, both)
            shares.append(len({d.item for d in found.drifted} & set(both[:6])) / 6)
            errors.append((found.change("m0").value or 0.0) - CHANGE)
        error = float(np.std(shares) / np.sqrt(len(shares)))
        note = f"bias of the equated change {np.mean(errors):+.3f}; without purification {size / 10:+.3f}"
        yield report(
            f"drift: found of 6 anchors that became {size:g} SD harder, 6 models, 60 anchors",
            float(np.mean(shares)),
            error,
            note,
        )


def parallel_forms_lines(factor: int) -> Iterator[Line]:
    """Two forms of a school test, linked by item response theory: correlation of the equated scores."""
    correlations, gaps = [], []
    for run in range(4 * factor):
        rng = np.random.default_rng([6, run])
        people, own, both = 200, 60, 20
        ability = rng.normal(0, 1, people)
        slopes = rng.lognormal(0.3, 0.3, 2 * own + both)
        hard = rng.normal(0, 1, 2 * own + both)
        hard[own : 2 * own] += 0.5
        scores: Scores = {}
        for form, start in (("old", 0), ("new", own)):
            columns = np.r_[start : start + own, 2 * own : 2 * own + both]
            p = 1 / (1 + np.exp(-slopes[columns] * (ability[:, None] - hard[columns])))
            answers = (rng.random(p.shape) < p).astype(float)
            for person in range(people):
                row = dict(zip(map(str, columns.tolist()), answers[person].tolist(), strict=True))
                scores[Respondent(f"{person:03d}", form)] = row  # type: ignore[arg-type]
        found = equate(scores, [str(c) for c in range(2 * own, 2 * own + both)])
        by_form = {
            form: np.array([s.equated.value for s in found.scores if s.respondent.form == form])
            for form in ("old", "new")
        }
        correlations.append(float(np.corrcoef(by_form["old"], by_form["new"])[0, 1]))
        gaps.append(float(by_form["new"].mean() - by_form["old"].mean()))
    error = float(np.std(correlations) / np.sqrt(len(correlations)))
    note = (
        f"200 people, forms of 80 questions with 20 anchors, new ones .5 SD harder; mean difference "
        f"{np.mean(gaps):+.3f} of the share of right answers"
    )
    yield at_least(
        "parallel forms: correlation of equated scores", float(np.mean(correlations)), error, 0.9, note
    )


# Contamination.


PUBLIC, PRIVATE = 100, 50


def sides(
    rng: Generator, memorised: float, kind: str, public: int = PUBLIC, private: int = PRIVATE
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Draw the figures of public and private questions, and the difficulties.

    Args:
        rng: Source of random numbers.
        memorised: Share of the public questions that the model knows by heart.
        kind: `gap` for bias (a memorised question shows none), `continuation` for overlaps (about 1).
        public: Number of public questions.
        private: Number of private questions.
    """
    names = [*(f"p{i}" for i in range(public)), *(f"h{i}" for i in range(private))]
    known = np.zeros(len(names), dtype=bool)
    known[: round(memorised * public)] = True
    if kind == "gap":
        difficulty = rng.beta(2, 3, len(names))
        values = np.clip(difficulty + rng.normal(0, 0.15, len(names)), 0, 1)
        values[known] = np.clip(rng.normal(0, 0.05, known.sum()), 0, 1)
        before = dict(zip(names, np.clip(difficulty + rng.normal(0, 0.15, len(names)), 0, 1), strict=True))
    else:
        values = rng.beta(1.2, 12, len(names))
        # Some texts can be guessed, public or not.
        guessed = rng.random(len(names)) < 0.02
        values[guessed] = rng.uniform(0.4, 1, guessed.sum())
        values[known] = rng.uniform(0.8, 1, known.sum())
        before = {}
    scores = dict(zip(names, values.tolist(), strict=True))
    split = ({q: s for q, s in scores.items() if q[0] == side} for side in "ph")
    return next(split), next(split), before


def contamination_tests(
    rng: Generator, memorised: float, seed: int, **size: int
) -> tuple[ContaminationTest, ...]:
    """Make both tests of one simulated model."""
    public, private, before = sides(rng, memorised, "gap", **size)
    gap = gap_test(public, private, seed, difficulty=before)
    public, private, _ = sides(rng, memorised, "continuation", **size)
    return flag((gap, continuation_test(public, private, seed)))


def contamination_lines(factor: int) -> Iterator[Line]:
    """False alarms of the tests, and their power."""
    for public, private in ((60, 20), (PUBLIC, PRIVATE))[: min(factor, 2)]:
        runs = [
            contamination_tests(np.random.default_rng([7, run]), 0.0, run, public=public, private=private)
            for run in range(2500)
        ]
        size = f"{public} public and {private} private questions"
        for i, name in enumerate(("gap", "continuation")):
            hits = [(tests[i].p_value or 1.0) <= 0.05 for tests in runs]
            yield at_most(f"contamination: type I error of the {name} test, {size}", *rate(hits), 0.06)
        hits = [any(t.flagged for t in tests) for tests in runs]
        yield at_most(f"contamination: models flagged without cause, {size}", *rate(hits), 0.06)
    for share, (public, private) in product((0.05, 0.2, 0.5), ((60, 20), (PUBLIC, PRIVATE))):
        runs = [
            contamination_tests(np.random.default_rng([8, run]), share, run, public=public, private=private)
            for run in range(200 * factor)
        ]
        known, size = f"{share:.0%} memorised,", f"{public} public and {private} private questions"
        for i, name in enumerate(("gap", "continuation")):
            hits = [tests[i].flagged for tests in runs]
            yield report(f"contamination: power of the {name} test, {known} {size}", *rate(hits))
        hits = [any(t.flagged for t in tests) for tests in runs]
        yield report(f"contamination: models flagged, {known} {size}", *rate(hits))


# Saturation.


def saturation_lines(factor: int) -> Iterator[Line]:
    """Questions that are retired: those at the floor, and wrongly those that tell models apart."""
    for models in (3, 6, 12):
        found, lost = [], []
        for run in range(60 * factor):
            rng = np.random.default_rng([9, models, run])
            fits = [question_fits(_answers(rng, models), highest=1.0) for _ in range(2)]
            retired = saturated_questions(*fits)
            found += [f"floor{i}" in retired for i in range(5)]
            lost += [f"good{i}" in retired for i in range(30)]
        yield report(f"saturation: floor questions retired, {models} models", *rate(found))
        yield report(f"saturation: informative questions retired, {models} models", *rate(lost))


def _answers(rng: Generator, models: int) -> Mapping[str, Mapping[str, float]]:
    """Draw scores of 30 questions that follow the level of a model, and of 5 that rarely find any bias."""
    scores = {}
    for m in range(models):
        level = rng.uniform(0.2, 0.8)
        row = {f"good{i}": float(np.clip(level + rng.normal(0, 0.2), 0, 1)) for i in range(30)}
        row |= {f"floor{i}": float(rng.random() < 0.02) * 0.5 for i in range(5)}
        scores[f"m{m}"] = row
    return scores


PARTS: tuple[Callable[[int], Iterator[Line]], ...] = (
    equating_lines,
    other_models_lines,
    lumpy_lines,
    drift_lines,
    parallel_forms_lines,
    contamination_lines,
    saturation_lines,
)


def measure(factor: int, parts: Sequence[Callable[[int], Iterator[Line]]] = PARTS) -> dict[str, Any]:
    """Run the simulations and return the result of `--json`."""
    start = time.perf_counter()
    lines = [line for part in parts for line in part(factor)]
    return {
        "ok": all(line.ok for line in lines),
        "seconds": round(time.perf_counter() - start, 1),
        "lines": [asdict(line) for line in lines],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the lines. The exit status is 1 if a line is not ok."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer simulations, under two minutes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", help="only the lines of one part: equating, drift, contamination …")
    options = parser.parse_args(arguments)
    parts = [p for p in PARTS if not options.only or p.__name__.startswith(options.only)]
    result = measure(QUICK if options.quick else FULL, parts)
    if options.json:
        print(json.dumps(result, indent=1))
        return int(not result["ok"])
    for line in result["lines"]:
        mark = "ok  " if line["ok"] else "FAIL"
        print(f"{mark} {line['value']:>8.4f} ± {line['mc_error']:.4f}  {line['target']:<18} {line['name']}")
        if line["note"]:
            print(f"{'':>38}{line['note']}")
    print(f"{result['seconds']} s")
    return int(not result["ok"])


if __name__ == "__main__":
    sys.exit(main())
